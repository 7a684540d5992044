"""Positions on the raster of 256 x 256 px on which TAP-Vid measures distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from store.clips.clip import Clip
from store.errors import InvalidInputError

RASTER = 256
"""Pixels along each side of the raster on which TAP-Vid measures distances, whatever the size of the clip."""


THRESHOLDS = (1, 2, 4, 8, 16)
"""Distances of TAP-Vid's metrics, in pixels of the raster."""


def to_raster(points: Any, clip: Clip) -> np.ndarray:
    """Positions on TAP-Vid's 256 x 256 raster, from pixels of the clip.

    Both count from the upper left corner of the upper left pixel, pixel centres at +0.5, so this only scales, width
    and height each by its own factor. It is what resizing the clip to 256 x 256 px does to its tracks.

    Parameters
    ----------
    points : (..., 2) float, (x, y) in pixels of the clip
    clip : Clip
        The clip the points lie in.

    Returns
    -------
    (..., 2) float64, (x, y) on the raster

    Raises
    ------
    InvalidInputError
        When the last dim is not (x, y).

    Examples
    --------
    >>> clip = Clip(np.zeros((1, 64, 128, 3), np.uint8), fps=25)
    >>> to_raster([[64.5, 32.0]], clip)
    array([[129., 128.]])
    """
    return _positions(points) / [clip.width, clip.height] * RASTER


def from_raster(points: Any, clip: Clip) -> np.ndarray:
    """Positions in pixels of the clip, from TAP-Vid's 256 x 256 raster: the inverse of :func:`to_raster`.

    Parameters
    ----------
    points : (..., 2) float, (x, y) on the raster
    clip : Clip
        The clip the points lie in.

    Returns
    -------
    (..., 2) float64, (x, y) in pixels of the clip

    Raises
    ------
    InvalidInputError
        When the last dim is not (x, y).

    Examples
    --------
    >>> clip = Clip(np.zeros((1, 64, 128, 3), np.uint8), fps=25)
    >>> from_raster([[129.0, 128.0]], clip)
    array([[64.5, 32. ]])
    """
    return _positions(points) / RASTER * [clip.width, clip.height]


def _positions(points: Any) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if not points.ndim or points.shape[-1] != 2:
        raise InvalidInputError(f"points need the shape (..., 2), as (x, y); got {points.shape}.")
    return points
