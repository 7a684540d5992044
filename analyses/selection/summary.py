"""A sweep in a few lines: the run, the verdict, and every layer next to the baselines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyses.selection.layer_selection import LayerSelection
from analyses.selection.select import select_layers
from analyses.statistics import mean_over_clips
from store.arguments import checked
from store.errors import InvalidInputError
from store.text import counted

_MEASURES = ("accuracy", "moving_accuracy", "feature_accuracy", "confidence", "attention_score")


@dataclass(frozen=True, eq=False, repr=False)
class SweepSummary:
    """A sweep as text, and as a table in a notebook.

    Attributes
    ----------
    heading : the model, the clips, the layers and the steps
    selection : LayerSelection, or None where no clip has true tracks
    best : for each measure, the layer and step with the highest mean, in words

    Examples
    --------
    >>> SweepSummary("Sweep of mini", None, ("accuracy  60.0 at layer 4, step 49",))
    Sweep of mini
      accuracy  60.0 at layer 4, step 49
    """

    heading: str
    selection: LayerSelection | None
    best: tuple[str, ...]

    def _repr_html_(self) -> str:
        from store.notebook import repr_html

        return repr_html(repr(self))

    def __repr__(self) -> str:
        chosen = [] if self.selection is None else [repr(self.selection)]
        return "\n".join([self.heading, *(f"  {line}" for line in self.best), *chosen])


@checked
def summarise_sweep(sweep: xr.Dataset) -> SweepSummary:
    """Summarise a sweep: its run, the maximum of each measure, and the layers that carry correspondence.

    Parameters
    ----------
    sweep : Dataset of :func:`analyses.layers.sweep.sweep`

    Returns
    -------
    SweepSummary
        In a notebook it is a table; printed, it is text.

    Raises
    ------
    InvalidInputError
        For a dataset without clips, steps and layers.

    Examples
    --------
    >>> values = np.array([[[10.0, 60.0], [20.0, 70.0]]])
    >>> swept = xr.Dataset({"confidence": (("clip", "step", "layer"), values)}, {"step": [0, 49], "layer": [3, 4]})
    >>> summarise_sweep(swept)
    Sweep: 1 clip, 2 layers, 2 steps
      confidence  70 at layer 4, step 49
    """
    missing = [dim for dim in ("clip", "step", "layer") if not sweep.sizes.get(dim)]
    if missing or not {"step", "layer"} <= set(sweep.coords):
        raise InvalidInputError(
            "the sweep needs clips, and steps and layers with their numbers. Pass what sweep returned."
        )
    clips = len(np.unique(sweep["source"].values)) if "source" in sweep.coords else sweep.sizes["clip"]
    sizes = [counted(clips, "clip"), *(counted(sweep.sizes[dim], dim) for dim in ("layer", "step"))]
    model = sweep.attrs.get("backbone") or sweep.attrs.get("model")
    heading = f"Sweep{f' of {model}' if model else ''}: {', '.join(sizes)}"
    best = tuple(_highest(sweep[name]) for name in _MEASURES if name in sweep and np.isfinite(sweep[name].values).any())
    return SweepSummary(heading, _selected(sweep), best)


def _highest(values: xr.DataArray) -> str:
    name, percent = str(values.name).replace("_", " "), values.attrs.get("units") in ("%", "percent")
    values = values.sel(target="cross", drop=True) if "target" in values.coords else values
    if set(values.dims) != {"clip", "step", "layer"}:
        raise InvalidInputError(f"the sweep's {name} needs dims (clip, step, layer) and a target 'cross'.")
    mean = mean_over_clips(values).transpose("layer", "step")
    if not np.isfinite(mean.values).any():
        return f"{name}  not recorded"
    layer, step = np.unravel_index(int(np.nanargmax(mean.values)), mean.shape)
    number = f"{mean.values[layer, step]:.1f} %" if percent else f"{mean.values[layer, step]:.3g}"
    return f"{name}  {number} at layer {mean['layer'].values[layer]}, step {mean['step'].values[step]}"


def _selected(sweep: xr.Dataset) -> LayerSelection | None:
    if "accuracy" not in sweep or not np.isfinite(sweep["accuracy"].values).any():
        return None
    return select_layers(sweep)
