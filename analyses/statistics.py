"""Means over clips, and their intervals under resampling of clips; windows of a clip count as one clip."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from store.arguments import Array, check_kind, checked
from store.arrays import as_array
from store.errors import InvalidInputError


def by_source(values: xr.DataArray) -> xr.DataArray:
    """The mean over the windows of each whole clip, along ``clip``; NaN if no window has a value.

    Parameters
    ----------
    values : DataArray with dim ``clip``; windows of one clip share the coordinate ``source``

    Examples
    --------
    >>> values = xr.DataArray([0.0, 1.0, 5.0], dims="clip", coords={"source": ("clip", ["a", "a", "b"])})
    >>> by_source(values).values.tolist()
    [0.5, 5.0]
    """
    values = values.transpose("clip", ...)
    names = values["source"].values.astype(str) if "source" in values.coords else np.arange(values.sizes["clip"])
    order = list(dict.fromkeys(names.tolist()))
    flat = values.values.astype(np.float64)
    means = np.stack([_mean(flat[names == name]) for name in order])
    coords = {name: coord for name, coord in values.coords.items() if "clip" not in coord.dims}
    return xr.DataArray(means, coords | {"clip": order}, values.dims, attrs=values.attrs, name=values.name)


def mean_over_clips(values: xr.DataArray) -> xr.DataArray:
    """The mean over whole clips that have a value, attrs kept; values without ``clip`` come back as they are.

    Raises
    ------
    InvalidInputError
        For values that are not numbers.

    Examples
    --------
    >>> values = xr.DataArray([0.0, 1.0, 5.0], dims="clip", coords={"source": ("clip", ["a", "a", "b"])})
    >>> mean_over_clips(values).item()
    2.75
    """
    if values.dtype.kind not in "biuf":
        raise InvalidInputError(f"{values.name or 'values'} must hold numbers; got {values.dtype}.")
    if not values.sizes.get("clip", 1):
        raise InvalidInputError(f"{values.name or 'values'} holds no clips.")
    if not isinstance(values, xr.DataArray) or "clip" not in values.dims:
        return values
    whole = by_source(values)
    return whole.isel(clip=0, drop=True).copy(data=_mean(whole.values))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean of the finite values over the first axis; NaN if there are none."""
    seen = np.isfinite(values).sum(0)
    return np.where(seen > 0, np.nansum(values, axis=0) / np.maximum(seen, 1), np.nan)


def interval_levels(clips: int) -> tuple[float, float]:
    """The quantiles of a bootstrap over ``clips`` clips that make a 95 % interval.

    Plain 2.5 and 97.5 % quantiles are too narrow for few clips: the resampled spread lacks the factor n / (n - 1) and
    the tails of Student's t. The expanded levels (Hesterberg, The American Statistician 69, 2015, section 5.3)
    compensate for both.

    Examples
    --------
    >>> [round(level, 4) for level in interval_levels(6)]
    [0.0024, 0.9976]
    """
    if clips < 2:
        return math.nan, math.nan
    low = float(special.ndtr(special.stdtrit(clips - 1, 0.025) * math.sqrt(clips / (clips - 1))))
    return low, 1 - low


def draw_clips(clips: int, samples: int, seed: int) -> np.ndarray:
    """(sample, clip) number of times that each clip is drawn in each bootstrap sample."""
    drawn = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), samples)
    return drawn.astype(np.float64)


def bootstrap_mean(values: xr.DataArray, *, resamples: int = 2000, seed: int = 0) -> tuple[xr.DataArray, xr.DataArray]:
    """A 95 % interval of the mean over clips, by resampling whole clips.

    Parameters
    ----------
    values : DataArray with dim ``clip``; windows of one clip share its ``source`` and count as one
    resamples, seed : number of bootstrap samples, and their seed

    Returns
    -------
    lower, upper : DataArrays without ``clip``; NaN where no clip has a value, or where there is but one source.
        Clips without any value are not drawn. See :func:`interval_levels`.

    Examples
    --------
    >>> lower, upper = bootstrap_mean(xr.DataArray([[1.0], [1.0], [1.0]], dims=("clip", "layer")))
    >>> lower.item(), upper.item()
    (1.0, 1.0)
    """
    whole = by_source(values)
    flat = whole.values.reshape(whole.sizes["clip"], -1)
    with_values = np.isfinite(flat).any(1)
    flat = flat[with_values] if with_values.any() else flat
    count = len(flat)
    seen = np.isfinite(flat).astype(np.float64)
    draws = draw_clips(count, resamples, seed)
    held = draws @ seen
    means = np.where(held > 0, draws @ np.nan_to_num(flat) / np.maximum(held, 1), np.nan)
    ends = np.full((2, flat.shape[1]), np.nan)
    usable = np.isfinite(means).any(0) & (count > 1)
    if usable.any():
        ends[:, usable] = np.nanquantile(means[:, usable], interval_levels(count), axis=0)
    blank = whole.isel(clip=0, drop=True)
    return blank.copy(data=ends[0].reshape(blank.shape)), blank.copy(data=ends[1].reshape(blank.shape))


@checked
def harmonic_mean(accuracy: Array, confidence: Array, attention_score: Array) -> Any:
    """The harmonic mean of the three measures, each scaled to 0-1 over its whole matrix.

    Parameters
    ----------
    accuracy, confidence, attention_score : (layer, step) DataArray or ndarray, in any order of the two axes; cross
        confidence and cross attention score. Leading axes of arrays (bootstrap samples) are kept apart

    Returns
    -------
    DataArray or ndarray like ``accuracy``
        0 where any measure is at its minimum, and everywhere where one is constant; NaN where one is NaN.

    Raises
    ------
    InvalidInputError
        When the shapes or dims differ.

    Notes
    -----
    DiffTrack (Nam et al., 2025), section 3.3; docs/definitions.md, section 4. Take means over clips first.

    Examples
    --------
    >>> harmonic_mean(np.array([[0.0, 100.0]]), np.array([[0.1, 0.2]]), np.array([[0.3, 0.5]]))
    array([[0., 1.]])
    """
    given = {"accuracy": accuracy, "confidence": confidence, "attention_score": attention_score}
    labelled = any(isinstance(array, xr.DataArray) for array in given.values())
    for name, array in given.items():
        check_kind(array, xr.DataArray if labelled else Array, name)
    if labelled:
        return _labelled(accuracy, confidence, attention_score)
    arrays = [as_array(array).astype(np.float64) for array in given.values()]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) != 1 or arrays[0].ndim < 2:
        raise InvalidInputError(
            f"accuracy, confidence and attention_score need one (layer, step) shape; got {', '.join(map(str, shapes))}."
        )
    scaled = np.stack([_scaled(array) for array in arrays])
    positive = np.where(scaled > 0, scaled, 1.0)
    mean = 3.0 / (1.0 / positive).sum(0)
    mean = np.where((scaled == 0).any(0), 0.0, mean)
    return np.where(np.isnan(scaled).any(0), np.nan, mean)


def _labelled(accuracy: xr.DataArray, confidence: xr.DataArray, attention_score: xr.DataArray) -> xr.DataArray:
    others = []
    for name, other in (("confidence", confidence), ("attention_score", attention_score)):
        if set(other.dims) != set(accuracy.dims):
            raise InvalidInputError(f"{name} needs the dims {accuracy.dims}, as accuracy has; got {other.dims}.")
        others.append(other.transpose(*accuracy.dims).values)
    attrs = {"long_name": "harmonic mean of accuracy, cross confidence and cross attention score", "units": "1"}
    return accuracy.copy(data=harmonic_mean(accuracy.values, *others)).rename("harmonic_mean").assign_attrs(attrs)


def _scaled(matrix: np.ndarray) -> np.ndarray:
    """Min-max scaling over the last two axes; a constant matrix becomes 0 and NaN stays NaN."""
    finite = np.isfinite(matrix)
    low = np.where(finite, matrix, np.inf).min((-2, -1), keepdims=True)
    high = np.where(finite, matrix, -np.inf).max((-2, -1), keepdims=True)
    width = np.where(finite.any((-2, -1), keepdims=True), high - low, 0.0)
    return np.where(finite, (np.where(finite, matrix, 0) - np.where(np.isfinite(low), low, 0)), np.nan) / np.where(
        width > 0, width, 1.0
    )
