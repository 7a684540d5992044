"""Queries of trackers: the checks that every tracker makes first, and a grid of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from store.arguments import Array, check_kind
from store.arrays import as_array
from store.checks import integer
from store.clips.clip import Clip
from store.tracks.point_tracks import check_queries, grid_points


def clip_and_queries(images: Any, queries: Any) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (image, y, x, 3) and float64 (point, 3), or an error that names the problem.

    Raises
    ------
    ClipError
        For images that are not a clip.
    InvalidInputError
        For a query outside the clip, see :func:`store.tracks.point_tracks.check_queries`.

    Examples
    --------
    >>> images, queries = clip_and_queries(np.zeros((9, 80, 112, 3), np.uint8), [[8, 100.0, 20.0]])
    >>> queries.dtype
    dtype('float64')
    """
    if not isinstance(images, Clip):
        check_kind(images, Array, "images")
    video = images.images if isinstance(images, Clip) else as_array(images)
    video = Clip(video, fps=8.0).images  # rejects what is not a clip
    return video, check_queries(queries, *video.shape[:3])


def grid_queries(count: int, height: int, width: int, image: int = 0) -> np.ndarray:
    """``count`` x ``count`` queries (point, 3), (image, x, y) in pixels: the centres of equal parts, row after row.

    Raises
    ------
    InvalidInputError
        For a count below 1.

    Examples
    --------
    >>> grid_queries(2, height=40, width=80).tolist()
    [[0.0, 20.0, 10.0], [0.0, 60.0, 10.0], [0.0, 20.0, 30.0], [0.0, 60.0, 30.0]]
    """
    integer(integer(count, "grid", max_value=1000), "grid", min_value=1)
    points = grid_points(count, height, width)
    return np.column_stack([np.full(len(points), float(image)), points])
