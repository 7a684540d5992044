"""Checks of the clip and the queries that every tracker makes first."""

from __future__ import annotations

from typing import Any

import numpy as np

from store.arguments import Array, check_kind
from store.arrays import as_array
from store.clips.clip import Clip
from store.tracks.point_tracks import check_queries


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
