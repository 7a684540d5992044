"""The linked view of a sweep: maps of all measures over layer and step; a cell opens its heads and its curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from analyses.plots.theme import evenly, numbers
from analyses.selection.layer_selection import LayerSelection
from analyses.statistics import bootstrap_mean, mean_over_clips
from ditprobe.report import words
from ditprobe.report.sweep import measures
from ditprobe.report.views import rounded

MOST_HEAD_VALUES = 300_000
"""Largest number of values of single heads in a page: more steps are thinned out."""
_SHORT = {
    "moving_accuracy": "Moving points",
    "feature_accuracy": "Features",
    "attention_score": "Attention score",
    "confidence": "Confidence",
}
_BASELINES = {
    "accuracy": ("static_accuracy", "“nothing moves”"),
    "feature_accuracy": ("static_accuracy", "“nothing moves”"),
    "moving_accuracy": ("blind_accuracy", "the most of a guess without direction"),
}


def linked_data(sweep: xr.Dataset, selection: LayerSelection | None) -> dict[str, Any]:
    """Return the data of the view: means over clips, their intervals, and the scores of each head.

    Parameters
    ----------
    sweep : Dataset of :func:`analyses.layers.sweep.sweep`
    selection : LayerSelection, or None where no clip has true tracks
    """
    steps, layers = numbers(sweep, "step").tolist(), numbers(sweep, "layer").tolist()
    selected = list(selection.layers) if selection is not None else []
    chosen = (selection.layers or selection.ranked)[0] if selection is not None else layers[-1]
    step = steps[-1] if selection is None or selection.step is None else selection.step
    head_steps = _head_steps(sweep)
    timed = "timestep" in sweep.coords and sweep["timestep"].dims == ("step",)
    return {
        "steps": steps,
        "times": rounded(sweep["timestep"].values) if timed else None,
        "layers": layers,
        "selected": selected,
        "layer": layers.index(chosen),
        "step": steps.index(step),
        "measures": [
            _measure(sweep, name, digits, heading, values, head_steps)
            for name, digits, heading, values in measures(sweep)
        ],
        "heads": numbers(sweep, "head").tolist() if "head" in sweep.dims else [],
        "headSteps": [steps[place] for place in head_steps],
    }


def _measure(
    sweep: xr.Dataset, name: str, digits: str, heading: str, values: xr.DataArray, head_steps: Sequence[int]
) -> dict[str, Any]:
    percent = name.endswith("accuracy")
    mean = mean_over_clips(values).transpose("layer", "step")
    finite = mean.values[np.isfinite(mean.values)]
    high = 100.0 if percent else 1.0 if name == "harmonic_mean" else float(finite.max(initial=0.0)) or 1.0
    found: dict[str, Any] = {
        "heading": _SHORT.get(name, heading),
        "unit": "%" if percent else "",
        "digits": int(digits[1:-1]),
        "low": 0.0,
        "high": high,
        "lowText": "0",
        "highText": "100 %" if percent else f"{high:.2g}",
        "mean": rounded(mean.values),
    }
    if "clip" in values.dims and words.source_count(sweep) > 1:
        ends = (each.transpose("layer", "step").values for each in bootstrap_mean(values))
        found["lower"], found["upper"] = (rounded(each) for each in ends)
    baseline, label = _BASELINES.get(name, ("", ""))
    if words.recorded(sweep, baseline):
        found |= {"baseline": float(mean_over_clips(sweep[baseline])), "baselineName": label}
    if words.recorded(sweep, f"head_{name}"):
        heads = sweep[f"head_{name}"].isel(step=list(head_steps))
        heads = heads.sel(target="cross", drop=True) if "target" in heads.dims else heads
        single = mean_over_clips(heads).transpose("step", "layer", "head").values
        found["heads"] = rounded(single)
        found["headHigh"] = 100.0 if percent else float(np.nanmax(single)) or 1.0
    return found


def _head_steps(sweep: xr.Dataset) -> list[int]:
    """Positions of the steps whose heads the page holds: all, or evenly spaced ones including the last."""
    if "head" not in sweep.dims:
        return [0]
    measured = sum(words.recorded(sweep, f"head_{name}") for name, *_ in measures(sweep))
    each = max(1, measured) * sweep.sizes["layer"] * sweep.sizes["head"]
    return evenly(sweep.sizes["step"], max(1, MOST_HEAD_VALUES // each))
