"""Coherence of an object through a clip of a synthetic scene, measured by plain computer vision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage

from analyses.optical_flow import DISFlow
from analyses.scenes.vision import see_scene
from store.arguments import Array, checked
from store.arrays import as_array
from store.clips.clip import Clip

SECOND_COPY = 0.25
"""Fraction of the object's area in an image above which another region of its colour is a second copy."""
_REACH = 2  # search range in pixels around the difference of the centres, for aligning outlines
_LEAST = 12  # smallest outline in pixels that can be compared
_CONSISTENT = 1.0  # largest difference in pixels between a flow and the backward flow


@dataclass(frozen=True)
class ObjectCoherence:
    """Coherence of the largest object of a clip: of its outline, area and pixels, and copies of it.

    Attributes
    ----------
    outline : mean over neighbouring images of the intersection over union of the object's outlines, the second moved
        onto the first; 0 to 1, NaN where no two neighbouring images show it
    area_drift : absolute logarithm of the ratio of the object's areas in the last and the first image that show it
        away from the borders; NaN where fewer than two do
    warping_error : mean absolute difference between an image and the next one, warped back onto it by optical flow,
        where the forward and backward flows agree; fraction of the full range, 0 to 1; NaN for a single image
    second_copy : fraction of the images in which another region of the object's colour, apart from it, has at least a
        quarter of its area; NaN where no object is seen
    """

    outline: float
    area_drift: float
    warping_error: float
    second_copy: float


@checked
def object_coherence(clip: Array | Clip) -> ObjectCoherence:
    """Measure the coherence of the largest object of a clip of a synthetic scene, drawn or generated.

    The object is found by :func:`analyses.scenes.vision.see_scene`. Objects of drawn scenes turn, grow slightly and are
    partly hidden, so generated clips should be compared with the values of drawn scenes rather than with 1 and 0.
    Outlines are compared where neither image's border cuts them off. The warping error is that of Lai et al., "Learning
    Blind Video Temporal Consistency" (2018), with an absolute instead of a squared difference and occlusions found by a
    forward-backward check.

    Parameters
    ----------
    clip : (image, y, x, 3) uint8, rgb, or a :class:`store.Clip`

    Raises
    ------
    InvalidInputError
        For images of another shape or kind.
    MissingOpenCVError
        Where OpenCV (``pip install "ditprobe[vision]"``) is not installed.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> found = object_coherence(make_scene(3, prompt="a red ring moves left over blue stripes"))
    >>> found.outline > 0.8, found.second_copy
    (True, 0.0)
    """
    images = as_array(clip.images if isinstance(clip, Clip) else clip)
    seen = see_scene(images)
    if not seen.objects:
        return ObjectCoherence(math.nan, math.nan, _warping_error(images), math.nan)
    found = seen.objects[0]
    return ObjectCoherence(
        _outline(found.mask), _area_drift(found.mask), _warping_error(images), _second_copy(found.mask, found.alike)
    )


def _outline(mask: np.ndarray) -> float:
    overlaps = [_aligned_overlap(first, second) for first, second in pairwise(mask)]
    known = [overlap for overlap in overlaps if not math.isnan(overlap)]
    return float(np.mean(known)) if known else math.nan


def _aligned_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """The largest intersection over union of two masks over shifts near the difference of their centres."""
    if min(first.sum(), second.sum()) < _LEAST:
        return math.nan
    centre = np.round(np.argwhere(first).mean(0) - np.argwhere(second).mean(0)).astype(int)
    best = 0.0
    inside = np.ones_like(first)
    for dy in range(centre[0] - _REACH, centre[0] + _REACH + 1):
        for dx in range(centre[1] - _REACH, centre[1] + _REACH + 1):
            known, moved = (_shifted(plane, dy, dx) for plane in (inside, second))
            both, either = (first & moved).sum(), ((first | moved) & known).sum()
            best = max(best, float(both / either) if either else 0.0)
    return best


def _shifted(plane: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """A mask moved by whole pixels; False comes in from outside."""
    moved = np.zeros_like(plane)
    height, width = plane.shape
    if abs(dy) < height and abs(dx) < width:
        moved[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = plane[
            max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
        ]
    return moved


def _area_drift(mask: np.ndarray) -> float:
    on_border = mask[:, [0, -1]].any((1, 2)) | mask[:, :, [0, -1]].any((1, 2))
    areas = mask.sum((1, 2))[~on_border & mask.any((1, 2))]
    return abs(math.log(areas[-1] / areas[0])) if len(areas) > 1 else math.nan


def _second_copy(mask: np.ndarray, alike: np.ndarray) -> float:
    """Fraction of the images with the object in which a separate region of its colour is too large."""
    copies = []
    for region, same in zip(mask, alike, strict=True):
        if not region.any():
            continue
        parts, _ = ndimage.label(same, np.ones((3, 3)))
        of_object = np.bincount(parts[region])
        sizes = np.bincount(parts.ravel())
        sizes[[0, int(of_object.argmax())]] = 0
        copies.append(sizes.max() >= SECOND_COPY * of_object.max())
    return float(np.mean(copies)) if copies else math.nan


def _warping_error(images: Any) -> float:
    """Mean over neighbouring images of the absolute difference after warping, 0 to 1."""
    height, width = images.shape[1:3]
    flow = DISFlow((height, width))
    grey = [flow.grey(image) for image in images]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    errors = []
    for first, second, before, after in zip(images, images[1:], grey, grey[1:], strict=False):
        there, back = flow.reduced(flow.between(before, after)), flow.reduced(flow.between(after, before))
        places = np.stack([rows + there[..., 1], columns + there[..., 0]])
        x, y = (ndimage.map_coordinates(back[..., axis], places, order=1, mode="nearest") for axis in (0, 1))
        near = np.hypot(there[..., 0] + x, there[..., 1] + y) < _CONSISTENT
        inside = (places[0] >= 0) & (places[0] <= height - 1) & (places[1] >= 0) & (places[1] <= width - 1)
        seen = near & inside
        warped = [ndimage.map_coordinates(second[..., c].astype(np.float32), places, order=1) for c in range(3)]
        difference = np.abs(np.stack(warped, -1) - first).mean(-1) / 255
        if seen.any():
            errors.append(difference[seen].mean())
    return float(np.mean(errors)) if errors else math.nan
