"""Motion fidelity of two clips, measured with any tracker."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyses.metrics.motion_fidelity import MotionPreset, motion_fidelity
from store.arguments import Array, check_kind, checked
from store.arrays import as_array
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks, Tracker
from store.tracks.queries import grid_queries


@checked
def clip_motion_fidelity(
    generated: Array | Clip,
    reference: Array | Clip,
    tracker: Tracker,
    *,
    grid: int = 10,
    mask: Array | None = None,
    preset: MotionPreset = "exact",
    tolerance: float = 0.1,
) -> float:
    """Motion fidelity of two clips, from points on a grid in image 0 of each.

    Parameters
    ----------
    generated, reference : Clip, or (image, y, x, 3) uint8 images
        Clips of the same size and the same number of images.
    tracker : any :class:`store.tracks.point_tracks.Tracker`
        Points count at their predicted positions, visible or not, as published.
    grid : points along each axis; the published evaluations use 50 (DeT) and 55 (DiTFlow)
    mask : (y, x) bool, optional
        Region of image 0 of both clips in which points start, e.g. the box around the reference's object (DeT). By
        default the whole image (DiTFlow).
    preset, tolerance : as of :func:`analyses.metrics.motion_fidelity.motion_fidelity`

    Returns
    -------
    float

    Raises
    ------
    ClipError
        For what is not a clip.
    InvalidInputError
        For different sizes or numbers of images, a grid of no points, a mask of another shape or without a point of
        the grid, and what :func:`analyses.metrics.motion_fidelity.motion_fidelity` rejects.

    Examples
    --------
    >>> from store.tracks.point_tracks import PointTracks
    >>> def still(images, queries):
    ...     return PointTracks.still(queries, len(images))
    >>> clip = np.zeros((3, 40, 56, 3), np.uint8)
    >>> clip_motion_fidelity(clip, clip, still, grid=4)
    1.0
    """
    ours, theirs = (each.images if isinstance(each, Clip) else as_array(each) for each in (generated, reference))
    ours, theirs = Clip(ours, fps=8.0).images, Clip(theirs, fps=8.0).images  # rejects what is not a clip
    if ours.shape != theirs.shape:
        raise InvalidInputError(
            f"generated and reference need the same shape (image, y, x, 3); got {ours.shape} and {theirs.shape}. Cut "
            "or resize one of them (Clip.window, Clip.resized)."
        )
    queries = grid_queries(grid, *ours.shape[1:3])
    if mask is not None:
        queries = queries[_inside(mask, queries, ours.shape[1:3])]
    found = [tracker(images, queries) for images in (ours, theirs)]
    for each in found:
        check_kind(each, PointTracks, "what tracker returns")
    a, b = (each.tracks for each in found)
    return motion_fidelity(a, b, preset=preset, tolerance=tolerance)


def _inside(mask: Any, queries: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    mask = as_array(mask)
    if mask.shape != size or mask.dtype != bool:
        raise InvalidInputError(f"mask must be bool (y, x) = {size}; got {mask.dtype} of shape {mask.shape}.")
    x, y = queries[:, 1:].astype(int).T
    inside: np.ndarray = mask[y, x]
    if not inside.any():
        raise InvalidInputError("no point of the grid lies in the mask. Take a finer grid or a larger mask.")
    return inside
