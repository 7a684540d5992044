"""Agreement with prompts: drawn scenes and hand-painted clips whose content is known, and prompts of other scenes."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import xarray as xr

from analyses.scenes.prompt_agreement import (
    LEAST_MOTION,
    ObjectAgreement,
    PromptAgreement,
    agreement_dataset,
    angle_to_word,
    prompt_agreement,
)
from analyses.scenes.vision import see_scene
from analyses.statistics import bootstrap_mean
from store.clips.clip import Clip
from store.errors import InvalidInputError, MissingOpenCVError
from store.scenes.prompt import DIRECTIONS, SHAPES, CameraWords, ObjectWords, ScenePrompt, parse_prompt
from store.scenes.scene import make_scene
from store.scenes.texture import COLOURS

pytest.importorskip("cv2")

Pixels = tuple[float, float]


def rgb(colour: str) -> np.ndarray:
    return np.round(255 * np.asarray(COLOURS[colour])).astype(np.uint8)


def paint(
    *discs: tuple[str, float, Pixels, Pixels],
    background: str = "blue",
    images: int = 6,
    height: int = 40,
    width: int = 48,
) -> np.ndarray:
    """(image, y, x, 3): flat discs (colour, radius, (x, y) at first, (x, y) per image), the last one in front."""
    clip = np.empty((images, height, width, 3), dtype=np.uint8)
    clip[:] = rgb(background)
    y, x = np.mgrid[:height, :width] + 0.5
    for colour, radius, start, step in discs:
        for image in range(images):
            centre_x, centre_y = np.add(start, np.multiply(step, image))
            clip[image, np.hypot(x - centre_x, y - centre_y) < radius] = rgb(colour)
    return clip


def single_object_scenes(count: int) -> list[Clip]:
    """Scenes of one object, every word drawn at random."""
    rng = np.random.default_rng(7)
    clips = []
    for seed in range(count):
        colour, background = rng.permutation(tuple(COLOURS))[:2].tolist()
        shape, direction, pan = rng.choice(SHAPES), rng.choice(DIRECTIONS), rng.choice(DIRECTIONS)
        words = ObjectWords(colour, str(shape), str(direction))
        prompt = ScenePrompt((words,), background, "clouds", CameraWords(pan=str(pan)))
        clips.append(make_scene(seed, prompt=str(prompt)))
    return clips


@pytest.fixture(scope="module")
def scenes() -> list[Clip]:
    return single_object_scenes(40)


def test_drawn_scenes_agree_with_their_prompts(scenes: list[Clip]) -> None:
    means = agreement_dataset([prompt_agreement(clip.images, clip.prompt) for clip in scenes]).mean()
    assert means.colour >= 0.93
    assert means.shape >= 0.88
    assert means.direction >= 0.93
    assert means.background >= 0.98
    assert means.pan >= 0.95
    assert means.angle < 22.5


def test_prompts_of_other_scenes_agree_by_chance(scenes: list[Clip]) -> None:
    pairs = zip(scenes, [scenes[-1], *scenes[:-1]], strict=True)
    means = agreement_dataset([prompt_agreement(clip.images, other.prompt) for clip, other in pairs]).mean()
    assert 0.02 < means.colour < 0.2
    assert 0.08 < means.shape < 0.27
    assert 0.15 < means.direction < 0.35
    assert 0.02 < means.background < 0.2
    assert means.right < 0.03


def test_scenes_of_several_objects_agree_mostly() -> None:
    clips = [clip for clip in map(make_scene, range(30)) if " and a" in str(clip.prompt)]
    means = agreement_dataset([prompt_agreement(clip.images, clip.prompt) for clip in clips]).mean()
    assert len(clips) > 9
    assert means.colour >= 0.9
    assert means.shape >= 0.75
    assert means.direction >= 0.88


def test_a_plain_disc_is_measured_in_pixels() -> None:
    seen = see_scene(paint(("orange", 8.0, (32.0, 20.0), (-2.0, 0.0))))
    (disc,) = seen.objects
    assert (seen.background, disc.colour, disc.shape) == ("blue", "orange", "disc")
    np.testing.assert_allclose(disc.motion, (-10.0, 0.0), atol=1.5)
    np.testing.assert_allclose(disc.mask.sum((1, 2)), math.pi * 8**2, rtol=0.1)
    columns = np.nonzero(disc.mask[0])[1] + 0.5
    assert abs(columns.mean() - 32) < 0.5


@pytest.mark.parametrize(("name", "right"), [("left", True), ("down left", False), ("up", False), ("right", False)])
def test_a_direction_is_right_within_45_degrees(name: str, right: bool) -> None:
    images = paint(("orange", 8.0, (32.0, 18.0), (-2.0, -0.4)))
    seen = prompt_agreement(images, f"an orange disc moves {name} over blue clouds").objects[0]
    assert seen.direction_right is right
    assert seen.angle == pytest.approx(angle_to_word((-2.0, -0.4), name), abs=10)


def test_a_reversed_clip_moves_the_other_way(scenes: list[Clip]) -> None:
    for clip in scenes[:5]:
        there, back = see_scene(clip.images), see_scene(clip.images[::-1])
        np.testing.assert_allclose(back.objects[0].motion, np.negative(there.objects[0].motion), atol=1.5)
        np.testing.assert_allclose(back.pan, np.negative(there.pan), atol=2.5)


def test_a_mirrored_clip_has_mirrored_motion(scenes: list[Clip]) -> None:
    for clip in scenes[:5]:
        there, back = see_scene(clip.images), see_scene(clip.images[:, :, ::-1])
        assert back.objects[0].colour == there.objects[0].colour
        np.testing.assert_allclose(back.objects[0].motion, np.multiply(there.objects[0].motion, (-1, 1)), atol=1.5)


def test_a_wrong_colour_is_wrong_and_the_rest_still_counts() -> None:
    images = paint(("orange", 8.0, (32.0, 20.0), (-2.0, 0.0)))
    seen = prompt_agreement(images, "a green disc moves left over pink clouds")
    (disc,) = seen.objects
    assert (disc.colour_seen, disc.colour_right) == ("orange", False)
    assert disc.shape_right
    assert disc.direction_right
    assert not disc.right
    assert (seen.background_seen, seen.background_right) == ("blue", False)


def test_the_largest_object_is_the_one_of_a_prompt_that_names_one() -> None:
    images = paint(("orange", 9.0, (34.0, 12.0), (-2.0, 0.0)), ("green", 5.0, (12.0, 32.0), (2.0, 0.0)))
    assert prompt_agreement(images, "a green disc moves right over blue clouds").objects[0].colour_seen == "orange"


def test_objects_are_paired_by_colour_and_what_is_left_by_size() -> None:
    images = paint(("orange", 9.0, (34.0, 12.0), (-2.0, 0.0)), ("green", 6.0, (12.0, 30.0), (2.0, 0.0)))
    prompt = "a red disc moves left and a green disc moves right and a white disc moves up over blue clouds"
    red, green, white = prompt_agreement(images, prompt).objects
    assert (red.colour_seen, red.direction_right) == ("orange", True)
    assert (green.colour_seen, green.right) == ("green", True)
    assert (white.colour_seen, white.shape_seen, white.right) == (None, None, False)
    assert math.isnan(white.angle)


def test_an_object_named_twice_needs_two_regions() -> None:
    images = paint(("orange", 9.0, (34.0, 12.0), (-2.0, 0.0)))
    prompt = "an orange disc moves left and an orange disc moves left over blue clouds"
    assert [each.right for each in prompt_agreement(images, prompt).objects] == [True, False]


def test_where_nothing_is_seen_everything_is_wrong_but_the_background() -> None:
    seen = prompt_agreement(paint(), "a red disc moves left over blue clouds while the camera pans up")
    (none,) = seen.objects
    assert (none.colour_right, none.shape_right, none.direction_right) == (False, False, False)
    assert np.isnan(none.motion).all()
    assert seen.background_right
    assert seen.pan_right is False


def test_an_object_at_rest_has_no_direction() -> None:
    still = paint(("orange", 8.0, (24.0, 20.0), (0.0, 0.0)))
    for word in DIRECTIONS:
        assert not prompt_agreement(still, f"an orange disc moves {word} over blue clouds").objects[0].direction_right


def test_the_shortest_motion_that_counts_is_a_share_of_the_shorter_side() -> None:
    words, prompt = ObjectWords("red", "disc", "left"), parse_prompt("a red disc moves left over blue clouds")
    least = prompt_agreement(paint(height=40, width=48), prompt).min_motion
    assert least == pytest.approx(40 * LEAST_MOTION)
    assert ObjectAgreement(words, "red", "disc", (-1.01 * least, 0.0), least).direction_right
    assert not ObjectAgreement(words, "red", "disc", (-0.99 * least, 0.0), least).direction_right


def test_one_image_has_colours_and_shapes_but_no_motion() -> None:
    clip = make_scene(3, 1, prompt="a red ring moves left over blue stripes while the camera pans up")
    seen = prompt_agreement(clip.images, clip.prompt)
    assert seen.objects[0].colour_right
    assert seen.objects[0].shape_right
    assert not seen.objects[0].direction_right
    assert math.isnan(seen.objects[0].angle)
    assert math.isnan(seen.pan_angle)
    assert seen.pan_right is False


def test_a_pan_that_is_not_named_is_neither_right_nor_wrong() -> None:
    clip = make_scene(3, prompt="a red ring moves left over blue stripes")
    seen = prompt_agreement(clip.images, clip.prompt)
    assert seen.pan_right is None
    assert math.isnan(seen.pan_angle)
    assert np.hypot(*seen.pan) < 1


@pytest.mark.parametrize("change", ["zooms in", "zooms out", "turns left", "turns right"])
def test_zooms_and_turns_are_no_pans(change: str) -> None:
    for seed in range(3):
        clip = make_scene(seed, prompt=f"a red disc moves left over white dots while the camera {change}")
        assert np.hypot(*see_scene(clip.images).pan) < 2
        clip = make_scene(seed, prompt=f"a red disc moves left over white dots while the camera pans down and {change}")
        assert prompt_agreement(clip.images, clip.prompt).pan_right


def test_other_sizes_of_images() -> None:
    clip = make_scene(5, 8, 64, 96, prompt="a yellow cross moves down over purple stripes")
    assert prompt_agreement(clip.images, clip.prompt).objects[0].right


def test_the_dataset_holds_shares_that_can_be_averaged() -> None:
    left = ObjectAgreement(ObjectWords("red", "disc", "left"), "red", "ring", (-5.0, 0.0), 2.0)
    lost = ObjectAgreement(ObjectWords("green", "disc", "up"), None, None, (math.nan, math.nan), 2.0)
    two = parse_prompt("a red disc moves left and a green disc moves up over blue clouds")
    one = parse_prompt("a red ring moves left over blue clouds while the camera pans up")
    ring = ObjectAgreement(one.objects[0], "red", "ring", (-5.0, 5.0), 2.0)
    dataset = agreement_dataset(
        [
            PromptAgreement(two, (left, lost), "blue", (1.0, 0.0), 2.0, "dots"),
            PromptAgreement(one, (ring,), "grey", (0.0, -3.0), 2.0, "clouds"),
        ]
    )
    expected = {
        "colour": [0.5, 1.0],
        "shape": [0.0, 1.0],
        "direction": [0.5, 0.0],
        "right": [0.0, 0.0],
        "background": [1.0, 0.0],
        "pattern": [0.0, 1.0],
        "pan": [math.nan, 1.0],
        "angle": [0.0, 45.0],
    }
    assert set(dataset.data_vars) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(dataset[name], values, atol=1e-9)
    assert dataset.prompt.values.tolist() == [str(two), str(one)]
    lower, upper = bootstrap_mean(dataset.colour)
    assert isinstance(lower, xr.DataArray)
    assert lower <= 0.75 <= upper


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((6, 40, 40, 3), np.float32),
        np.zeros((40, 40, 3), np.uint8),
        np.zeros((6, 40, 40, 4), np.uint8),
        np.zeros((0, 40, 40, 3), np.uint8),
    ],
)
def test_other_images_are_refused(images: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match=r"images must be uint8 of shape \(image, y, x, 3\)"):
        prompt_agreement(images, "a red disc moves left over blue clouds")


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least 8 x 8 pixels; got 4 x 48"):
        see_scene(paint(height=4))
    with pytest.raises(InvalidInputError, match="objects must be at least 1; got 0"):
        see_scene(paint(), 0)
    with pytest.raises(InvalidInputError, match="unknown word 'purpel'"):
        prompt_agreement(paint(), "a purpel disc moves left over blue clouds")
    with pytest.raises(InvalidInputError, match="no agreements to collect"):
        agreement_dataset([])


def test_without_opencv_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingOpenCVError) as caught:
        see_scene(paint())
    assert str(caught.value) == (
        "optical flow is computed with OpenCV, which is not installed; run: pip install 'ditprobe[vision]'"
    )
