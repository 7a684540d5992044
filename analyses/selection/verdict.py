"""Tests of whether a layer carries correspondence: its accuracy against guesses that need no model."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from scipy import stats

from analyses.selection.draws import by_source_and_draw, draw_weights, weighted_means
from analyses.selection.layer_selection import By
from analyses.statistics import interval_levels, mean_over_clips
from store.arguments import checked
from store.checks import integer
from store.errors import InvalidInputError

ERROR = 0.05
"""Error level: the largest fraction of sweeps without carriers in which one is found."""


MOST_SAMPLES = 100_000
"""Number of bootstrap samples; more only take time."""


@checked
def against_baselines(sweep: xr.Dataset, *, by: By = "last", samples: int = 2000, seed: int = 0) -> xr.Dataset:
    """Each layer against "nothing moves", on all points and on moving ones.

    A layer is a carrier of correspondence if two statements hold together: on all visible points it is right more often
    than "nothing moves", and on moving points, where that guess is never right, it is right more often than any guess
    that does not know the direction (``blind_accuracy``). A statement holds if the lower bound of a one-sided interval
    is above zero. The intervals hold for all layers together with 95 % confidence: they are paired Student's t
    intervals over whole clips, each at 5 % divided by the number of layers (Bonferroni). If there are several noise
    draws, their variance is added.

    Parameters
    ----------
    sweep : Dataset of :func:`analyses.layers.sweep.sweep` whose clips have an accuracy
    by : "last" tests the last step, "mean" the mean over steps
    samples, seed : of the bootstrap over clips and noise draws for the 95 % intervals of the two accuracies

    Returns
    -------
    Dataset over ``layer``
        ``accuracy`` and ``moving_accuracy``, percent, each with ``..._low`` and ``..._high`` of its 95 % interval;
        ``lead`` and ``moving_lead``, percentage points above the baseline, each with ``..._low``, the lower bound of
        the interval for all layers; ``carrier``. Without dims: ``static_accuracy`` and ``blind_accuracy``, the
        baselines; ``pairs`` and ``moving_pairs``. Values that the sweep lacks are NaN.

    Raises
    ------
    InvalidInputError
        For a dataset without accuracy over clips, steps and layers.

    Notes
    -----
    Both tests must pass, so each may use the whole error level of its layer (intersection-union test: Berger,
    Technometrics 24, 1982). An older sweep without ``blind_accuracy`` gets the largest value that its threshold allows.

    Examples
    --------
    >>> accuracy = xr.DataArray([[[60.0, 21.0]], [[70.0, 19.0]], [[65.0, 20.0]]], dims=("clip", "step", "layer"))
    >>> still = {"static_accuracy": ("clip", [20.0, 20.0, 20.0]), "blind_accuracy": ("clip", [10.0, 10.0, 10.0])}
    >>> swept = xr.Dataset({"accuracy": accuracy, "moving_accuracy": accuracy - 10, **still}, {"layer": [3, 4]})
    >>> against_baselines(swept)["carrier"].values.tolist()
    [True, False]
    """
    _check(sweep)
    integer(samples, "samples", min_value=1, max_value=MOST_SAMPLES)
    integer(seed, "seed", min_value=0)
    found = xr.Dataset(coords={"layer": sweep["layer"].values})
    for name, lead, pairs, baseline in (
        ("accuracy", "lead", "pairs", _static(sweep)),
        ("moving_accuracy", "moving_lead", "moving_pairs", _blind(sweep)),
    ):
        values = _at(sweep[name] if name in sweep else sweep["accuracy"] * np.nan, by)
        own, ahead = (_crossed(each) for each in (values, values - baseline))
        found[name] = ("layer", _mean(own))
        clips, draws, _ = own.shape
        low, high = _interval(own, draw_weights(clips, draws, samples, seed))
        found[f"{name}_low"], found[f"{name}_high"] = ("layer", low), ("layer", high)
        tested = max(1, int(np.isfinite(ahead).any((0, 1)).sum()))
        found[lead] = ("layer", _mean(ahead))
        found[f"{lead}_low"] = ("layer", np.maximum(lower_end(ahead, ERROR / tested, _grain(sweep, pairs)), -100.0))
        found[pairs] = _first_draw(sweep)[pairs].sum() if pairs in sweep else math.nan
    found["carrier"] = (found["lead_low"] > 0) & (found["moving_lead_low"] > 0)
    found["static_accuracy"] = float(mean_over_clips(_static(sweep)))
    found["blind_accuracy"] = float(mean_over_clips(_blind(sweep)))
    return found


def lower_end(values: np.ndarray, error: float, grain: float = 0.0) -> np.ndarray:
    """The lower bound of a one-sided interval of the mean of (clip, draw, layer) values, for each layer.

    Parameters
    ----------
    values : NaN where a clip has no value
    error : probability that the mean lies below the bound
    grain : resolution of a clip's value; the spread over clips is assumed to be at least this

    Examples
    --------
    >>> lower_end(np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1), 0.025).round(2).tolist()
    [-0.48]
    """
    clips, of_clips = _spread(values, 0, grain)
    draws, of_draws = _spread(values, 1, 0.0)
    variance = of_clips + np.nan_to_num(of_draws)
    # Satterthwaite's degrees of freedom of the summed variance.
    parts = of_clips**2 / np.maximum(clips - 1, 1) + np.nan_to_num(of_draws) ** 2 / np.maximum(draws - 1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = np.where(parts > 0, variance**2 / parts, np.maximum(clips - 1, 1))
        low = _mean(values) - stats.t.ppf(1 - error, freedom) * np.sqrt(variance)
    return np.where(clips > 1, low, np.nan)


def _check(sweep: xr.Dataset) -> None:
    if "accuracy" not in sweep or sweep["accuracy"].dtype.kind not in "biuf":
        raise InvalidInputError("the sweep has no accuracy in numbers. Pass what sweep or sweep_recording returned.")
    sizes = sweep["accuracy"].sizes
    lacking = [dim for dim in ("clip", "step", "layer") if not sizes.get(dim)]
    if lacking or "layer" not in sweep.variables:
        named = f"({', '.join(map(str, sizes))})"
        raise InvalidInputError(f"the sweep's accuracy needs clips, steps and layers with their numbers; got {named}.")


def _spread(values: np.ndarray, axis: int, grain: float) -> tuple[np.ndarray, np.ndarray]:
    """(layer,) number of clips (axis 0) or draws (axis 1) with a value, and the variance of the mean over them."""
    means = np.moveaxis(_mean(values, 1 - axis), 0, -1)
    count = np.isfinite(means).sum(-1)
    centred = np.where(np.isfinite(means), means - _mean(means, -1)[..., None], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.maximum((centred**2).sum(-1) / (count - 1), grain**2) / count
    return count, np.where(count > 1, variance, np.nan)


def _mean(values: np.ndarray, axis: int | tuple[int, ...] = (0, 1)) -> np.ndarray:
    """Mean of the finite values; NaN if there are none."""
    seen = np.isfinite(values)
    total, count = np.where(seen, values, 0.0).sum(axis), seen.sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _interval(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(2, layer) bounds of the 95 % interval of the mean of (clip, draw, layer) values."""
    with_value = np.isfinite(values).any((1, 2)).sum()
    flat = values.reshape(-1, values.shape[-1])
    ends = np.full((2, values.shape[-1]), np.nan)
    usable = np.isfinite(flat).any(0)
    if with_value > 1 and usable.any():
        means = weighted_means(flat[:, usable], weights)
        ends[:, usable] = np.nanquantile(means, interval_levels(int(with_value)), axis=0)
    return ends


def _at(values: xr.DataArray, by: By) -> xr.DataArray:
    """(clip, layer) values at the last step, or their mean over the steps that were swept."""
    return values.isel(step=-1, drop=True) if by == "last" else values.mean("step", skipna=False)


def _crossed(values: xr.DataArray) -> np.ndarray:
    """(clip, draw, layer) of whole clips."""
    return by_source_and_draw(values).transpose("clip", "draw", "layer").values


def _static(sweep: xr.Dataset) -> xr.DataArray:
    return sweep["static_accuracy"] if "static_accuracy" in sweep else _blank(sweep)


def _blind(sweep: xr.Dataset) -> xr.DataArray:
    """Return the score of a guess without direction on moving points, or an upper bound if the sweep lacks it."""
    threshold = float(sweep.attrs.get("threshold_cells", 1.0))
    most = xr.full_like(_blank(sweep), 100 * math.asin(threshold / max(1.0, threshold)) / math.pi)
    if "blind_accuracy" not in sweep:
        return most
    known = sweep["blind_accuracy"]
    if "moving_accuracy" not in sweep:
        return known
    # Clips that an older version measured and this one continued are assumed to have moving points.
    older = sweep["moving_accuracy"].notnull().any(("step", "layer")) & known.isnull()
    return known.where(~older, most)


def _blank(sweep: xr.Dataset) -> xr.DataArray:
    return xr.full_like(sweep["accuracy"].isel(step=0, layer=0, drop=True), np.nan, dtype=np.float64)


def _first_draw(sweep: xr.Dataset) -> xr.Dataset:
    """The entries of the first draw; all draws have the same pairs."""
    if "draw" not in sweep.coords:
        return sweep
    draws = sweep["draw"].values
    return sweep.isel(clip=np.flatnonzero(draws == draws.min()))


def _grain(sweep: xr.Dataset, pairs: str) -> float:
    """Return the change in percentage by one pair in a clip of median size."""
    if pairs not in sweep:
        return 0.0
    counts = sweep[pairs].values[np.isfinite(sweep[pairs].values) & (sweep[pairs].values > 0)]
    return 100 / float(np.median(counts)) if len(counts) else 0.0
