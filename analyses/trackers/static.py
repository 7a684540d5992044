"""Every tracker: the baselines beside which attention is judged, models that are plugged in, and attention itself.

Each is an :class:`store.tracks.point_tracks.Tracker`, called with images and queries.
"""

from __future__ import annotations

from typing import Any

from analyses.trackers.backbone import BackboneTracker
from analyses.trackers.cotracker import CoTracker
from analyses.trackers.optical_flow import FlowTracker
from analyses.trackers.patches import PatchTracker
from store.arguments import checked
from store.tracks.point_tracks import PointTracks
from store.tracks.queries import clip_and_queries

__all__ = ["BackboneTracker", "CoTracker", "FlowTracker", "PatchTracker", "still_tracker"]


@checked
def still_tracker(images: Any, queries: Any) -> PointTracks:
    """Nothing moves, and everything is visible: what any tracker should beat.

    Parameters
    ----------
    images : Clip, or uint8 (image, y, x, 3)
    queries : (point, 3) as (image, x, y)

    Raises
    ------
    InvalidInputError
        For what is no clip, and queries outside it.

    Examples
    --------
    >>> import numpy as np
    >>> still_tracker(np.zeros((9, 80, 112, 3), np.uint8), [[2, 10.0, 20.0]]).tracks[8].tolist()
    [[10.0, 20.0]]
    """
    video, asked = clip_and_queries(images, queries)
    return PointTracks.still(asked, len(video))
