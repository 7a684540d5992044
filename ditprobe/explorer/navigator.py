"""The layer x step map of a sweep, as values that a front end draws and clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.statistics import mean_over_clips
from store.errors import InvalidInputError

if TYPE_CHECKING:
    import xarray as xr

_SHOWN = ("moving_accuracy", "accuracy", "confidence", "attention_score", "harmonic_mean")


def layer_step_map(sweep: xr.Dataset) -> dict[str, Any]:
    """Every measure of a sweep that is a number for each layer and step, averaged over clips.

    Parameters
    ----------
    sweep : Dataset with the dims ``step`` and ``layer``, as of :func:`analyses.layers.sweep.sweep`

    Returns
    -------
    dict
        ``layers``, ``steps``; ``measures``, of ``name``, ``title``, ``units``, ``values`` (layer, step) with None
        where nothing was measured, and ``baseline``, the same of "nothing moves" if there is one; and ``best``, the
        (step, layer) of the highest moving accuracy, or accuracy, or None.

    Raises
    ------
    InvalidInputError
        For a dataset that is not a sweep.
    """
    if not {"step", "layer"} <= set(sweep.dims) or "accuracy" not in sweep:
        raise InvalidInputError(
            "the sweep needs the dims step and layer and the variable accuracy; it has "
            f"{', '.join(map(str, sweep.dims))}."
        )
    measures = []
    for name in _SHOWN:
        if name not in sweep:
            continue
        values = sweep[name].sel(target="cross") if "target" in sweep[name].dims else sweep[name]
        mean = mean_over_clips(values) if "clip" in values.dims else values
        if not np.isfinite(mean.values).any():
            continue
        title = name.replace("_", " ") + (", cross-frame" if "target" in sweep[name].dims else "")
        measures.append(
            {
                "name": name,
                "title": title,
                "units": str(sweep[name].attrs.get("units", "")),
                "values": _plain(mean.transpose("layer", "step").values),
                "baseline": _baseline(sweep, name),
            }
        )
    best = None
    for measure in measures[:2]:
        found = np.array(measure["values"], float)
        layer, step = np.unravel_index(np.nanargmax(found), found.shape)
        best = [int(sweep["step"].values[step]), int(sweep["layer"].values[layer])]
        break
    return {
        "layers": [int(layer) for layer in sweep["layer"].values],
        "steps": [int(step) for step in sweep["step"].values],
        "measures": measures,
        "best": best,
    }


def _plain(values: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]


def _baseline(sweep: xr.Dataset, name: str) -> float | None:
    """ "Nothing moves" on the same clips, which is 0 on moving points by definition and not shown there."""
    if name != "accuracy" or "static_accuracy" not in sweep:
        return None
    value = float(mean_over_clips(sweep["static_accuracy"]))
    return None if np.isnan(value) else value
