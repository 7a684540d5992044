"""The layers that a sweep chose, as a value: what was chosen, where in a run, and what is known of every layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import xarray as xr

By = Literal["last", "mean"]
Criterion = Literal["harmonic", "accuracy"]
Pairs = Literal["all", "moving"]

SCORES = {
    "mean": "what layers are ranked by",
    "low": "lower end of the 95 % interval",
    "high": "upper end of the 95 % interval",
    "probability": "probability of being among the best",
}
"""Variables of ``scores`` over ``layer``, and what they are."""


@dataclass(frozen=True, eq=False, repr=False)
class LayerSelection:
    """The chosen layers, best first, and what is known of every layer.

    Iterating over a selection gives its layers, so it stands wherever layers are asked for. It may be empty.

    Attributes
    ----------
    layers : the chosen layers, best first
    scores : Dataset over ``layer``: ``mean`` (what is ranked by), ``low`` and ``high`` (95 % interval over clips; NaN
        with a single clip), ``probability`` of being in the top ``count``
    count, by, samples, seed : what was asked
    step : the step that was ranked by, 0 = most noise, or None for the mean over steps
    sources : how many whole clips the bootstrap resampled
    criterion : what layers are ranked by
    steps : denoising steps of the run that ``step`` counts in; None where the sweep does not say
    heads : the heads that were measured together; None where the sweep does not say
    threshold_cells : what counted as found, in cells; None where the sweep does not say
    backbone, config_hash : the model; "" where the sweep does not say

    Examples
    --------
    >>> chosen = LayerSelection((5, 4), xr.Dataset(), 2, "last", 49, 2000, 0, 8, steps=50, backbone="mini")
    >>> list(chosen), len(chosen), bool(chosen)
    ([5, 4], 2, True)
    """

    layers: tuple[int, ...]
    scores: xr.Dataset
    count: int
    by: By
    step: int | None
    samples: int
    seed: int
    sources: int
    criterion: Criterion = "harmonic"
    steps: int | None = None
    heads: tuple[int, ...] | None = None
    threshold_cells: float | None = None
    backbone: str = ""
    config_hash: str = ""

    def __iter__(self) -> Iterator[int]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __bool__(self) -> bool:
        return bool(self.layers)

    def __contains__(self, layer: object) -> bool:
        return layer in self.layers

    def __eq__(self, other: object) -> bool:
        """Whether the same was chosen from the same measures."""
        if not isinstance(other, LayerSelection):
            return NotImplemented
        same = (getattr(self, field.name) == getattr(other, field.name) for field in _plain_fields())
        return all(same) and self.scores.equals(other.scores)

    def __hash__(self) -> int:
        return hash((self.layers, self.by, self.step, self.backbone, self.config_hash))

    def table(self) -> list[dict[str, Any]]:
        """One row for each layer, best first: rank, layer, mean, low, high, probability, selected."""
        rows = []
        for rank, layer in enumerate(ranking(self.scores["mean"].values), start=1):
            at = self.scores.isel(layer=layer)
            values = {name: float(at[name]) for name in SCORES}
            rows.append({"rank": rank, "layer": int(at["layer"]), **values, "selected": rank <= self.count})
        return rows

    def __repr__(self) -> str:
        where = "the mean over steps" if self.step is None else f"step {self.step}"
        clips = f"{self.sources} clip{'s' if self.sources != 1 else ''}"
        lines = [f"LayerSelection: layers {', '.join(map(str, self.layers))} by the harmonic mean at {where}, {clips}"]
        for row in self.table()[: self.count]:
            interval = "no interval from one clip"
            if np.isfinite(row["low"]):
                sure = f"in the top {self.count} with probability {row['probability']:.2f}"
                interval = f"{interval_in_words(row['low'], row['high'])}, {sure}"
            lines.append(f"  layer {row['layer']}: {row['mean']:.3f}, {interval}")
        return "\n".join(lines)


def _plain_fields() -> list[Any]:
    return [field for field in fields(LayerSelection) if field.name != "scores"]


def interval_in_words(low: float, high: float) -> str:
    """An interval of a harmonic mean; at an end of its scale it has no width, which is no certainty.

    Examples
    --------
    >>> interval_in_words(0.62, 0.71)
    '95 % interval 0.620 to 0.710'
    >>> interval_in_words(1.0, 1.0)
    'at the end of the scale in every resample'
    """
    if f"{low:.3f}" == f"{high:.3f}" and (low < 5e-4 or high > 1 - 5e-4):
        return "at the end of the scale in every resample"
    return f"95 % interval {low:.3f} to {high:.3f}"


def ranking(values: np.ndarray) -> list[int]:
    """Positions from the largest value down; equal ones in layer order, NaN last."""
    return [int(index) for index in np.argsort(-values, kind="stable")]
