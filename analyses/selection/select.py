"""Selection of the layers that carry temporal correspondence, with its uncertainty."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analyses.selection.draws import by_source_and_draw, draw_weights, weighted_means
from analyses.selection.layer_selection import By, Criterion, LayerSelection, Pairs, ranking
from analyses.selection.verdict import MOST_SAMPLES, against_baselines
from analyses.statistics import harmonic_mean, interval_levels
from store.arguments import checked
from store.checks import integer, one_of
from store.errors import InvalidInputError

FEWEST_LAYERS = 4
"""Fewest layers for the harmonic mean: with fewer, most lie at an end of its scale by one of the three measures."""


@checked
def select_layers(
    sweep: xr.Dataset,
    count: int | None = None,
    *,
    by: By = "last",
    criterion: Criterion = "harmonic",
    accuracy: Pairs = "all",
    samples: int = 2000,
    seed: int = 0,
) -> LayerSelection:
    """The layers that carry temporal correspondence, best first, with their uncertainty.

    A layer carries correspondence if it is shown to beat "nothing moves" on all points and a guess without direction on
    moving ones; for the test, see :func:`analyses.selection.verdict.against_baselines`. Without ``count``, exactly
    these layers are selected.

    Parameters
    ----------
    sweep : Dataset of :func:`analyses.layers.sweep.sweep`: ``accuracy`` (clip, step, layer), ``confidence`` and
        ``attention_score`` (clip, step, layer, target)
    count : number of layers to select, whether or not they beat the baselines; the selection states which do not
    by : "last" ranks at the last step of the sweep, "mean" by the mean over its steps
    criterion : what layers are ranked by
        "harmonic" is :func:`harmonic_mean`, the published one. With fewer than four layers, or a measure that is
        constant, its scaling is undefined and layers are ranked by "accuracy" instead; ``note`` states it.
    accuracy : "all" ranks with the accuracy over all points, "moving" with that over the moving ones
    samples : number of bootstrap samples; each draws whole clips with replacement (the windows of a clip, which share
        the coordinate ``source``, are averaged first), and noise draws if there are several, and recomputes the
        ranking. Clips without an accuracy do not count. See :func:`analyses.statistics.interval_levels`
    seed : of the bootstrap

    Returns
    -------
    LayerSelection

    Raises
    ------
    InvalidInputError
        When the sweep lacks a dim or a measure, no clip has an accuracy, or ``count`` is not between 1 and the number
        of layers.

    Notes
    -----
    Tied layers share a rank and the probability of the places they compete for. docs/definitions.md, section 4.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> score = np.linspace(0.1, 0.9, 4) + 0.01 * rng.random((5, 2, 4))
    >>> cross = (("clip", "step", "layer", "target"), score[..., None])
    >>> accuracy = (("clip", "step", "layer"), 100 * score)
    >>> sweep = xr.Dataset(
    ...     {"accuracy": accuracy, "moving_accuracy": accuracy, "confidence": cross, "attention_score": cross},
    ...     {"layer": [2, 3, 5, 8], "step": [0, 49], "target": ["cross"]},
    ... )
    >>> sweep["static_accuracy"] = ("clip", 5 * [50.0])
    >>> select_layers(sweep).layers, select_layers(sweep, 3).layers
    ((8, 5), (8, 5, 3))
    """
    one_of(by, ("last", "mean"), "by")
    one_of(criterion, ("harmonic", "accuracy"), "criterion")
    one_of(accuracy, ("all", "moving"), "accuracy")
    check_sweep(sweep, accuracy)
    if "target" not in sweep.coords or "cross" not in sweep["target"].values:
        raise InvalidInputError("the sweep has no target 'cross'. Pass what sweep or sweep_recording returned.")
    layers = sweep["layer"].values
    if count is not None and not 1 <= integer(count, "count") <= len(layers):
        raise InvalidInputError(f"count must lie between 1 and the {len(layers)} layers of the sweep; got {count}.")
    samples, seed = integer(samples, "samples", min_value=1, max_value=MOST_SAMPLES), integer(seed, "seed", min_value=0)
    scored = scored_clips(sweep)
    measures, (sources, draws) = _measures(scored, accuracy)
    used, note = _usable(measures, criterion)
    mean = _ranked_by(measures, np.ones((1, sources * draws)), by, used)[0]
    known = against_baselines(scored, by=by, samples=samples, seed=seed)
    known["mean"] = ("layer", mean, _units(used))
    order = ranking(known)
    chosen = order[:count] if count is not None else [place for place in order if known["carrier"].values[place]]
    values = _ranked_by(measures, draw_weights(sources, draws, samples, seed), by, used)
    scores = known.assign(_uncertainty(values, max(1, len(chosen)), sources, used))
    if "pseudo_truth" in sweep.attrs:
        note = f"{note} This is {sweep.attrs['pseudo_truth']}.".lstrip()
    return LayerSelection(
        layers=tuple(int(layers[place]) for place in chosen),
        scores=scores,
        count=count,
        by=by,
        step=int(sweep["step"].values[-1]) if by == "last" else None,
        samples=samples,
        seed=seed,
        sources=sources,
        criterion=used,
        accuracy=accuracy,
        draws=draws,
        note=note,
        **_origin(sweep),
    )


def _origin(sweep: xr.Dataset) -> dict[str, Any]:
    """Return the model and the run of a sweep from its attributes."""
    attrs = sweep.attrs
    heads = attrs.get("selected_heads")
    return {
        "steps": None if attrs.get("steps") is None else int(attrs["steps"]),
        "heads": None if heads is None else tuple(int(head) for head in heads),
        "threshold_cells": None if attrs.get("threshold_cells") is None else float(attrs["threshold_cells"]),
        "backbone": str(attrs.get("backbone", "")),
        "config_hash": str(attrs.get("config_hash", "")),
    }


def scored_clips(sweep: xr.Dataset) -> xr.Dataset:
    """The clips (or windows) that have an accuracy; all of them if none has."""
    accuracy = sweep["accuracy"].transpose("clip", ...).values
    scored = np.isfinite(accuracy.reshape(len(accuracy), -1)).any(1)
    return sweep.isel(clip=np.flatnonzero(scored)) if scored.any() else sweep


def check_sweep(sweep: xr.Dataset, accuracy: Pairs = "all") -> None:
    """Raise for a dataset whose layers cannot be ranked.

    Raises
    ------
    InvalidInputError
        When a dim or a measure is missing, or no clip has an accuracy.
    """
    wanted = ["accuracy", *(["moving_accuracy"] if accuracy == "moving" else []), "confidence", "attention_score"]
    missing = [name for name in wanted if name not in sweep]
    if missing:
        raise InvalidInputError(
            f"the sweep has no {', '.join(missing)}; it has {', '.join(map(str, sweep.data_vars))}."
        )
    for name in wanted:
        if sweep[name].dtype.kind not in "biuf":
            raise InvalidInputError(f"the sweep's {name} must hold numbers; got {sweep[name].dtype}.")
    dims = sweep["accuracy"].dims
    lacking = [dim for dim in ("clip", "step", "layer") if dim not in dims]
    if lacking:
        raise InvalidInputError(
            f"the sweep's accuracy has no dim {', '.join(lacking)}; it has ({', '.join(map(str, dims))}). "
            f"How sure a choice is follows from single clips: pass the sweep itself, not a mean or a part of it."
        )
    if not np.isfinite(sweep[wanted[-3]]).any():
        raise InvalidInputError(
            "the sweep has no accuracy: none of its clips has tracks, so its layers cannot be ranked. "
            "Sweep clips with tracks, or give them a tracker's: with_pseudo_tracks(clip)."
        )


def _measures(scored: xr.Dataset, accuracy: Pairs) -> tuple[np.ndarray, tuple[int, int]]:
    """(measure, clip x draw, step, layer) of the three measures, and how many clips and draws."""
    cross = [scored[name].sel(target="cross", drop=True) for name in ("confidence", "attention_score")]
    arrays = (scored["moving_accuracy" if accuracy == "moving" else "accuracy"], *cross)
    found = np.stack([by_source_and_draw(one).transpose("clip", "draw", "step", "layer").values for one in arrays])
    return found.reshape(3, -1, *found.shape[3:]), (found.shape[1], found.shape[2])


def _usable(measures: np.ndarray, criterion: Criterion) -> tuple[Criterion, str]:
    """The criterion that is defined for these measures, and the reason if it is not the requested one."""
    if criterion == "accuracy":
        return criterion, ""
    layers = measures.shape[-1]
    why = ""
    if layers < FEWEST_LAYERS:
        few = f"With {layers} layer{'s' * (layers != 1)}, fewer than {FEWEST_LAYERS}"
        why = f"{few}, the harmonic mean puts most layers at an end of its scale"
    else:
        means = weighted_means(measures.swapaxes(0, 1), np.ones((1, measures.shape[1])))[0].reshape(3, -1)
        names = ("accuracy", "cross confidence", "cross attention score")
        same = [name for name, one in zip(names, means, strict=True) if np.nanmin(one) == np.nanmax(one)]
        if same:
            why = f"The {' and the '.join(same)} is the same everywhere, which makes every harmonic mean 0"
    return ("accuracy", f"{why}; layers are ranked by accuracy alone.") if why else (criterion, "")


def _ranked_by(measures: np.ndarray, weights: np.ndarray, by: By, criterion: Criterion) -> np.ndarray:
    """(sample, layer) values of the weighted means over clips; ``weights`` is (sample, clip x draw)."""
    if criterion == "accuracy":
        values = weighted_means(measures[0], weights)
    else:
        values = harmonic_mean(*(weighted_means(measure, weights) for measure in measures))
    return np.asarray(values[:, -1] if by == "last" else values.mean(1))


def _units(criterion: Criterion) -> dict[str, str]:
    return {"units": "1"} if criterion == "harmonic" else {"units": "%"}


def _uncertainty(values: np.ndarray, top: int, sources: int, criterion: Criterion) -> dict[str, Any]:
    """Interval and probability of the ``top`` from (sample, layer) values."""
    values = values[np.isfinite(values).all(-1)]
    if sources < 2 or not len(values):
        low = high = sure = np.full(values.shape[-1], np.nan)
    else:
        low, high = np.quantile(values, interval_levels(sources), axis=0)
        sure = in_top(values, top).mean(0)
    return {
        "low": ("layer", low, _units(criterion)),
        "high": ("layer", high, _units(criterion)),
        "probability": ("layer", sure, {"long_name": f"probability of being in the top {top}", "units": "1"}),
    }


def in_top(values: np.ndarray, count: int) -> np.ndarray:
    """(sample, layer) fraction of a place in the top ``count``; ties share the remaining places."""
    better = (values[:, None, :] > values[:, :, None]).sum(-1)
    level = (values[:, None, :] == values[:, :, None]).sum(-1)
    return np.clip((count - better) / level, 0, 1)
