"""Classes of heads over several clips, with intervals, so that a head can be undecided, and their stability."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from scipy import stats

from analyses.arrays import need_dims
from analyses.heads.classify import CLASSES, MARGINS, exact_classes, log_ratio
from analyses.statistics import bootstrap_mean, by_source, draw_clips, interval_levels, mean_over_clips
from store.arguments import checked
from store.checks import finite
from store.errors import InvalidInputError


@checked
def head_log_ratio(masses: xr.Dataset) -> xr.DataArray:
    """Logarithm of the temporal over the spatial density of each head, by the exact rule of :func:`classify_heads`.

    Parameters
    ----------
    masses : Dataset of :func:`analyses.heads.sweep.sweep_heads`

    Returns
    -------
    DataArray (clip, step, layer, head); above 0 the same place in other frames has more weight than the own frame

    Raises
    ------
    InvalidInputError
        For a dataset without masses.

    Examples
    --------
    >>> dims = ("clip", "step", "layer", "head", "target")
    >>> target = ["own_frame", "same_place"]
    >>> masses = xr.Dataset({"mass": (dims, [[[[[0.2, 0.4]]]]]), "uniform": (dims[:3] + dims[4:], [[[[0.2, 0.2]]]])})
    >>> round(float(head_log_ratio(masses.assign_coords(target=target)).item()), 3)
    0.693
    """
    if not {"mass", "uniform"} <= set(masses.data_vars) or not {"own_frame", "same_place"} <= set(_targets(masses)):
        raise InvalidInputError(
            "masses needs the variables mass and uniform over target: pass what sweep_heads returns."
        )
    mass = need_dims("mass", masses["mass"], ("clip", "step", "layer", "head", "target"))
    density = mass / need_dims("uniform", masses["uniform"], ("clip", "step", "layer", "target"))
    values = log_ratio(density.sel(target="same_place").values, density.sel(target="own_frame").values)
    ratio = density.sel(target="same_place", drop=True).copy(data=values)
    ratio.attrs = {"long_name": "ln(temporal / spatial density)", "units": "1"}
    return ratio.rename("log_ratio")


def _targets(masses: xr.Dataset) -> list[str]:
    return [str(name) for name in masses.coords["target"].values.ravel()] if "target" in masses.coords else []


@checked
def decide_heads(masses: xr.Dataset, *, step: int | None = None, margin: float | None = None) -> xr.Dataset:
    """Classes of heads that hold over clips: a head is undecided where the interval does not leave the margin.

    Parameters
    ----------
    masses : Dataset of :func:`analyses.heads.sweep.sweep_heads`
    step : int, optional
        One of the measured steps, the last by default.
    margin : at least 1, optional
        Factor by which one density must exceed the other; 1.25 by default.

    Returns
    -------
    Dataset over ``layer`` and ``head``
        ``log_ratio``, its 95 % interval over clips ``lower`` and ``upper``, ``class`` ("temporal" where ``lower`` is
        above ln(margin), "spatial" where ``upper`` is below -ln(margin), else "undecided"), and ``agreement``, the
        fraction of clips for which the exact rule gives the same class. Each interval holds for one head at a time.
        With a single clip there is no interval, and every head is undecided.

    Raises
    ------
    InvalidInputError
        For a step that was not measured or a margin below 1.

    Examples
    --------
    >>> dims = ("clip", "step", "layer", "head", "target")
    >>> mass = np.broadcast_to([[0.1, 0.4], [0.4, 0.1]], (3, 1, 1, 2, 2))
    >>> coords = {"target": ["own_frame", "same_place"], "step": [49]}
    >>> uniform = (dims[:3] + dims[4:], np.full((3, 1, 1, 2), 0.2))
    >>> decide_heads(xr.Dataset({"mass": (dims, mass), "uniform": uniform}, coords))["class"].values.tolist()
    [['temporal', 'spatial']]
    """
    margin = finite(MARGINS["exact"] if margin is None else margin, "margin", min_value=1)
    ratio = head_log_ratio(masses)
    known = ratio["step"].values.tolist()
    chosen = known[-1] if step is None else step
    if chosen not in known:
        raise InvalidInputError(f"step {chosen} was not measured. Measured: {', '.join(map(str, known))}.")
    ratio = ratio.sel(step=chosen)
    mean, (lower, upper) = mean_over_clips(ratio), bootstrap_mean(ratio)
    border = math.log(margin)
    kinds = np.select([lower.values > border, upper.values < -border], ["temporal", "spatial"], "undecided")
    single = exact_classes(by_source(ratio).values, border)
    found = xr.Dataset({"log_ratio": mean, "lower": lower, "upper": upper})
    found["class"] = (mean.dims, kinds)
    found["agreement"] = (mean.dims, (single == kinds).mean(0))
    return found.assign_attrs(
        masses.attrs | {"step": chosen, "margin": margin, "clips": by_source(ratio).sizes["clip"]}
    )


@checked
def head_stability(masses: xr.Dataset, *, margin: float | None = None) -> xr.Dataset:
    """Return how much classes and their order depend on the step of the run and on the draw of the noise.

    Parameters
    ----------
    masses : Dataset of :func:`analyses.heads.sweep.sweep_heads`, of several steps or draws
    margin : as in :func:`decide_heads`

    Returns
    -------
    Dataset
        ``step_correlation`` (step, other_step): Spearman correlation over all heads of the mean log ratios at two
        steps; ``draw_correlation`` (draw, other_draw) the same for two draws, at the last step; ``class`` (step,
        layer, head); ``count`` (step, class) of heads by class.

    Examples
    --------
    >>> dims = ("clip", "step", "layer", "head", "target")
    >>> mass = np.broadcast_to([[0.1, 0.4], [0.4, 0.1]], (3, 2, 1, 2, 2))
    >>> coords = {"target": ["own_frame", "same_place"], "step": [0, 49]}
    >>> uniform = (dims[:3] + dims[4:], np.full((3, 2, 1, 2), 0.2))
    >>> stable = head_stability(xr.Dataset({"mass": (dims, mass), "uniform": uniform}, coords))
    >>> stable["step_correlation"].values.round(2).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    ratio = head_log_ratio(masses)
    steps = ratio["step"].values
    by_step = mean_over_clips(ratio).transpose("step", ...).values.reshape(len(steps), -1)
    draws = np.unique(ratio["draw"].values) if "draw" in ratio.coords else np.zeros(1, int)
    last = ratio.isel(step=-1)
    by_draw = np.stack(
        [
            mean_over_clips(
                last if len(draws) == 1 else last.isel(clip=np.flatnonzero(last["draw"] == draw))
            ).values.ravel()
            for draw in draws
        ]
    )
    decided = [decide_heads(masses, step=int(step), margin=margin) for step in steps]
    kinds = xr.concat([each["class"] for each in decided], "step").assign_coords(step=steps)
    counts = np.array([[int((kinds.sel(step=step) == name).sum()) for name in CLASSES] for step in steps])
    return xr.Dataset(
        {
            "step_correlation": (("step", "other_step"), _rank_correlations(by_step)),
            "draw_correlation": (("draw", "other_draw"), _rank_correlations(by_draw)),
            "class": kinds,
            "count": (("step", "kind"), counts),
        },
        {"step": steps, "other_step": steps, "draw": draws, "other_draw": draws, "kind": list(CLASSES)},
    )


def _rank_correlations(rows: np.ndarray) -> np.ndarray:
    """Spearman correlations of every two rows."""
    ranks = stats.rankdata(rows, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(ranks)) if len(rows) > 1 else np.ones((1, 1))


@checked
def head_rank_correlation(
    a: xr.DataArray, b: xr.DataArray, *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Spearman correlation over heads of two measures of the same clips, with a 95 % interval over clips.

    Parameters
    ----------
    a, b : DataArray (clip, layer, head)
        Two measures, for example the log ratio and the accuracy of moving points; the mean over clips is ranked.
        Clips are matched by ``source`` (or ``clip``); others are left out.
    resamples, seed : number of bootstrap samples, and their seed

    Returns
    -------
    correlation, lower, upper : float
        The interval resamples whole clips and keeps the heads: it covers the effect of other clips on the correlation
        of these heads, not of another model's.

    Raises
    ------
    InvalidInputError
        Where the measures share fewer than two clips or have other layers and heads.

    Examples
    --------
    >>> values = xr.DataArray(np.arange(12.0).reshape(2, 2, 3), dims=("clip", "layer", "head"))
    >>> [round(value, 6) for value in head_rank_correlation(values, -values)]
    [-1.0, -1.0, -1.0]
    """
    dims = ("clip", "layer", "head")
    one, two = (by_source(need_dims(name, values, dims)) for name, values in (("a", a), ("b", b)))
    one, two = xr.align(one, two, join="inner")
    if one.sizes["clip"] < 2 or not one.sizes["layer"] or one.sizes["head"] < 1 or one.shape != two.shape:
        raise InvalidInputError("the measures need at least two clips, and the layers and heads, in common.")
    first, second = (values.values.reshape(len(values), -1) for values in (one, two))
    weights = draw_clips(len(first), resamples, seed) / len(first)
    drawn_first, drawn_second = weights @ first, weights @ second
    ranks = [stats.rankdata(values, axis=1) for values in (drawn_first, drawn_second)]
    centred = [values - values.mean(1, keepdims=True) for values in ranks]
    norms = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    drawn = (centred[0] * centred[1]).sum(1) / np.where(norms > 0, norms, np.nan)
    lower, upper = np.nanquantile(drawn, interval_levels(len(first)))
    return float(stats.spearmanr(first.mean(0), second.mean(0)).statistic), float(lower), float(upper)
