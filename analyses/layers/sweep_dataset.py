"""The dataset of a sweep: its variables, how its entries are combined, and the measures over all clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from analyses.attention.affinity import TARGETS
from analyses.selection.select import scored_clips
from analyses.statistics import harmonic_mean, mean_over_clips

RECORD = ("step", "layer")
PERCENT, SHARE = "%", "1"


@dataclass(frozen=True, slots=True)
class Variable:
    """Dims after ``clip``, and the meaning of the variable."""

    dims: tuple[str, ...]
    long_name: str
    units: str


_BASE = {
    "accuracy": (PERCENT, (), "matching accuracy of query-key matching"),
    "moving_accuracy": (PERCENT, (), "matching accuracy over the pairs that move"),
    "confidence": (SHARE, ("target",), "confidence: mean of the largest attention weight"),
    "attention_score": (SHARE, ("target",), "attention score: mean of the summed attention weight"),
}
VARIABLES: dict[str, Variable] = {
    **{name: Variable((*RECORD, *dims), text, units) for name, (units, dims, text) in _BASE.items()},
    "feature_accuracy": Variable(RECORD, "matching accuracy of feature matching", PERCENT),
    **{
        f"head_{name}": Variable((*RECORD, "head", *dims), f"{text}, each head alone", units)
        for name, (units, dims, text) in _BASE.items()
    },
    "accuracy_within": Variable((*RECORD, "threshold"), "matching accuracy within each threshold", PERCENT),
    "moving_accuracy_within": Variable(
        (*RECORD, "threshold"), "matching accuracy over the pairs that move, within each threshold", PERCENT
    ),
    "static_accuracy": Variable((), "matching accuracy of 'nothing moves'", PERCENT),
    "static_accuracy_within": Variable(("threshold",), "the same within each threshold", PERCENT),
    "blind_accuracy": Variable((), "highest moving accuracy of a guess without direction", PERCENT),
    "blind_accuracy_within": Variable(("threshold",), "the same within each threshold", PERCENT),
    "points": Variable((), "query points", SHARE),
    "pairs": Variable((), "(image, point) pairs that count", SHARE),
    "moving_pairs": Variable((), "pairs displaced by more than max(1, threshold) cells", SHARE),
    "moving_pairs_within": Variable(("threshold",), "pairs displaced by more than max(1, each threshold) cells", SHARE),
}
COORDINATES = {
    "clip": "clip or window of a clip",
    "source": "the clip that a window was cut from",
    "window": "window of the source",
    "first_image": "image of the source at which the window starts",
    "draw": "draw of the noise",
    "step": "denoising step, 0 = most noise",
    "timestep": "the scheduler's value at the step",
    "layer": "self-attention layer in execution order",
    "layer_name": "module path of the layer",
    "head": "attention head",
    "target": "what is attended to",
    "threshold": "how near counts as found, in cells",
}


@dataclass(frozen=True, eq=False)
class Grid:
    """The steps, layers, heads and thresholds that a sweep fills."""

    steps: tuple[int, ...]
    layers: tuple[int, ...]
    layer_names: tuple[str, ...]
    heads: tuple[int, ...]
    thresholds: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Entry:
    """One value of the ``clip`` dim while it is filled."""

    name: str
    source: str
    window: int
    first_image: int
    grid: Grid
    draw: int | None = None
    values: dict[str, np.ndarray] = field(default_factory=dict)
    timesteps: dict[int, float] = field(default_factory=dict)

    def add(self, step: int, layer: int, measured: Mapping[str, np.ndarray]) -> None:
        """Store the measures of one record."""
        place = self.grid.steps.index(step), self.grid.layers.index(layer)
        shape = (len(self.grid.steps), len(self.grid.layers))
        for name, value in measured.items():
            self.values.setdefault(name, np.full((*shape, *value.shape), np.nan))[place] = value

    def state(self, **counts: Any) -> None:
        """Set the variables that belong to the entry as a whole."""
        self.values.update({name: np.asarray(value) for name, value in counts.items()})

    def to_dataset(self) -> xr.Dataset:
        """The entry with a ``clip`` dim of size 1."""
        grid = self.grid
        data = {
            name: (("clip", *VARIABLES[name].dims), value[None], _attributes(VARIABLES[name]))
            for name, value in self.values.items()
        }
        coords: dict[str, Any] = {
            "clip": [self.name],
            "source": ("clip", [self.source]),
            "window": ("clip", [self.window]),
            "first_image": ("clip", [self.first_image]),
            "step": list(grid.steps),
            "timestep": ("step", [self.timesteps.get(step, np.nan) for step in grid.steps]),
            "layer": list(grid.layers),
            "layer_name": ("layer", list(grid.layer_names)),
            "target": list(TARGETS),
        }
        if self.draw is not None:
            coords["draw"] = ("clip", [self.draw])
        if grid.thresholds:
            coords["threshold"] = list(grid.thresholds)
        if any(name.startswith("head_") for name in data):
            coords["head"] = list(grid.heads)
        dataset = xr.Dataset(data, coords)
        for name in dataset.coords:
            dataset[name].attrs["long_name"] = COORDINATES[str(name)]
        return dataset


def _attributes(variable: Variable) -> dict[str, str]:
    return {"long_name": variable.long_name, "units": variable.units}


def concatenate(entries: Sequence[xr.Dataset]) -> xr.Dataset:
    """Entries along ``clip``; steps, layers and heads are the same for all."""
    return xr.concat(entries, "clip", data_vars="all", coords="minimal", compat="override", join="exact")


def combine(entries: Sequence[xr.Dataset], attrs: Mapping[str, Any]) -> xr.Dataset:
    """All entries along ``clip``, with the harmonic mean over them and the attributes."""
    dataset = concatenate(entries)
    dataset.attrs = dict(attrs)
    return with_harmonic_mean(dataset)


def with_harmonic_mean(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with ``harmonic_mean`` (step, layer): means over clips first, then the scaling.

    Only clips with an accuracy count, so that the three measures cover the same clips.
    """
    scored = scored_clips(dataset)
    cross = [scored[name].sel(target="cross", drop=True) for name in ("confidence", "attention_score")]
    mean = harmonic_mean(*(mean_over_clips(values) for values in (scored["accuracy"], *cross)))
    if not np.isfinite(dataset["accuracy"]).any():
        mean.attrs["reason"] = "no clip has tracks, so there is no accuracy and no harmonic mean"
    return dataset.assign(harmonic_mean=mean)
