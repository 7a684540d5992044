"""A sweep in a few lines of text."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyses.layers.closer_ranks import closer_ranks
from analyses.selection.layer_selection import By, Criterion, LayerSelection, Pairs
from analyses.selection.select import select_layers
from analyses.selection.verdict import against_baselines
from analyses.statistics import mean_over_clips
from ditprobe.cli.text.tables import plain_table
from store.text import counted

STILL = 90.0  # percentage of points that "nothing moves" gets right, above which accuracy hardly distinguishes layers


def select_from_sweep(
    sweep: xr.Dataset,
    count: int | None = None,
    *,
    by: By = "last",
    criterion: Criterion = "harmonic",
    accuracy: Pairs = "all",
) -> LayerSelection | None:
    """Select the layers of a sweep that carry correspondence, or the best ``count``; None without true tracks."""
    if not np.isfinite(sweep["accuracy"]).any():
        return None
    return select_layers(sweep, count, by=by, criterion=criterion, accuracy=accuracy)


def accuracy_table(sweep: xr.Dataset, *, steps: int = 9) -> str:
    """Accuracy of all and of moving points by layer (rows) and step (columns) as text, at up to ``steps`` steps.

    Each is followed by the scores of guesses without a model. Sweeps without true tracks show confidence instead.

    Examples
    --------
    >>> values = xr.DataArray(np.full((1, 2, 2), 50.0), dims=("clip", "step", "layer"))
    >>> swept = xr.Dataset({"accuracy": values}, {"step": [0, 49], "layer": [3, 4]}, {"threshold_cells": 0.5})
    >>> print(accuracy_table(swept))
    accuracy within 0.5 cells, %, mean over 1 clip; columns are steps
    layer      0     49
        3   50.0   50.0
        4   50.0   50.0
    """
    sources = len(np.unique(sweep["source"])) if "source" in sweep.coords else sweep.sizes["clip"]
    clips = f"mean over {counted(sources, 'clip')}; columns are steps"
    if not np.isfinite(sweep["accuracy"]).any():
        cross = sweep["confidence"].sel(target="cross", drop=True)
        return "\n".join([f"confidence (cross), {clips}", *_rows(cross, steps, ".3f")])
    threshold = sweep.attrs.get("threshold_cells")
    within = "" if threshold is None else f" within {counted(threshold, 'cell')}"
    pseudo = [f"PSEUDO-TRUTH: {sweep.attrs['pseudo_truth']}"] if sweep.attrs.get("pseudo_truth") else []
    lines = [*pseudo, f"accuracy{within}, %, {clips}", *_rows(sweep["accuracy"], steps, ".1f")]
    known = against_baselines(sweep, samples=1)
    static, blind, moving = (float(known[name]) for name in ("static_accuracy", "blind_accuracy", "moving_pairs"))
    if np.isfinite(static):
        lines.append(f"nothing moves: {static:.1f} %")
    if static > STILL:
        lines.append("The points hardly move, so accuracy says little here. A larger --stride shows more motion.")
    if "moving_accuracy" in sweep:
        pairs = "" if np.isnan(moving) else f" ({counted(int(moving), 'pair')} that moved)"
        lines += ["", f"accuracy on moving points{pairs}{within}, %"]
        lines += _rows(sweep["moving_accuracy"], steps, ".1f")
        lines.append(f"nothing moves: 0.0 %; a guess without direction: at most {blind:.1f} %")
    return "\n".join(lines)


def closer_table(found: xr.Dataset) -> str:
    """Layers (rows) in whole images and in following crops as text, with their ranks, and heads below.

    Examples
    --------
    >>> over = ("clip", "layer")
    >>> found = xr.Dataset({"accuracy": (over, [[30.0, 40.0]]), "closer_accuracy": (over, [[60.0, 50.0]])})
    >>> found = found.assign(coarse_accuracy=("clip", [40.0])).assign_coords(clip=["a"], layer=[3, 4])
    >>> print(closer_table(found.assign_attrs(level=2, follow=4)))
    position accuracy, %, mean over 1 clip; crops 2 times closer that follow layer 4
     layer    whole   rank    crops   rank                   gain
         3     30.0      2     60.0      1                  +20.0
         4     40.0      1     50.0      2                  +10.0
    the tracks that the crops follow: 40.0 %
    """
    sources = len(np.unique(found["source"])) if "source" in found.coords else found.sizes["clip"]
    ranks = closer_ranks(found)
    lines = [
        f"position accuracy, %, mean over {counted(sources, 'clip')}; crops {found.attrs['level']} times closer that "
        f"follow layer {found.attrs['follow']}"
    ]
    rows = []
    for layer in ranks["layer"].values:
        one = ranks.sel(layer=layer)
        numbers = [float(one[name]) for name in ("accuracy", "rank", "closer_accuracy", "closer_rank")]
        whole, rank, crops, closer_rank = numbers
        ends = [float(one[name]) for name in ("gain_lower", "gain_upper")]
        interval = "" if np.isnan(ends[0]) else f" ({ends[0]:+.1f} to {ends[1]:+.1f})"
        gain = f"{float(one['gain']):+.1f}{interval}"
        rows.append((str(int(layer)), f"{whole:.1f}", f"{rank:.0f}", f"{crops:.1f}", f"{closer_rank:.0f}", gain))
        if "head_accuracy" in found:
            for head in found["head"].values:
                of_head = found.sel(layer=layer, head=head)
                means = [float(mean_over_clips(of_head[f"head_{name}accuracy"])) for name in ("", "closer_")]
                rows.append((f"h{int(head)}", f"{means[0]:.1f}", "", f"{means[1]:.1f}", "", ""))
    columns = [("layer", 6), ("whole", 7), ("rank", 5), ("crops", 7), ("rank", 5), ("gain", 21)]
    lines += plain_table(columns, rows, left=())
    coarse = float(mean_over_clips(found["coarse_accuracy"]))
    lines.append(f"the tracks that the crops follow: {coarse:.1f} %")
    return "\n".join(lines)


def _rows(values: xr.DataArray, steps: int, form: str) -> list[str]:
    """Table with a line for each layer and a column for each step."""
    values = mean_over_clips(values)
    chosen = np.unique(np.linspace(0, values.sizes["step"] - 1, min(steps, values.sizes["step"])).round().astype(int))
    values = values.isel(step=chosen).transpose("layer", "step")
    columns = [("layer", 5), *((str(int(step)), 5) for step in values["step"].values)]
    rows = zip(values["layer"].values, values.values, strict=True)
    return plain_table(
        columns, [(str(int(layer)), *(format(value, form) for value in row)) for layer, row in rows], left=()
    )
