"""Background patterns: drawn scenes whose pattern is known, and what hides it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analyses.scenes.pattern import background_pattern
from analyses.scenes.prompt_agreement import prompt_agreement
from store.scenes.scene import make_scene
from store.scenes.texture import PATTERNS, Texture

pytest.importorskip("cv2")


def plane(pattern: str, angle: float, shift: tuple[float, float], side: int = 40) -> np.ndarray:
    """(1, side, side, 3) uint8: a pattern without noise, with a wavelength of 11 pixels of a 32-pixel image."""
    texture = Texture((0.0,) * 3, pattern, np.zeros((2, 1, 1)), 1.0, angle, 11.0)
    axis = (np.arange(side) + 0.5) / side * 32
    x, y = np.meshgrid(axis + shift[0], axis + shift[1])
    values = texture.pattern_at(np.stack([x, y], -1).reshape(-1, 2).astype(np.float32)).reshape(side, side)
    return np.repeat((128 + 40 * values).astype(np.uint8)[None, ..., None], 3, -1)


@pytest.mark.parametrize("pattern", PATTERNS[1:])
@pytest.mark.parametrize("side", [32, 40, 64])
def test_a_pattern_is_seen_at_any_angle_place_and_size(pattern: str, side: int) -> None:
    for angle, shift in ((0.1, (0.0, 0.0)), (0.7, (3.0, 7.0)), (2.0, (5.5, 1.2))):
        images = plane(pattern, angle, shift, side)
        assert background_pattern(images, np.ones(images.shape[:3], bool)) == pattern


def test_what_lies_in_front_does_not_count() -> None:
    images = plane("stripes", 0.4, (1.0, 2.0))
    dots = plane("dots", 0.0, (0.0, 0.0))
    hidden = np.zeros(images.shape[:3], bool)
    hidden[:, 8:30, 8:30] = True
    mixed = np.where(hidden[..., None], dots, images)
    assert background_pattern(mixed, ~hidden) == "stripes"


def test_a_background_without_a_pattern_or_out_of_sight_is_clouds() -> None:
    images = np.full((3, 40, 40, 3), 90, np.uint8)
    assert background_pattern(images, np.ones(images.shape[:3], bool)) == "clouds"
    assert background_pattern(plane("checks", 0.0, (0, 0)), np.zeros((1, 40, 40), bool)) == "clouds"
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 1)).repeat(3, -1).astype(np.uint8)
    assert background_pattern(noise, np.ones(images.shape[:3], bool)) == "clouds"


def test_most_drawn_scenes_have_the_pattern_that_they_name() -> None:
    found = [prompt_agreement(clip.images, str(clip.prompt)) for clip in map(make_scene, range(2500, 2530))]
    assert np.mean([one.pattern_right for one in found]) >= 0.8
    shifted = [
        one.pattern_seen == other.prompt.background_pattern for one, other in zip(found[1:], found, strict=False)
    ]
    assert np.mean(shifted) < 0.5


def test_an_open_pattern_is_neither_right_nor_wrong() -> None:
    found = prompt_agreement(make_scene(3).images, "a red disc moves left over blue")
    assert found.pattern_right is None
    assert found.pattern_seen in PATTERNS
    assert math.isclose(found.min_motion, 2.0)
