"""A sweep in a few lines of text."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyses.clips import mean_over_clips
from analyses.layer_selection import By, LayerSelection
from analyses.selection import select_layers

STILL = 90.0  # percent of points that "nothing moves" gets right, above which accuracy tells layers apart badly


def selection_of(sweep: xr.Dataset, count: int | None = None, *, by: By = "last") -> LayerSelection | None:
    """The best layers of a sweep, by default three or as many as there are; None where no clip has true tracks."""
    if not np.isfinite(sweep["accuracy"]).any():
        return None
    return select_layers(sweep, min(3, sweep.sizes["layer"]) if count is None else count, by=by)


def accuracy_table(sweep: xr.Dataset, *, steps: int = 9) -> str:
    """Accuracy by layer (rows) and step (columns) as text, means over clips, at up to ``steps`` steps.

    Examples
    --------
    >>> values = xr.DataArray(np.full((1, 2, 2), 50.0), dims=("clip", "step", "layer"))
    >>> print(accuracy_table(xr.Dataset({"accuracy": values}, {"step": [0, 49], "layer": [3, 4]})))
    accuracy, %, mean over 1 clip; columns are steps
    layer      0     49
        3   50.0   50.0
        4   50.0   50.0
    """
    name = "accuracy" if np.isfinite(sweep["accuracy"]).any() else "confidence"
    values = sweep[name]
    if "target" in values.dims:
        values = values.sel(target="cross", drop=True)
    values = mean_over_clips(values)
    chosen = np.unique(np.linspace(0, values.sizes["step"] - 1, min(steps, values.sizes["step"])).round().astype(int))
    values = values.isel(step=chosen).transpose("layer", "step")
    unit, form = (", %", "7.1f") if name == "accuracy" else (" (cross)", "7.3f")
    clips = len(np.unique(sweep["source"])) if "source" in sweep.coords else sweep.sizes["clip"]
    against = str(sweep.attrs.get("pseudo_truth", "")) if name == "accuracy" else ""
    lines = [f"PSEUDO-TRUTH: {against}"] if against else []
    lines += [f"{name}{unit}, mean over {clips} clip{'s' * (clips != 1)}; columns are steps"]
    lines.append("layer" + "".join(f"{int(step):7d}" for step in values["step"].values))
    for layer, row in zip(values["layer"].values, values.values, strict=True):
        lines.append(f"{int(layer):5d}" + "".join(f"{value:{form}}" for value in row))
    if name == "accuracy" and "static_accuracy" in sweep:
        static = float(mean_over_clips(sweep["static_accuracy"]))
        lines.append(f"nothing moves: {static:.1f} %")
        if static > STILL:
            lines.append("The points hardly move, so accuracy says little here. A larger --stride shows more motion.")
    return "\n".join(lines)
