"""Dense optical flow, chained from image to image, as a tracker."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from analyses.optical_flow import DIS_SIDE, chain_flow
from store.arguments import check_fields
from store.checks import integer
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks
from store.tracks.queries import clip_and_queries


@dataclass(frozen=True)
class FlowTracker:
    """Chain OpenCV's DIS optical flow (medium preset) forward and backward from the image of each query.

    A point moves from image to image by the flow at its position, bilinear between pixels. It is lost if the backward
    flow does not lead back to it, because it is hidden or has left the image. A lost point stays lost, since the chain
    then follows whatever hides it. Outside the image it is hidden, and moves with the flow at the border.

    Parameters
    ----------
    side : pixels. Images whose shorter side is smaller are enlarged by the integer factor that brings it nearest to
        this, since DIS compares patches of a fixed size
    tolerance : largest distance between a point and its forward-backward position, in pixels of the enlarged images, in
        addition to a tenth of the step

    Raises
    ------
    InvalidInputError
        For a side or a tolerance that is not positive.

    Notes
    -----
    Kroeger et al., "Fast Optical Flow using Dense Inverse Search" (2016). Two images at a time are compared, whatever
    the length of the clip. DIS follows motions of up to about a tenth of the image from one image to the next.

    Examples
    --------
    A smooth pattern that moves 2 pixels to the right from image to image:

    >>> import numpy as np
    >>> y, x = np.mgrid[:64, :64]
    >>> images = [128 + 60 * np.sin((x - 2 * n) / 4) + 60 * np.sin(y / 5) for n in range(3)]
    >>> images = np.repeat(np.stack(images)[..., None], 3, -1).astype(np.uint8)
    >>> FlowTracker()(images, [[2, 30.0, 20.0]]).tracks[0, 0].round()
    array([26., 20.])
    """

    side: int = DIS_SIDE
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        integer(self.side, "side", max_value=8192)
        if not (self.side > 0 and self.tolerance > 0):
            raise InvalidInputError(
                f"side and tolerance must be positive numbers of pixels; got {self.side} and {self.tolerance}."
            )

    def __call__(self, images: Any, queries: Any) -> PointTracks:
        """Positions of the query points in every image; see :class:`store.tracks.point_tracks.Tracker`.

        Raises
        ------
        MissingOpenCVError
            Where OpenCV is not installed.
        """
        video, asked = clip_and_queries(images, queries)
        height, width = video.shape[1:3]
        tracks, missed = chain_flow(video, asked, self.side, self.tolerance)
        confidence = 1 / (1 + missed**2)
        inside = ((tracks >= 0) & (tracks <= [width, height])).all(-1)
        return PointTracks(asked, tracks, inside & (missed <= 1), confidence, {"tracker": "flow", **asdict(self)})
