"""Differences of measures between two models, prompts or seeds, clip by clip and labelled as differences."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from store.errors import InvalidInputError

Measured = TypeVar("Measured", xr.DataArray, xr.Dataset)

PERCENT = ("%", "percent")
POINTS = "percentage points"
# Attribute of differences: what was subtracted.
MARK = "difference_of"
# Measures that are never negative: an array of one with a negative value must be a difference.
_MEASURE = re.compile(
    r"(head_)?((moving_|feature_|static_|occlusion_)?accuracy|confidence|attention_score|harmonic_mean)"
    r"|error|within|jaccard|(pts_within|jaccard)_\d+|average_pts_within_thresh|average_jaccard"
)
_RELATIVE = "harmonic_mean"
# Settings in which two sweeps must agree for their accuracies to be comparable.
_SETTINGS = {"threshold_cells": "threshold in cells", "preset": "preset"}
_LONGEST = 30  # longest name in a title, in letters; a longer one is replaced by the variable's own


def difference(first: Measured, second: Measured) -> Measured:
    """Return ``first`` minus ``second``, marked as a difference, so that pictures draw it as one.

    Parameters
    ----------
    first, second : DataArrays of one measure, or Datasets of :func:`analyses.layers.sweep.sweep`
        Over the same clips, steps, layers (and heads, targets, trackers), in any order. Clips are paired by name.

    Returns
    -------
    DataArray or Dataset, as given
        Percent become percentage points. Coordinates that differ, such as timesteps of two schedules, are left out. A
        Dataset holds the measures per clip, step and layer that both have.

    Raises
    ------
    InvalidInputError
        For different measures, clips, steps, layers, thresholds or presets, and for the harmonic mean, which each sweep
        scales to its own range.

    Examples
    --------
    >>> a = xr.DataArray([30.0, 80.0], {"layer": [0, 1]}, "layer", "accuracy", {"units": "%"})
    >>> found = difference(a, a.copy(data=[40.0, 50.0]))
    >>> found.values.tolist(), found.attrs["units"]
    ([-10.0, 30.0], 'percentage points')
    """
    if isinstance(first, xr.Dataset) and isinstance(second, xr.Dataset):
        check_settings(first, second)
        names = [name for name in first if name in second and _MEASURE.fullmatch(str(name)) and name != _RELATIVE]
        names = [name for name in names if {"step", "layer"} <= set(first[name].dims)]
        if not names:
            raise InvalidInputError("the two sweeps share no measure over steps and layers.")
        return xr.Dataset({name: difference(first[name], second[name]) for name in names})
    if not (isinstance(first, xr.DataArray) and isinstance(second, xr.DataArray)):
        raise InvalidInputError(
            f"two DataArrays or two Datasets are needed; got {type(first).__name__} and {type(second).__name__}."
        )
    for each in (first, second):
        if each.dtype.kind not in "iuf":
            raise InvalidInputError(f"a difference is of numbers; got {each.dtype}.")
    _check_alike(first, second)
    for dim in first.dims:
        second = _aligned(str(dim), first, second)
    second = second.transpose(*first.dims)
    alike = [name for name in first.coords if name in second.coords and first[name].equals(second[name])]
    kept = first.drop_vars([name for name in first.coords if name not in alike and name not in first.dims])
    return marked(kept.copy(data=first.values - second.values))


def is_difference(values: xr.DataArray) -> bool:
    """Return whether an array is marked as a difference.

    Examples
    --------
    >>> is_difference(xr.DataArray([1.0]))
    False
    """
    return MARK in values.attrs


def has_negative(values: xr.DataArray) -> bool:
    """Return whether an array holds a finite value below 0.

    Examples
    --------
    >>> has_negative(xr.DataArray([np.nan, -1.0])), has_negative(xr.DataArray([0.0]))
    (True, False)
    """
    return bool((values.values[np.isfinite(values.values)] < 0).any())


def mark_difference(values: xr.DataArray) -> xr.DataArray:
    """Return an array, marked as a difference if it must be one: if a measure that is never negative has negative
    values.

    ``a - b`` of xarray keeps the name and the unit of ``a``: without the mark, a picture would call it an accuracy.

    Raises
    ------
    InvalidInputError
        For a difference of harmonic means.

    Examples
    --------
    >>> mark_difference(xr.DataArray([-3.0], dims="layer", attrs={"units": "%"}, name="accuracy")).attrs["units"]
    'percentage points'
    """
    if not isinstance(values, xr.DataArray) or is_difference(values) or not has_negative(values):
        return values
    measure = values.attrs.get("units") in PERCENT or _MEASURE.fullmatch(str(values.name))
    return marked(values) if measure else values


def marked(values: xr.DataArray) -> xr.DataArray:
    """Return an array as the difference of the measure that its name and attributes state.

    Raises
    ------
    InvalidInputError
        For a difference of harmonic means.

    Examples
    --------
    >>> marked(xr.DataArray([3.0], attrs={"units": "%", "long_name": "accuracy"})).attrs
    {'units': 'percentage points', 'long_name': 'difference of accuracy', 'difference_of': 'accuracy'}
    """
    if values.name == _RELATIVE:
        raise InvalidInputError(
            "harmonic means are scaled to the layers and steps of their own sweep, so two cannot be subtracted. "
            "Compare accuracy, confidence or attention_score."
        )
    of = quantity(values)
    percent = {"units": POINTS} if values.attrs.get("units") in PERCENT else {}
    return values.assign_attrs(percent | {"long_name": f"difference of {of}", MARK: of})


def quantity(values: xr.DataArray) -> str:
    """Return the quantity of an array, short enough for a title: its long name, or its own.

    Examples
    --------
    >>> quantity(xr.DataArray([1.0], name="accuracy", attrs={"long_name": "accuracy of the matching of every point"}))
    'accuracy'
    """
    if is_difference(values):
        return f"difference of {values.attrs[MARK]}"
    name = str(values.attrs.get("long_name", values.name or "value"))
    return str(values.name).replace("_", " ") if len(name) > _LONGEST and values.name else name


def check_settings(first: xr.Dataset, second: xr.Dataset) -> None:
    """Raise if two sweeps were measured with different thresholds or presets.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_settings(xr.Dataset(attrs={"preset": "exact"}), xr.Dataset(attrs={"preset": "exact"}))
    """
    for name, text in _SETTINGS.items():
        ours, theirs = first.attrs.get(name), second.attrs.get(name)
        if ours != theirs:
            raise InvalidInputError(
                f"the sweeps differ in their {text}: {ours} and {theirs}, so their accuracies do not mean the same. "
                "Sweep both alike."
            )


def _check_alike(first: xr.DataArray, second: xr.DataArray) -> None:
    ours, theirs = ((each.name, each.attrs.get("units", "")) for each in (first, second))
    if ours != theirs:
        raise InvalidInputError(f"two measures cannot be subtracted: {_named(*ours)} and {_named(*theirs)}.")
    if set(first.dims) != set(second.dims):
        raise InvalidInputError(
            f"both need the same dims; got ({', '.join(map(str, first.dims))}) and "
            f"({', '.join(map(str, second.dims))}). Take the same means or selections of both."
        )


def _named(name: Any, units: Any) -> str:
    return f"{name} [{units}]" if units not in ("", "1") else str(name)


def _aligned(dim: str, first: xr.DataArray, second: xr.DataArray) -> xr.DataArray:
    """``second`` in the order of ``first`` along a dim."""
    if dim not in first.coords or dim not in second.coords:
        if first.sizes[dim] != second.sizes[dim]:
            raise InvalidInputError(f"first has {first.sizes[dim]} along {dim} and second {second.sizes[dim]}.")
        return second
    ours, theirs = first[dim].values.tolist(), second[dim].values.tolist()
    lone = [f"only first has {dim} {each}" for each in ours if each not in theirs]
    lone += [f"only second has {dim} {each}" for each in theirs if each not in ours]
    if lone:
        means = ", or subtract means over clips: mean_over_clips(...)" if dim == "clip" else ""
        raise InvalidInputError(f"{'; '.join(lone[:4])}. Choose what both have with .sel({dim}=[...]){means}.")
    return second.sel({dim: ours})
