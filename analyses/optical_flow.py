"""Dense optical flow between images (DIS). OpenCV is optional and imported lazily."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from types import ModuleType

import numpy as np
from scipy.ndimage import map_coordinates

from store.errors import MissingOpenCVError

DIS_SIDE = 160
"""Shorter side in pixels to which images are enlarged, since DIS compares patches of a fixed size."""


def opencv() -> ModuleType:
    """Import and return the module ``cv2``.

    Raises
    ------
    MissingOpenCVError
        If OpenCV is not installed.

    Examples
    --------
    >>> opencv().__name__
    'cv2'
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingOpenCVError(
            "optical flow is computed with OpenCV, which is not installed; run: pip install 'ditprobe[vision]'"
        ) from error
    return cv2


class DISFlow:
    """OpenCV's DIS optical flow (medium preset) on grey images that are enlarged if they are small.

    Parameters
    ----------
    size : (height, width) of the images in pixels
    side : pixels. Images whose shorter side is smaller are enlarged by the integer factor that brings it nearest to
        this

    Attributes
    ----------
    scale : int, the factor of the enlargement

    Raises
    ------
    MissingOpenCVError

    Notes
    -----
    Kroeger et al., "Fast Optical Flow using Dense Inverse Search" (2016).

    Examples
    --------
    >>> flow = DISFlow((64, 64))
    >>> grey = flow.grey(np.zeros((64, 64, 3), np.uint8))
    >>> flow.scale, flow.between(grey, grey).shape
    (2, (128, 128, 2))
    """

    def __init__(self, size: tuple[int, int], side: int = DIS_SIDE) -> None:
        self._cv2 = opencv()
        self.scale = max(1, round(side / min(size)))
        self._method = self._cv2.DISOpticalFlow_create(self._cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def grey(self, image: np.ndarray) -> np.ndarray:
        """Convert an RGB image (y, x, 3) to grey and enlarge it."""
        grey = self._cv2.cvtColor(np.ascontiguousarray(image), self._cv2.COLOR_RGB2GRAY)
        enlarged: np.ndarray = self._cv2.resize(
            grey, None, fx=self.scale, fy=self.scale, interpolation=self._cv2.INTER_CUBIC
        )
        return enlarged

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return (y, x, 2), the displacement (x, y) of each pixel of an enlarged image, in its pixels."""
        flow: np.ndarray = self._method.calc(first, second, None)
        return flow

    def reduced(self, flow: np.ndarray) -> np.ndarray:
        """Return an enlarged flow at the original size, in pixels of the original images."""
        size = (flow.shape[1] // self.scale, flow.shape[0] // self.scale)
        small: np.ndarray = self._cv2.resize(flow, size, interpolation=self._cv2.INTER_AREA) / self.scale
        return small


def flow_at(flow: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Read a flow at points, bilinearly; outside the image the flow is that of the nearest border pixel.

    Parameters
    ----------
    flow : (y, x, 2)
    points : (point, 2) as (x, y) in pixels, pixel centres at +0.5

    Returns
    -------
    (point, 2) float64

    Examples
    --------
    >>> flow = np.zeros((1, 2, 2))
    >>> flow[0, 1] = (4.0, 2.0)
    >>> flow_at(flow, np.array([[1.0, 0.5], [9.0, 0.5]]))
    array([[2., 1.],
           [4., 2.]])
    """
    rows_and_columns = (points[:, ::-1] - 0.5).T
    channels = [
        map_coordinates(flow[..., n], rows_and_columns, output=np.float64, order=1, mode="nearest") for n in range(2)
    ]
    return np.stack(channels, -1)


def chain_flow(
    images: np.ndarray, queries: np.ndarray, side: int = DIS_SIDE, tolerance: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Move points by the flow from image to image, forward and backward from the image of each query.

    Parameters
    ----------
    images : uint8 (image, y, x, 3)
    queries : (point, 3) as (image, x, y) in pixels
    side : pixels, see :class:`DISFlow`
    tolerance : distance between a point and its forward-backward position, in pixels of the enlarged images, that is
        allowed in addition to a tenth of the step

    Returns
    -------
    tracks : (image, point, 2) float64 as (x, y) in pixels
    missed : (image, point), the largest forward-backward distance since the image of the query, as a multiple of the
        allowed one

    Raises
    ------
    MissingOpenCVError

    Examples
    --------
    >>> tracks, missed = chain_flow(np.zeros((3, 64, 64, 3), np.uint8), np.array([[1, 20.0, 30.0]]))
    >>> tracks[2, 0].tolist(), float(missed.max())
    ([20.0, 30.0], 0.0)
    """
    count, height, width = images.shape[:3]
    tracks = np.repeat(queries[None, :, 1:].astype(float), count, axis=0)
    missed = np.zeros((count, len(queries)))
    flow = DISFlow((height, width), side)
    if len(queries):
        first, last = int(queries[:, 0].min()), int(queries[:, 0].max())
        for order in (range(first, count), range(last, -1, -1)):
            _chain(flow, images, queries[:, 0], order, tolerance, tracks, missed)
    return tracks, missed


def _chain(
    flow: DISFlow,
    images: np.ndarray,
    known_in: np.ndarray,
    order: Iterable[int],
    tolerance: float,
    tracks: np.ndarray,
    missed: np.ndarray,
) -> None:
    """Fill in the images after that of each query, in this order of the images."""
    order = list(order)
    reached = np.zeros(len(known_in), bool)
    grey = flow.grey(images[order[0]])
    for image, following in pairwise(order):
        reached |= known_in == image
        later = flow.grey(images[following])
        there, back = flow.between(grey, later), flow.between(later, grey)
        here = tracks[image, reached] * flow.scale
        step = flow_at(there, here)
        miss = np.linalg.norm(step + flow_at(back, here + step), axis=-1)
        allowed = tolerance + 0.1 * np.linalg.norm(step, axis=-1)
        tracks[following, reached] = (here + step) / flow.scale
        missed[following, reached] = np.maximum(missed[image, reached], miss / allowed)
        grey = later
