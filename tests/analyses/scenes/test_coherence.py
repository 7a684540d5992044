"""Coherence of an object through a clip: hand-painted clips whose values are known, and drawn scenes."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from analyses.scenes.coherence import object_coherence
from store.errors import InvalidInputError, MissingOpenCVError
from store.scenes.scene import make_scene
from store.scenes.texture import COLOURS

pytest.importorskip("cv2")

Box = tuple[int, int, int, int]


def paint(*boxes: list[Box], images: int = 5) -> np.ndarray:
    """(image, 40, 40, 3): red boxes (top, left, height, width) on blue, one list for each image."""
    clip = np.empty((images, 40, 40, 3), np.uint8)
    clip[:] = np.round(255 * np.asarray(COLOURS["blue"]))
    for image in range(images):
        for top, left, height, width in boxes[min(image, len(boxes) - 1)]:
            clip[image, top : top + height, left : left + width] = np.round(255 * np.asarray(COLOURS["red"]))
    return clip


def moving(size: int = 12) -> list[list[Box]]:
    return [[(10, 6 + 3 * image, size, size)] for image in range(5)]


def test_a_box_that_only_moves_keeps_everything() -> None:
    found = object_coherence(paint(*moving()))
    assert found.outline == 1.0
    assert found.area_drift == 0.0
    assert found.second_copy == 0.0
    assert found.warping_error < 0.02


def test_a_box_that_is_cut_off_by_the_border_keeps_its_outline() -> None:
    found = object_coherence(paint(*[[(10, 20 + 4 * image, 12, 12)] for image in range(5)]))
    assert found.outline > 0.97
    assert found.area_drift == pytest.approx(0.0, abs=0.05)


def test_a_box_that_changes_its_outline_loses_it() -> None:
    found = object_coherence(paint(*[[(10, 10, *((16, 8) if image % 2 else (8, 16)))] for image in range(5)]))
    both, either = 8 * 8, 2 * 16 * 8 - 8 * 8
    assert found.outline == pytest.approx(both / either, abs=0.03)
    assert found.warping_error > object_coherence(paint(*moving())).warping_error


def test_the_drift_is_the_logarithm_of_the_ratio_of_areas() -> None:
    found = object_coherence(paint(*[[(8, 8, 8 + 2 * image, 8 + 2 * image)] for image in range(5)]))
    assert found.area_drift == pytest.approx(math.log((16 / 8) ** 2), abs=0.1)


def test_a_copy_that_stays_behind_counts_and_a_speck_does_not() -> None:
    for left_behind, share in (((24, 2, 8, 8), 0.6), ((24, 2, 4, 4), 0.0)):
        boxes = [[*boxes, left_behind] if image >= 2 else boxes for image, boxes in enumerate(moving())]
        assert object_coherence(paint(*boxes)).second_copy == pytest.approx(share)


def test_drawn_scenes_are_coherent_and_shuffled_ones_are_not() -> None:
    clips = [make_scene(seed, prompt="a red disc moves left over blue clouds") for seed in range(6)]
    drawn = [object_coherence(clip) for clip in clips]
    mixed = [object_coherence(np.stack([clips[(n + image) % 6].images[image] for image in range(6)])) for n in range(6)]
    assert np.mean([one.outline for one in drawn]) > 0.85
    assert np.mean([one.outline for one in mixed]) < np.mean([one.outline for one in drawn])
    assert np.mean([one.warping_error for one in drawn]) < 0.5 * np.mean([one.warping_error for one in mixed])


def test_without_an_object_or_with_one_image_there_is_nothing_to_compare() -> None:
    empty = object_coherence(paint([]))
    assert all(map(math.isnan, (empty.outline, empty.area_drift, empty.second_copy)))
    assert empty.warping_error == pytest.approx(0.0, abs=0.01)
    single = object_coherence(paint(*moving(), images=1))
    assert all(map(math.isnan, (single.outline, single.area_drift, single.warping_error)))
    assert single.second_copy == 0.0


def test_what_cannot_be_measured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="images must be uint8"):
        object_coherence(np.zeros((2, 40, 40, 3)))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingOpenCVError):
        object_coherence(paint([]))
