"""The layers selected from a sweep, as a value: the choice, its step, and the statistics of every layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import xarray as xr

from analyses.selection.words import described
from store.arguments import check_fields

By = Literal["last", "mean"]
Criterion = Literal["harmonic", "accuracy"]
Pairs = Literal["all", "moving"]

COLUMNS = (
    *("mean", "low", "high", "probability"),
    *("accuracy", "accuracy_low", "accuracy_high", "lead", "lead_low"),
    *("moving_accuracy", "moving_accuracy_low", "moving_accuracy_high", "moving_lead", "moving_lead_low"),
)
"""Statistics of a layer in ``scores`` and in the rows of :meth:`LayerSelection.table`."""


@dataclass(frozen=True, eq=False, repr=False)
class LayerSelection:
    """The selected layers, best first, and the statistics of every layer.

    Iterating over a selection gives its layers, so it can be passed wherever layers are. It is empty where no layer
    is shown to beat "nothing moves".

    Attributes
    ----------
    layers : the selected layers, best first
    scores : Dataset over ``layer``
        ``mean`` (the ranking measure), ``low`` and ``high`` (its 95 % interval; NaN with a single clip),
        ``probability`` of being in the top :attr:`top`; and the variables of
        :func:`analyses.selection.verdict.against_baselines`.
    count : requested number of layers, or None for all that carry correspondence
    by, samples, seed : arguments of the selection
    step : the step used for ranking, 0 = most noise, or None for the mean over steps
    sources, draws : numbers of whole clips and of noise draws that the bootstrap resampled
    criterion : "harmonic" or "accuracy": what layers are ranked by
    accuracy : "all" or "moving": the points used for ranking
    note : why layers are not ranked as requested; "" if they are
    steps : number of denoising steps of the run; None if the sweep does not state it
    heads : the heads that were measured together; None if the sweep does not state them
    threshold_cells : distance in cells within which a point counted as found; None if the sweep does not state it
    backbone, config_hash : the model; "" if the sweep does not state it

    Examples
    --------
    >>> chosen = LayerSelection((5, 4), xr.Dataset(), 2, "last", 49, 2000, 0, 8, steps=50, backbone="mini")
    >>> list(chosen), len(chosen), bool(chosen)
    ([5, 4], 2, True)
    """

    layers: tuple[int, ...]
    scores: xr.Dataset
    count: int | None
    by: By
    step: int | None
    samples: int
    seed: int
    sources: int
    criterion: Criterion = "harmonic"
    accuracy: Pairs = "all"
    draws: int = 1
    note: str = ""
    steps: int | None = None
    heads: tuple[int, ...] | None = None
    threshold_cells: float | None = None
    backbone: str = ""
    config_hash: str = ""

    def __post_init__(self) -> None:
        check_fields(self)

    def __iter__(self) -> Iterator[int]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __bool__(self) -> bool:
        return bool(self.layers)

    def __contains__(self, layer: object) -> bool:
        return layer in self.layers

    def __eq__(self, other: object) -> bool:
        """Return whether the same layers were selected from the same measures."""
        if not isinstance(other, LayerSelection):
            return NotImplemented
        names = (field.name for field in fields(self) if field.name != "scores")
        return all(getattr(self, name) == getattr(other, name) for name in names) and self.scores.equals(other.scores)

    def __hash__(self) -> int:
        return hash((self.layers, self.by, self.step, self.backbone, self.config_hash))

    @property
    def top(self) -> int:
        """Return how many top layers ``probability`` refers to: ``count``, or the number selected, at least one."""
        return max(1, len(self.layers)) if self.count is None else self.count

    @property
    def ranked(self) -> tuple[int, ...]:
        """All layers of the sweep, best first, whether or not they carry correspondence."""
        return tuple(row["layer"] for row in self.table())

    @property
    def carriers(self) -> tuple[int, ...]:
        """The layers that are shown to beat "nothing moves", best first; see :mod:`analyses.selection.verdict`."""
        return tuple(row["layer"] for row in self.table() if row["carrier"])

    def table(self) -> list[dict[str, Any]]:
        """One row for each layer, best first.

        ``rank`` (equal layers have the same), ``tied`` (whether another layer is equal), ``layer``, the numbers of
        :data:`COLUMNS`, ``carrier`` and ``selected``.
        """
        if "layer" not in self.scores:
            return []
        values = self.scores["mean"].values
        rows = []
        for position in ranking(self.scores):
            at = self.scores.isel(layer=position)
            layer, own = int(at["layer"]), values[position]
            rank = len(values) if np.isnan(own) else 1 + int((values > own).sum())
            rows.append(
                {
                    "rank": rank,
                    "tied": int((values == own).sum()) > 1,
                    "layer": layer,
                    **{name: float(at[name]) if name in at else np.nan for name in COLUMNS},
                    "carrier": "carrier" in at and bool(at["carrier"]),
                    "selected": layer in self.layers,
                }
            )
        return rows

    def _repr_html_(self) -> str:
        from store.notebook import repr_html

        return repr_html(repr(self))

    def __repr__(self) -> str:
        return described(self)


def ranking(scores: xr.Dataset) -> list[int]:
    """Positions from the best layer down: by ``mean``, ties by accuracy, then by layer number; NaN last."""
    second = scores["accuracy"].values if "accuracy" in scores else np.zeros(scores.sizes["layer"])
    order = np.lexsort((np.arange(len(second)), -np.nan_to_num(second, nan=-1.0), -scores["mean"].values))
    return [int(position) for position in order]
