"""The tracker in which nothing moves: the baseline that any other should beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from store.arguments import checked
from store.tracks.point_tracks import PointTracks
from store.tracks.queries import clip_and_queries


@dataclass(frozen=True)
class StaticTracker:
    """Every point stays at its query position and is always visible.

    Examples
    --------
    >>> import numpy as np
    >>> StaticTracker()(np.zeros((9, 80, 112, 3), np.uint8), [[2, 10.0, 20.0]]).tracks[8].tolist()
    [[10.0, 20.0]]
    """

    @checked
    def __call__(self, images: Any, queries: Any) -> PointTracks:
        """Return the query points as the positions in every image; see :class:`store.tracks.point_tracks.Tracker`.

        Parameters
        ----------
        images : Clip, or uint8 (image, y, x, 3)
        queries : (point, 3) as (image, x, y) in pixels of the clip

        Raises
        ------
        InvalidInputError
            For images that are not a clip, and queries outside it.
        """
        video, asked = clip_and_queries(images, queries)
        return PointTracks.still(asked, len(video))


still_tracker = StaticTracker()
"""An instance of :class:`StaticTracker`, under its former name."""
