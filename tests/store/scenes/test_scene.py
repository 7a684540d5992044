"""Scenes: the truth they carry is checked against their pictures and against independent arithmetic."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.scenes import rendering
from store.scenes.layers import Layer, Motion, inside_shape
from store.scenes.prompt import DIRECTIONS, SHAPES, TEXTURES, direction_word, parse_prompt
from store.scenes.rendering import render, track
from store.scenes.scene import FIRST_TRAINING_SEED, make_scene
from store.scenes.texture import COLOURS, PATTERNS, Texture


def still(images: int) -> Motion:
    return Motion(np.full((images, 2), 8.0), np.zeros(images), np.ones(images))


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
    monkeypatch.setattr(rendering, "_SAMPLES_AT_ONCE", 4 * 80 * 80)
    np.testing.assert_array_equal(make_scene(5).images, whole)


def test_shapes_follow_the_arguments() -> None:
    assert make_scene(1).images.shape == (6, 40, 40, 3)
    clip = make_scene(1, 7, 44, 56)
    assert clip.images.shape == (7, 44, 56, 3)
    assert clip.tracks.shape == (7, 11 * 14, 2)
    np.testing.assert_array_equal(clip.tracks[0, :2], [[2.0, 2.0], [6.0, 2.0]])
    assert clip.visibility[0].all()


def test_visible_points_look_alike_over_time_and_wrong_tracks_do_not() -> None:
    def difference(shift: float) -> float:
        errors = []
        for seed in range(20):
            clip = make_scene(seed)
            for image in range(1, 6):
                seen = clip.visibility[image]
                x, y = np.clip(np.floor(clip.tracks[image, seen] + shift), 0, 39).astype(int).T
                x0, y0 = np.floor(clip.tracks[0, seen]).astype(int).T
                errors.append(np.abs(clip.images[image, y, x].astype(float) - clip.images[0, y0, x0]).mean())
        return float(np.mean(errors))

    # Two roundings to whole pixels leave a difference even for exact tracks; three pixels off is three times worse.
    assert difference(0.0) < 25
    assert difference(3.0) > 2 * difference(0.0)


def test_a_front_object_hides_what_it_passes_over() -> None:
    moving = Motion(np.stack([np.linspace(-6, 22, 8), np.full(8, 8.0)], -1), np.zeros(8), np.ones(8))
    layers = [Layer(moving, texture("red"), "square", 4.0), Layer(still(8), texture("blue", 1), None, 1.0)]
    points = np.array([[8.5, 8.5], [8.5, 15.5]])
    tracks, visible = track(layers, points, 16, 16)
    np.testing.assert_array_equal(tracks[:, 0], np.broadcast_to(points[0], (8, 2)))
    covered = np.abs(8.5 - moving.position[:, 0]) < 0.85 * 4
    np.testing.assert_array_equal(visible[:, 0], ~covered)
    assert covered.any()
    assert visible[:, 1].all()
    red = render(layers, 8, 16, 16)[:, 8, 8].astype(int)
    assert (red[covered][:, 0] > red[covered][:, 2]).all()
    assert (red[~covered][:, 0] < red[~covered][:, 2]).all()


def test_a_point_on_an_object_turns_and_grows_with_it() -> None:
    motion = Motion(np.full((2, 2), 16.0), np.array([0.0, np.pi / 2]), np.array([1.0, 2.0]))
    layers = [Layer(motion, texture("green"), "disc", 6.0), Layer(still(2), texture("grey"), None, 1.0)]
    tracks, visible = track(layers, np.array([[19.0, 16.0]]), 32, 32)
    np.testing.assert_allclose(tracks[1, 0], [16.0, 22.0])
    assert visible.all()


def test_points_that_leave_the_image_are_hidden() -> None:
    for seed in range(10):
        clip = make_scene(seed)
        outside = ((clip.tracks < 0) | (clip.tracks >= 40)).any(-1)
        assert not clip.visibility[outside].any()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Black images, for what depends on tracks and prompts alone."""
    monkeypatch.setattr("store.scenes.scene.render", lambda layers, *size: np.zeros((*size, 3), np.uint8))


@pytest.mark.usefixtures("undrawn")
def test_nothing_moves_is_right_for_about_half_of_the_visible_points() -> None:
    right = seen = 0
    for seed in range(200):
        clip = make_scene(seed)
        error = np.linalg.norm((clip.tracks[1:] - clip.tracks[:1]) / 4, axis=-1)
        right += (clip.visibility[1:] & (error < 1)).sum()
        seen += clip.visibility[1:].sum()
    assert 0.35 < right / seen <= 0.5


@pytest.mark.usefixtures("undrawn")
def test_the_prompt_names_what_is_there() -> None:
    prompts = [make_scene(seed).prompt for seed in range(300)]
    text = " ".join(prompts)
    for word in (*COLOURS, *SHAPES, *TEXTURES, *PATTERNS, *DIRECTIONS, "zooms in", "zooms out", "turns left"):
        assert word in text


@pytest.mark.parametrize(
    ("velocity", "word"),
    [((1, 0), "right"), ((1, 1), "down right"), ((0, 1), "down"), ((-1, -0.9), "up left"), ((0.1, -2), "up")],
)
def test_directions_are_as_seen_on_the_screen(velocity: tuple[float, float], word: str) -> None:
    assert direction_word(np.array(velocity)) == word


def test_shapes_have_their_areas_upright_around_the_origin() -> None:
    areas = {
        "disc": 0.9 * np.pi,
        "square": (2 * 0.85) ** 2,
        "ring": 0.8 * np.pi,
        "cross": 4 * 2 * 0.42 - 4 * 0.42**2,
        "triangle": (0.65 + 1.1) ** 2 / np.sqrt(3),
        "star": np.pi * (0.78**2 + 0.27**2 / 2),
    }
    assert set(areas) == set(SHAPES)
    axis = (np.arange(600) + 0.5) / 600 * 2.4 - 1.2
    grid = np.stack(np.meshgrid(axis, axis), -1)
    for shape, area in areas.items():
        inside = inside_shape(shape, grid)
        assert inside.mean() * 2.4**2 == pytest.approx(area, rel=0.01), shape
        np.testing.assert_array_equal(inside, inside[:, ::-1], err_msg=shape)
    # a triangle stands on its base, a star on two of its five points
    assert inside_shape("triangle", np.array([[0.8, 0.6], [0.8, -0.6], [0.0, -1.0]])).tolist() == [True, False, True]
    assert inside_shape("star", np.array([[0.0, -1.0], [0.0, 1.0]])).tolist() == [True, False]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^unknown shape 'hexagon'. Known: 'disc', 'square', 'triangle', "):
        inside_shape("hexagon", np.zeros((1, 2)))
    with pytest.raises(InvalidInputError, match=r"^seed must not be negative; got -1\.$"):
        make_scene(-1)
    with pytest.raises(InvalidInputError, match=r"got 0 images of 40 x 40\.$"):
        make_scene(0, images=0)


def test_training_seeds_lie_far_above_those_of_tests() -> None:
    assert FIRST_TRAINING_SEED == 10_000_000


OLD = "a366291fd5d32810"  # of the code before open prompts and paths; published figures stand on these scenes


def test_old_calls_draw_the_scenes_that_they_always_drew() -> None:
    digest = hashlib.sha256()
    clips = [make_scene(seed) for seed in range(30)]
    for clip in clips:
        assert clip.tracks is not None
        digest.update(clip.images.tobytes())
        digest.update(clip.tracks.tobytes())
        digest.update((clip.prompt or "").encode())
    digest.update(make_scene(5, prompt="a red disc moves left over blue stripes").images.tobytes())
    assert digest.hexdigest()[:16] == OLD


def test_leaving_a_part_open_changes_the_prompt_alone() -> None:
    named, left = make_scene(8), make_scene(8, leave_open=["motion", "shape", "pattern", "camera"])
    assert np.array_equal(named.images, left.images)
    assert left.prompt != named.prompt
    assert not {"pans", "zooms", "turns", *SHAPES} & set((left.prompt or "").split())


def test_the_seed_draws_what_a_prompt_leaves_open() -> None:
    said = "a red object over blue while the camera moves"
    clips = [make_scene(seed, prompt=said) for seed in range(12)]
    assert {clip.prompt for clip in clips} == {said}
    assert np.array_equal(clips[3].images, make_scene(3, prompt=said).images)
    ends = np.array([mean_motion(clip) for clip in clips])
    assert len({direction_word(end) for end in ends}) > 3


def mean_motion(clip: Clip) -> np.ndarray:
    """(x, y) pixels of the background's points from the first to the last image."""
    assert clip.tracks is not None
    return np.median(clip.tracks[-1] - clip.tracks[0], axis=0)


@pytest.mark.parametrize("path", ["curved", "accelerating"])
def test_paths_keep_their_direction_and_are_not_straight_at_constant_speed(path: str) -> None:
    for seed in range(6):
        said = "a red disc moves left over blue stripes"
        straight, other = make_scene(seed, 9, prompt=said), make_scene(seed, 9, prompt=said, path=path)
        assert straight.tracks is not None
        assert other.tracks is not None
        start = straight.tracks[0]
        moving = np.abs(straight.tracks[-1] - start).max(-1) > 3
        both = moving & (np.abs(other.tracks[-1] - other.tracks[0]).max(-1) > 3)
        assert both.any()
        steps = np.diff(other.tracks[:, both].mean(1), axis=0)
        ends = steps.sum(0)
        assert direction_word(ends) in ("left", "up left", "down left")
        lengths, headings = np.hypot(*steps.T), np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        if path == "curved":
            assert 0.9 < abs(headings[-1] - headings[0]) < 2.4
            assert lengths.max() < 1.25 * lengths.min()
        else:
            assert lengths.max() > 1.5 * lengths.min()


def test_an_unknown_path_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"unknown path 'zigzag'. Known: 'straight', 'curved'"):
        make_scene(0, path="zigzag")


SAID = "a red disc moves left over blue stripes while the camera pans up"


def test_without_spread_the_prompt_decides_where_everything_is() -> None:
    def tracks(seed: int, spread: float) -> np.ndarray:
        return np.asarray(make_scene(seed, prompt=SAID, spread=spread).tracks)

    def difference(spread: float) -> float:
        return float(np.abs(tracks(1, spread) - tracks(2, spread)).mean())

    assert difference(0.0) == 0.0
    assert 0 < difference(0.3) < 0.6 * difference(1.0)
    assert (make_scene(1, prompt=SAID, spread=0.0).images != make_scene(2, prompt=SAID, spread=0.0).images).any()
    same = make_scene(1, prompt=SAID), make_scene(1, prompt=SAID, spread=1.0)
    assert np.array_equal(same[0].images, same[1].images)


def test_the_spread_leaves_open_what_the_prompt_leaves_open() -> None:
    said = "a red object over blue while the camera moves"
    ends = [mean_motion(make_scene(seed, prompt=said, spread=0.0)) for seed in range(12)]
    assert len({direction_word(end) for end in ends}) > 3


def test_a_single_object_is_the_first_without_its_texture() -> None:
    several = make_scene(0, prompt="a red striped disc moves left and a green star moves up over white dots")
    words = parse_prompt(str(several.prompt))
    said = make_scene(0, prompt=several.prompt, single=True).prompt
    assert said == str(replace(words, objects=(replace(words.objects[0], texture=None),)))
    assert np.array_equal(make_scene(0, prompt=several.prompt, single=True).images, make_scene(0, prompt=said).images)


def test_a_spread_outside_its_range_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^spread must lie between 0 and 1; got 1\.5\.$"):
        make_scene(0, spread=1.5)
