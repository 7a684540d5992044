"""Scenes: the truth they carry is checked against their pictures and against independent arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from store import scene
from store.errors import InvalidInputError
from store.scene import (
    DIRECTIONS,
    FIRST_TRAINING_SEED,
    SHAPES,
    _Layer,
    _Motion,
    _render,
    _track,
    direction_word,
    make_scene,
)
from store.texture import BACKGROUND_PATTERNS, COLOURS, Texture


def still(images: int) -> _Motion:
    return _Motion(np.full((images, 2), 8.0), np.zeros(images), np.ones(images))


def texture(name: str, seed: int = 0) -> Texture:
    return Texture.draw(np.random.default_rng(seed), name, "clouds", 1.0)


def test_the_same_seed_gives_the_same_clip_and_another_seed_another() -> None:
    first, again, other = make_scene(5), make_scene(5), make_scene(6)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.tracks, again.tracks)
    assert first.prompt == again.prompt
    assert (first.images != other.images).any()


def test_the_picture_does_not_depend_on_how_many_images_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_scene(5).images
    monkeypatch.setattr(scene, "_SAMPLES_AT_ONCE", 2 * 64 * 64)
    np.testing.assert_array_equal(make_scene(5).images, whole)


def test_shapes_follow_the_arguments() -> None:
    clip = make_scene(1, 7, 40, 56)
    assert clip.images.shape == (7, 40, 56, 3)
    assert clip.tracks.shape == (7, 10 * 14, 2)
    np.testing.assert_array_equal(clip.tracks[0, :2], [[2.0, 2.0], [6.0, 2.0]])
    assert clip.visibility[0].all()


def test_visible_points_look_alike_over_time_and_wrong_tracks_do_not() -> None:
    def difference(shift: float) -> float:
        errors = []
        for seed in range(20):
            clip = make_scene(seed)
            for image in range(1, 5):
                seen = clip.visibility[image]
                x, y = np.clip(np.floor(clip.tracks[image, seen] + shift), 0, 31).astype(int).T
                x0, y0 = np.floor(clip.tracks[0, seen]).astype(int).T
                errors.append(np.abs(clip.images[image, y, x].astype(float) - clip.images[0, y0, x0]).mean())
        return float(np.mean(errors))

    # Two roundings to whole pixels leave a difference even for exact tracks; three pixels off is three times worse.
    assert difference(0.0) < 25
    assert difference(3.0) > 2 * difference(0.0)


def test_a_front_object_hides_what_it_passes_over() -> None:
    moving = _Motion(np.stack([np.linspace(-6, 22, 8), np.full(8, 8.0)], -1), np.zeros(8), np.ones(8))
    layers = [_Layer(moving, texture("red"), "square", 4.0), _Layer(still(8), texture("blue", 1), None, 1.0)]
    points = np.array([[8.5, 8.5], [8.5, 15.5]])
    tracks, visible = _track(layers, points, 16, 16)
    np.testing.assert_array_equal(tracks[:, 0], np.broadcast_to(points[0], (8, 2)))
    covered = np.abs(8.5 - moving.position[:, 0]) < 0.85 * 4
    np.testing.assert_array_equal(visible[:, 0], ~covered)
    assert covered.any()
    assert visible[:, 1].all()
    red = _render(layers, 8, 16, 16)[:, 8, 8].astype(int)
    assert (red[covered][:, 0] > red[covered][:, 2]).all()
    assert (red[~covered][:, 0] < red[~covered][:, 2]).all()


def test_a_point_on_an_object_turns_and_grows_with_it() -> None:
    motion = _Motion(np.full((2, 2), 16.0), np.array([0.0, np.pi / 2]), np.array([1.0, 2.0]))
    layers = [_Layer(motion, texture("green"), "disc", 6.0), _Layer(still(2), texture("grey"), None, 1.0)]
    tracks, visible = _track(layers, np.array([[19.0, 16.0]]), 32, 32)
    np.testing.assert_allclose(tracks[1, 0], [16.0, 22.0])
    assert visible.all()


def test_points_that_leave_the_image_are_hidden() -> None:
    for seed in range(10):
        clip = make_scene(seed)
        outside = ((clip.tracks < 0) | (clip.tracks >= 32)).any(-1)
        assert not clip.visibility[outside].any()


def test_nothing_moves_is_right_for_at_most_half_of_the_visible_points() -> None:
    right = seen = 0
    for seed in range(200):
        clip = make_scene(seed)
        error = np.linalg.norm((clip.tracks[1:] - clip.tracks[:1]) / 4, axis=-1)
        right += (clip.visibility[1:] & (error < 1)).sum()
        seen += clip.visibility[1:].sum()
    assert 0.35 < right / seen <= 0.5


def test_the_prompt_names_what_is_there() -> None:
    prompts = [make_scene(seed).prompt for seed in range(300)]
    text = " ".join(prompts)
    for word in (*COLOURS, *SHAPES, *BACKGROUND_PATTERNS, *DIRECTIONS, "zooms in", "zooms out", "turns left"):
        assert word in text
    assert all(len(prompt.split()) <= 32 for prompt in prompts)


@pytest.mark.parametrize(
    ("velocity", "word"),
    [((1, 0), "right"), ((1, 1), "down right"), ((0, 1), "down"), ((-1, -0.9), "up left"), ((0.1, -2), "up")],
)
def test_directions_are_as_seen_on_the_screen(velocity: tuple[float, float], word: str) -> None:
    assert direction_word(np.array(velocity)) == word


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^seed must not be negative; got -1\.$"):
        make_scene(-1)
    with pytest.raises(InvalidInputError, match=r"got 0 images of 32 x 32\.$"):
        make_scene(0, images=0)


def test_training_seeds_lie_far_above_those_of_tests() -> None:
    assert FIRST_TRAINING_SEED == 10_000_000
