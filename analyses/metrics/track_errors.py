"""Errors of tracks: by the time since the query, and by threshold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from analyses.arrays import as_tensor, check_visibility
from analyses.metrics.accuracy import check_tracks
from store.arguments import Array, checked
from store.datasets.tapvid_raster import RASTER, THRESHOLDS
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks


@checked
def tracking_errors(
    tracks: PointTracks,
    truth: Array,
    visibility: Array,
    size: tuple[int, int],
    *,
    thresholds: Iterable[float] = THRESHOLDS,
) -> xr.Dataset:
    """The errors of one tracker on one clip.

    Parameters
    ----------
    tracks : PointTracks
    truth : (image, point, 2) float, (x, y) in pixels of the clip: the true track of every query
    visibility : (image, point) bool, the true visibility; hidden points do not count, and their tracks may be NaN
    size : (height, width) of the clip in pixels
    thresholds : pixels of TAP-Vid's 256 x 256 raster

    Returns
    -------
    Dataset over ``lag`` and ``threshold``
        ``lag`` is the number of images since the query, forward or backward in time, 1 to the length of the clip
        less one; the image of the query itself never counts. Over lag: ``error``, the mean distance in pixels of the
        clip; ``median_error``; ``relative_error``, the mean distance with each axis as percent of the image's side;
        ``pairs``, the number of (image, point) pairs in these means. Over threshold: ``within``, the percentage of the
        pairs of all lags that are strictly nearer. NaN if nothing is visible.

    Raises
    ------
    InvalidInputError
        For shapes that do not match, thresholds that are not positive, or a visible point that is NaN.

    Examples
    --------
    A point that moves 3 pixels an image, and a tracker that predicts no motion:

    >>> truth = np.array([[[10.0, 20.0]], [[13.0, 20.0]], [[16.0, 20.0]]])
    >>> still = PointTracks.still(np.array([[0, 10.0, 20.0]]), 3)
    >>> errors = tracking_errors(still, truth, np.ones((3, 1), bool), (128, 128))
    >>> errors.error.values, errors.within.sel(threshold=8).item()
    (array([3., 6.]), 50.0)
    """
    true, visible = as_tensor(truth).cpu().double(), check_visibility(visibility).cpu()
    check_tracks(as_tensor(tracks.tracks), true, visible)
    limits = np.asarray(list(thresholds), np.float64)
    if not limits.size or not (limits > 0).all():
        raise InvalidInputError(f"thresholds must be positive numbers of pixels; got {limits.tolist()}.")
    if min(size) < 1:
        raise InvalidInputError(f"size must be (height, width) in pixels; got {size}.")
    lags = np.abs(np.arange(len(true))[:, None] - tracks.queries[:, 0])
    counted = visible.numpy() & (lags > 0)
    difference = (tracks.tracks - true.numpy())[counted]
    if not np.isfinite(difference).all():
        raise InvalidInputError("a visible point has a true track that is not finite. Mark it as hidden.")
    distance = np.linalg.norm(difference, axis=-1)
    relative = np.linalg.norm(difference / [size[1], size[0]], axis=-1)
    near = relative[:, None] * RASTER < limits
    within = 100 * near.mean(0) if len(near) else np.full(len(limits), np.nan)
    lag = np.arange(1, len(true))
    parts = [lags[counted] == number for number in lag]
    return xr.Dataset(
        {
            "error": _by_lag([distance[part] for part in parts], np.mean, "error", "px"),
            "median_error": _by_lag([distance[part] for part in parts], np.median, "median error", "px"),
            "relative_error": _by_lag(
                [100 * relative[part] for part in parts], np.mean, "error, of the image's side", "%"
            ),
            "pairs": ("lag", np.array([part.sum() for part in parts], np.int64), {"long_name": "visible pairs"}),
            "within": ("threshold", within, {"long_name": "points within the threshold", "units": "%"}),
        },
        {
            "lag": ("lag", lag, {"long_name": "images since the query"}),
            "threshold": (
                "threshold",
                limits,
                {"long_name": "threshold", "units": f"px of a {RASTER} x {RASTER} image"},
            ),
        },
    )


def _by_lag(values: list[np.ndarray], reduce: Any, name: str, units: str) -> tuple[str, np.ndarray, dict[str, str]]:
    found = np.array([reduce(part) if len(part) else np.nan for part in values], np.float64)
    return "lag", found, {"long_name": name, "units": units}


@checked
def gather_errors(errors: Mapping[str, Mapping[str, xr.Dataset]]) -> xr.Dataset:
    """The errors of several trackers on several clips as one Dataset with the further dims ``tracker`` and ``clip``.

    Parameters
    ----------
    errors : results of :func:`tracking_errors` by name of the tracker, then by name of the clip; their order is kept

    Returns
    -------
    Dataset
        NaN (0 for ``pairs``) where a clip is shorter than the longest one, or was not given to a tracker.

    Raises
    ------
    InvalidInputError
        For no trackers, or one without clips.

    Examples
    --------
    >>> still = PointTracks.still(np.array([[0, 10.0, 20.0]]), 3)
    >>> one = tracking_errors(still, still.tracks, still.visibility, (128, 128))
    >>> dict(gather_errors({"nothing moves": {"a": one, "b": one}}).sizes)
    {'tracker': 1, 'clip': 2, 'lag': 2, 'threshold': 5}
    """
    if not errors or not all(errors.values()):
        raise InvalidInputError("there are no errors to gather: at least one clip of one tracker is needed.")
    rows = [
        xr.concat(list(clips.values()), xr.Variable("clip", list(clips)), join="outer", combine_attrs="override")
        for clips in errors.values()
    ]
    gathered = xr.concat(rows, xr.Variable("tracker", list(errors)), join="outer", combine_attrs="override")
    clips = dict.fromkeys(clip for each in errors.values() for clip in each)
    gathered = gathered.reindex(clip=list(clips))
    attrs = gathered.pairs.attrs
    return gathered.assign(pairs=gathered.pairs.fillna(0).astype(np.int64).assign_attrs(attrs))
