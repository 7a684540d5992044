"""Heads that carry temporal correspondence, each tested alone, with intervals over clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analyses.selection.layer_selection import By, Pairs
from analyses.selection.select import scored_clips
from analyses.selection.verdict import against_baselines
from store.arguments import checked
from store.checks import integer, one_of
from store.errors import InvalidInputError
from store.text import counted

_NUMBERS = (
    *("accuracy", "accuracy_low", "accuracy_high", "lead", "lead_low"),
    *("moving_accuracy", "moving_accuracy_low", "moving_accuracy_high", "moving_lead", "moving_lead_low"),
)
_SHOWN = 12
"""Largest number of rows in the text of a selection."""


@dataclass(frozen=True, eq=False, repr=False)
class HeadSelection:
    """The selected heads, best first, and the statistics of every head.

    Iterating over a selection gives (layer, head).

    Attributes
    ----------
    heads : (layer, head) of the selected heads, best first
    scores : Dataset over (layer, head)
        ``accuracy`` and ``moving_accuracy`` in percent, each with the ends of its 95 % interval over clips (``_low``,
        ``_high``); ``lead`` and ``moving_lead`` over "nothing moves" and over a guess without direction, each with the
        lower end (``_low``) of an interval that holds for all heads at once; ``carrier``.
    by, accuracy : arguments of the selection
    step : the step used for ranking, or None for the mean over steps
    sources : number of whole clips that the intervals resample

    Examples
    --------
    >>> list(HeadSelection(((4, 0), (5, 2)), xr.Dataset(), "last", "all", 49, 8))
    [(4, 0), (5, 2)]
    """

    heads: tuple[tuple[int, int], ...]
    scores: xr.Dataset
    by: By
    accuracy: Pairs
    step: int | None
    sources: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.heads)

    def __len__(self) -> int:
        return len(self.heads)

    def of_layer(self, layer: int) -> tuple[int, ...]:
        """Return the selected heads of a layer, best first."""
        return tuple(head for number, head in self.heads if number == layer)

    def table(self) -> list[dict[str, Any]]:
        """Return a row for each head, best first: ``layer``, ``head``, the numbers of ``scores``, ``selected``."""
        if "layer" not in self.scores.dims:
            return []
        flat = self.scores.stack(place=("layer", "head"))
        rows = []
        for place in _order(flat, self.accuracy):
            at = flat.isel(place=place)
            layer, head = int(at["layer"]), int(at["head"])
            numbers = {name: float(at[name]) for name in _NUMBERS}
            chosen = (layer, head) in self.heads
            rows.append({"layer": layer, "head": head, **numbers, "carrier": bool(at["carrier"]), "selected": chosen})
        return rows

    def _repr_html_(self) -> str:
        from store.notebook import repr_html

        return repr_html(repr(self))

    def __repr__(self) -> str:
        where = "the mean over steps" if self.step is None else f"step {self.step}"
        head = f"HeadSelection: {counted(len(self.heads), 'head')} at {where}, {counted(self.sources, 'clip')}"
        table = self.table()
        lines = [head, "  layer  head  accuracy, % (95 %)  at least above 'nothing moves'  moving, % (95 %)  verdict"]
        for row in table[: max(_SHOWN, len(self.heads))]:
            cells = [str(row["layer"]), str(row["head"]), _with_ends(row, "accuracy"), _number(row["lead_low"], "+.1f")]
            state = "carrier" if row["carrier"] else "chosen, not above the baselines" if row["selected"] else "-"
            lines.append("  " + "  ".join([*cells, _with_ends(row, "moving_accuracy"), state]))
        rest = len(table) - (len(lines) - 2)
        return "\n".join([*lines, f"and {counted(rest, 'further head')}"] if rest > 0 else lines)


@checked
def select_heads(
    sweep: xr.Dataset,
    count: int | None = None,
    *,
    by: By = "last",
    accuracy: Pairs = "all",
    samples: int = 2000,
    seed: int = 0,
) -> HeadSelection:
    """The heads that carry temporal correspondence, best first, with their intervals.

    A head is tested as a layer is (:func:`analyses.selection.verdict.against_baselines`): it carries correspondence if
    its queries and keys alone are shown to beat "nothing moves" on all points and a guess without direction on moving
    ones. The test holds for all heads of all layers at once. Without ``count``, exactly these heads are selected.

    Parameters
    ----------
    sweep : Dataset of :func:`analyses.layers.sweep.sweep` with ``per_head=True``
    count : number of heads to select, whether or not they beat the baselines; the selection states which do not
    by : "last" ranks at the last step of the sweep, "mean" by the mean over its steps
    accuracy : "all" ranks by the accuracy over all points, "moving" by that over the moving ones
    samples, seed : of the bootstrap over clips

    Returns
    -------
    HeadSelection

    Raises
    ------
    InvalidInputError
        When single heads were not measured, no clip has an accuracy, or ``count`` is not between 1 and the number of
        heads.

    Notes
    -----
    Many heads are tested at once, so each needs a clear lead: with few clips, the test misses heads.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> single = np.array([[[[20.0, 80.0], [75.0, 10.0]]]]) + rng.normal(size=(6, 1, 2, 2))
    >>> over = ("clip", "step", "layer", "head")
    >>> swept = xr.Dataset(
    ...     {"head_accuracy": (over, single), "head_moving_accuracy": (over, single - 5), "accuracy": (over[:3], single[..., 0])},
    ...     {"clip": range(6), "step": [49], "layer": [4, 5], "head": [0, 1]},
    ... )
    >>> swept["static_accuracy"], swept["blind_accuracy"] = ("clip", 6 * [30.0]), ("clip", 6 * [20.0])
    >>> select_heads(swept).heads
    ((4, 1), (5, 0))
    """  # noqa: E501
    one_of(by, ("last", "mean"), "by")
    one_of(accuracy, ("all", "moving"), "accuracy")
    if "head_accuracy" not in sweep or not {"layer", "head", "step", "clip"} <= set(sweep["head_accuracy"].dims):
        raise InvalidInputError("the sweep holds no single heads. Sweep with per_head=True.")
    scored = scored_clips(sweep)
    if not scored.sizes.get("clip") or not np.isfinite(scored["head_accuracy"].values).any():
        raise InvalidInputError("no clip of the sweep has an accuracy. Sweep clips with tracks.")
    known = _tested(scored, by, samples, seed)
    order = _order(known.stack(place=("layer", "head")), accuracy)
    if count is not None and not 1 <= integer(count, "count") <= len(order):
        raise InvalidInputError(f"count must lie between 1 and the {len(order)} heads of the sweep; got {count}.")
    flat = known.stack(place=("layer", "head"))
    chosen = order[:count] if count is not None else [place for place in order if flat["carrier"].values[place]]
    places = [(int(flat["layer"][place]), int(flat["head"][place])) for place in chosen]
    sources = len(np.unique(scored["source"].values)) if "source" in scored.coords else scored.sizes["clip"]
    step = int(sweep["step"].values[-1]) if by == "last" else None
    return HeadSelection(tuple(places), known, by, accuracy, step, sources)


def _tested(scored: xr.Dataset, by: By, samples: int, seed: int) -> xr.Dataset:
    """Every head as if it were a separate layer."""
    layers, heads = scored["layer"].values, scored["head"].values if "head" in scored.coords else None
    heads = np.arange(scored.sizes["head"]) if heads is None else heads
    apart = scored.drop_dims([dim for dim in ("layer", "head") if dim in scored.dims])
    for name in ("accuracy", "moving_accuracy"):
        if f"head_{name}" in scored:
            values = scored[f"head_{name}"].transpose("clip", "step", "layer", "head")
            flat = values.values.reshape(*values.shape[:2], -1)
            apart[name] = (("clip", "step", "layer"), flat, values.attrs)
    apart = apart.assign_coords(layer=np.arange(len(layers) * len(heads)))
    known = against_baselines(apart, by=by, samples=samples, seed=seed)
    shape, found = (len(layers), len(heads)), xr.Dataset(coords={"layer": layers, "head": heads})
    for name in (*_NUMBERS, "carrier"):
        found[name] = (("layer", "head"), known[name].values.reshape(shape))
    return found.assign({name: known[name] for name in ("static_accuracy", "blind_accuracy")})


def _order(flat: xr.Dataset, accuracy: Pairs) -> list[int]:
    """Positions from the best head down; NaN last."""
    values = flat["moving_accuracy" if accuracy == "moving" else "accuracy"].values
    return [int(place) for place in np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")]


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "–"


def _with_ends(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return _number(row[name], ".1f") + (f" ({low:.1f} to {high:.1f})" if np.isfinite(low) else "")
