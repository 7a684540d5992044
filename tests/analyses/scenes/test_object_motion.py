"""End-point errors and paths of objects against painted and drawn clips whose motion is known."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from analyses.metrics.end_point import EndPointError, end_point_error
from analyses.scenes.object_motion import motion_error, object_motion
from store.clips.clip import Clip
from store.errors import InvalidInputError, MissingOpenCVError
from store.scenes.prompt import DIRECTIONS, SHAPES
from store.scenes.scene import make_scene
from store.scenes.texture import COLOURS

pytest.importorskip("cv2")


def test_end_point_error_is_the_mean_distance_after_image_0() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.uniform(0, 40, (2, 5, 7, 2))
    visibility = rng.random((5, 7)) < 0.6
    pairs = [(t, n) for t in range(1, 5) for n in range(7) if visibility[t, n]]
    errors = [math.dist(predicted[pair], truth[pair]) for pair in pairs]
    moved = [math.dist(truth[t, n], truth[0, n]) for t, n in pairs]
    truth[2][~visibility[2]] = predicted[3][~visibility[3]] = np.nan
    found = end_point_error(torch.from_numpy(predicted), truth, visibility)
    assert found.pixels == pytest.approx(np.mean(errors))
    assert found.relative == pytest.approx(np.sum(errors) / np.sum(moved))


def test_extremes_of_the_end_point_error() -> None:
    truth = np.zeros((3, 2, 2))
    truth[..., 0] = np.arange(3)[:, None] * 4
    assert end_point_error(truth, truth) == EndPointError(0, 0)
    assert end_point_error(0 * truth, truth) == EndPointError(6, 1)
    assert end_point_error(-truth, truth) == EndPointError(12, 2)
    still = end_point_error(truth, 0 * truth)
    assert still.pixels == 6
    assert math.isnan(still.relative)
    assert str(end_point_error(0.75 * truth, truth)) == "1.50 px, 25 % of the motion"
    hidden = end_point_error(truth, truth, np.array([[True, True], [False, False], [False, False]]))
    assert math.isnan(hidden.pixels)
    assert math.isnan(hidden.relative)


def test_end_point_error_refuses_what_cannot_be_compared() -> None:
    tracks = np.ones((3, 2, 2))
    unknown = tracks.copy()
    unknown[0, 1] = np.nan
    not_finite = (
        "a pair that counts is not finite, or its point is not known in image 0. Mark it as hidden in every image."
    )
    cases = [
        (
            (tracks, tracks[:2]),
            "predicted and tracks need the same shape (image, point, 2); got (3, 2, 2) and (2, 2, 2).",
        ),
        ((tracks[:1], tracks[:1]), "an end-point error needs at least 2 images and 1 point; got 1 and 2."),
        ((tracks[:, :0], tracks[:, :0]), "an end-point error needs at least 2 images and 1 point; got 3 and 0."),
        ((tracks, unknown), not_finite),
        ((tracks * np.inf, tracks), not_finite),
    ]
    for arguments, message in cases:
        with pytest.raises(InvalidInputError) as error:
            end_point_error(*arguments)
        assert str(error.value) == message


def paint(colour: str, steps: list[tuple[float, float]], shown: tuple[int, ...] | None = None) -> np.ndarray:
    """(image, 40, 48, 3): a flat disc on blue that starts at (20.5, 18.5)."""
    y, x = np.mgrid[:40, :48] + 0.5
    places = np.cumsum([(20.5, 18.5), *steps], axis=0)
    clip = np.empty((len(places), 40, 48, 3), dtype=np.uint8)
    clip[:] = np.round(255 * np.asarray(COLOURS["blue"]))
    for image, (centre_x, centre_y) in enumerate(places):
        if shown is None or image in shown:
            clip[image, np.hypot(x - centre_x, y - centre_y) < 7] = np.round(255 * np.asarray(COLOURS[colour]))
    return clip


STEPS = [(3, 0), (3, 1), (2, 2), (0, 3), (-1, 3)]
PATH = np.cumsum([(0, 0), *STEPS], axis=0)


def test_the_path_of_a_painted_disc_is_exact() -> None:
    found = object_motion(paint("red", STEPS))
    np.testing.assert_allclose(found.path, PATH, atol=1e-9)
    assert (found.colour, found.size, found.shown.all(), found.found) == ("red", (40, 48), True, True)
    assert repr(found) == f"ObjectMotion(red {found.shape}, +7.0 px in x and +9.0 px in y)"


def test_images_without_the_object_are_bridged() -> None:
    found = object_motion(paint("red", [(2, 1)] * 5, shown=(1, 2, 3, 4)))
    np.testing.assert_allclose(found.path, [(0, 0), (0, 0), (2, 1), (4, 2), (6, 3), (6, 3)], atol=1e-9)
    assert found.shown.tolist() == [False, True, True, True, True, False]


def test_nothing_but_background_has_no_path() -> None:
    found = object_motion(paint("blue", STEPS))
    assert not found.found
    assert found.path.shape == (6, 2)
    assert np.isnan(found.path).all()
    assert repr(found) == "ObjectMotion(no object seen in 6 images)"
    error = motion_error(found, paint("red", STEPS))
    assert math.isnan(error.pixels)
    assert math.isnan(error.relative)


def test_the_object_of_a_colour_is_chosen_and_otherwise_the_largest() -> None:
    clip = paint("red", STEPS)
    clip[:, 30:36, 40:46] = np.round(255 * np.asarray(COLOURS["yellow"]))
    assert object_motion(clip).colour == "red"
    yellow = object_motion(clip, colour="yellow")
    assert yellow.colour == "yellow"
    np.testing.assert_array_equal(yellow.path, 0)
    assert object_motion(clip, colour="green").colour == "red"


def test_motion_error_compares_paths_whatever_the_objects() -> None:
    reference = paint("red", STEPS)
    assert motion_error(paint("green", STEPS), Clip(reference, fps=8)).pixels == pytest.approx(0, abs=1e-9)
    away = [(-x, -y) for x, y in STEPS]
    assert motion_error(paint("green", away), object_motion(reference)).relative == pytest.approx(2)
    still = motion_error(paint("green", [(0, 0)] * 5), reference)
    assert still.relative == pytest.approx(1)
    assert still.pixels == pytest.approx(np.linalg.norm(PATH[1:], axis=1).mean())


def test_drawn_scenes_move_as_their_tracks_say() -> None:
    """The object's tracks are those that move, since the camera stands still."""
    rng = np.random.default_rng(9)
    errors = []
    for seed in range(10):
        colour, background = rng.permutation(list(COLOURS))[:2]
        prompt = f"a {colour} {rng.choice(SHAPES)} moves {rng.choice(DIRECTIONS)} over {background} clouds"
        clip = make_scene(seed, prompt=prompt, cell=1.0)
        assert clip.tracks is not None
        own = np.linalg.norm(clip.tracks[-1] - clip.tracks[0], axis=-1) > 0.01
        centre = clip.tracks[:, own].mean(1)
        path = object_motion(clip, colour=str(colour)).path
        errors.append(end_point_error(path[:, None], (centre - centre[0])[:, None]).relative)
    assert np.mean(errors) < 0.08
    assert np.max(errors) < 0.25


def test_scenes_of_one_seed_move_alike_and_other_directions_do_not() -> None:
    reference, same, other = (
        object_motion(make_scene(4, prompt=prompt))
        for prompt in (
            "a red disc moves left over white dots",
            "a green star moves left over cyan waves",
            "a green star moves down over cyan waves",
        )
    )
    assert motion_error(same, reference).relative < 0.15
    assert motion_error(other, reference).relative > 1


def test_paths_that_cannot_be_compared_are_refused() -> None:
    clip = paint("red", STEPS)
    cases = [
        (
            lambda: motion_error(clip[:4], clip),
            "the generated clip has 4 images and its reference 6. Paths are compared image by image: cut the "
            "longer clip.",
        ),
        (
            lambda: motion_error(clip[:, :, :40], clip),
            "the generated clip is 40 x 40 px and its reference 40 x 48 px (height x width). Resize one of them: "
            "Clip.resized.",
        ),
        (lambda: object_motion(clip[:1]), "the clip has 1 image; motion needs at least 2."),
        (
            lambda: object_motion(clip[0]),
            "images must be uint8 of shape (image, y, x, 3); got uint8 of shape (40, 48, 3).",
        ),
        (
            lambda: object_motion(clip, colour="purpel"),
            f"unknown colour 'purpel'. Known: {', '.join(map(repr, COLOURS))}.",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InvalidInputError) as error:
            call()
        assert str(error.value) == message


def test_opencv_that_is_not_installed_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingOpenCVError):
        object_motion(paint("red", STEPS))
