"""Attention with pixels: tracks of a backbone refined by Lucas-Kanade, as a separate tracker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyses.optical_flow import DIS_SIDE, opencv
from store.arguments import check_fields
from store.checks import integer
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks, Tracker
from store.tracks.queries import clip_and_queries


@dataclass(frozen=True)
class LucasKanadeRefinement:
    """Refine the tracks of another tracker by matching pixels around them (Lucas-Kanade).

    The patch around a point in the image of its query is searched in every other image, starting from the position by
    the other tracker. If the search is lost, or ends further away than ``reach``, that position is kept. This measures
    attention and pixels together, not attention alone.

    Parameters
    ----------
    tracker : Tracker
        Usually a :class:`~analyses.trackers.backbone.BackboneTracker`.
    reach : float
        Largest correction of a point, in pixels of the enlarged images.
    window : int
        Side of the patch in pixels of the enlarged images.
    side : int
        Images whose shorter side is smaller are enlarged by the integer factor that brings it nearest to this.

    Raises
    ------
    InvalidInputError
        For numbers that are not positive.

    Notes
    -----
    Bouguet, "Pyramidal Implementation of the Lucas Kanade Feature Tracker" (2001), one level, by OpenCV. Visibility and
    confidence are those of the other tracker.

    Examples
    --------
    >>> from analyses.trackers.static import StaticTracker
    >>> y, x = np.mgrid[:64, :64]
    >>> images = [128 + 60 * np.sin((x - n) / 4) + 60 * np.sin(y / 5) for n in range(3)]
    >>> images = np.repeat(np.stack(images)[..., None], 3, -1).astype(np.uint8)
    >>> LucasKanadeRefinement(StaticTracker())(images, [[0, 30.0, 20.0]]).tracks[2, 0].round()
    array([32., 20.])
    """

    tracker: Tracker
    reach: float = 16.0
    window: int = 21
    side: int = DIS_SIDE

    def __post_init__(self) -> None:
        check_fields(self)
        integer(self.window, "window", min_value=3, max_value=1024)
        integer(self.side, "side", min_value=1, max_value=8192)
        if not self.reach > 0:
            raise InvalidInputError(f"reach must be a positive number of pixels; got {self.reach}.")

    def __call__(self, images: Any, queries: Any) -> PointTracks:
        """Return the refined positions in every image; see :class:`store.tracks.point_tracks.Tracker`.

        Raises
        ------
        MissingOpenCVError
            If OpenCV is not installed.
        """
        cv2 = opencv()
        video, asked = clip_and_queries(images, queries)
        found = self.tracker(images, queries)
        scale = max(1, round(self.side / min(video.shape[1:3])))
        grey = [
            cv2.resize(
                cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY),
                None,
                fx=scale,
                fy=scale,
                interpolation=cv2.INTER_CUBIC,
            )
            for image in video
        ]
        how = {
            "winSize": (self.window, self.window),
            "maxLevel": 0,
            "flags": cv2.OPTFLOW_USE_INITIAL_FLOW,
            "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01),
        }
        tracks = found.tracks.copy()
        for anchor in np.unique(asked[:, 0]).astype(int):
            mine = np.flatnonzero(asked[:, 0] == anchor)
            start = (asked[mine, 1:] * scale - 0.5).astype(np.float32)[:, None]
            for image in (other for other in range(len(video)) if other != anchor):
                guess = (tracks[image, mine] * scale - 0.5).astype(np.float32)[:, None]
                there, status, _ = cv2.calcOpticalFlowPyrLK(grey[anchor], grey[image], start, guess.copy(), **how)
                moved = np.linalg.norm(there - guess, axis=-1)[:, 0]
                taken = (status[:, 0] == 1) & (moved <= self.reach)
                tracks[image, mine[taken]] = (there[taken, 0].astype(np.float64) + 0.5) / scale
        refinement = {"reach": self.reach, "window": self.window, "side": self.side}
        details = {
            **found.details,
            "tracker": f"{found.details.get('tracker', 'tracker')} + LK",
            "refinement": refinement,
        }
        return replace(found, tracks=tracks, details=details)
