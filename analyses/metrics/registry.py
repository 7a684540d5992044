"""The registry of tracking metrics, for evaluations to compute in addition to TAP-Vid's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from store.arguments import checked
from store.datasets.tapvid_raster import RASTER
from store.errors import InvalidInputError
from store.registry import Registry
from store.tracks.point_tracks import PointTracks

Measure = Callable[[PointTracks, np.ndarray, np.ndarray, tuple[int, int]], float]


@dataclass(frozen=True)
class TrackingMetric:
    """A score of the tracks of one clip.

    Parameters
    ----------
    measure : callable
        Called with the ``PointTracks`` found, the true tracks (image, point, 2) float64 as (x, y) in pixels of the
        clip, the true visibility (image, point) bool, and the (height, width) of the clip. Point n of the truth belongs
        to query n. Returns a float, NaN if no pair counts.
    long_name : str
        Shown in tables and on axes.
    units : str
        "px", "%" or another unit; a fraction has "1" and is shown in percent.
    """

    measure: Measure
    long_name: str
    units: str = "1"


def _check(name: str, item: object) -> None:
    if not isinstance(item, TrackingMetric) or not callable(item.measure):
        raise InvalidInputError(f"metric {name!r} must be a TrackingMetric; got {type(item).__name__}.")


TRACKING_METRICS: Registry[TrackingMetric] = Registry(
    "tracking metric", "ditprobe.metrics", check=_check, remedy="register_metric adds one."
)
"""Metrics by name. Other distributions add theirs through the entry-point group ``ditprobe.metrics``."""


@checked
def register_metric(name: str, metric: TrackingMetric, *, replace: bool = False) -> TrackingMetric:
    """Add a tracking metric, so that ``evaluate_tapvid(metrics=[name])`` computes it.

    Parameters
    ----------
    name : str
    metric : TrackingMetric
    replace : bool
        Whether it may replace another metric of this name.

    Raises
    ------
    InvalidInputError
        For an empty name or one that is taken.

    Examples
    --------
    >>> def hidden(found, tracks, visibility, size):
    ...     return float((~found.visibility).mean())
    >>> _ = register_metric("hidden", TrackingMetric(hidden, "points called hidden"), replace=True)
    >>> "hidden" in TRACKING_METRICS
    True
    >>> TRACKING_METRICS.unregister("hidden")
    """
    return TRACKING_METRICS.register(name, metric, replace=replace)


def median_error(found: PointTracks, tracks: Any, visibility: Any, size: tuple[int, int]) -> float:
    """Return the median distance of visible points from the truth, in pixels of a 256 x 256 image.

    The image of each query does not count.

    Examples
    --------
    >>> still = PointTracks.still(np.array([[0, 10.0, 20.0]]), 3)
    >>> truth = np.array([[[10.0, 20.0]], [[13.0, 20.0]], [[16.0, 20.0]]])
    >>> median_error(still, truth, np.ones((3, 1), bool), (128, 128))
    9.0
    """
    counted = _counted(found, visibility)
    difference = (found.tracks - tracks)[counted] * (RASTER / np.array(size[::-1]))
    return float(np.median(np.linalg.norm(difference, axis=-1))) if counted.any() else np.nan


def visibility_brier(found: PointTracks, tracks: Any, visibility: Any, size: tuple[int, int]) -> float:
    """Return the Brier score of the visibility: the mean squared difference from the truth, 0 for a perfect prediction.

    A tracker that declares by ``details["calibrated"]`` that its confidence is the probability of being visible is
    scored by its confidence, any other tracker by visible (1) and hidden (0). The image of each query does not count.

    Notes
    -----
    Brier, "Verification of forecasts expressed in terms of probability" (1950).

    Examples
    --------
    >>> still = PointTracks.still(np.array([[0, 10.0, 20.0]]), 3)
    >>> visibility_brier(still, still.tracks, np.array([[True], [True], [False]]), (128, 128))
    0.5
    """
    later = np.arange(len(visibility))[:, None] != found.queries[:, 0]
    stated = np.asarray(found.confidence if found.details.get("calibrated") else found.visibility, np.float64)
    return float(np.square(stated - visibility)[later].mean()) if later.any() else np.nan


def _counted(found: PointTracks, visibility: Any) -> np.ndarray:
    """The (image, point) pairs that are visible, without the image of each query."""
    later = np.arange(len(visibility))[:, None] != found.queries[:, 0]
    counted: np.ndarray = np.asarray(visibility, bool) & later
    return counted


register_metric("median_error", TrackingMetric(median_error, "median error", "px of a 256 x 256 image"))
register_metric("visibility_brier", TrackingMetric(visibility_brier, "Brier score of visibility"))
