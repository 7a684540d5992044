"""The tables of a report: plain text cells, ready to be shown and copied."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analyses.plots.theme import numbers
from analyses.selection.layer_selection import LayerSelection
from analyses.selection.words import ranked_by, state, where
from analyses.statistics import mean_over_clips
from store.text import counted

NOT_RECORDED = "–"
MOST_STEPS_ACROSS = 12


@dataclass(frozen=True)
class Table:
    """Cells as text; bold are whole rows, whole columns, or cells at (row, column). ``key`` is the id in the page."""

    key: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: tuple[int, ...] = ()
    strong_columns: tuple[int, ...] = ()
    strong_cells: tuple[tuple[int, int], ...] = ()

    def is_strong(self, row: int, column: int) -> bool:
        """True if a cell is bold by its column or by itself."""
        return column in self.strong_columns or (row, column) in self.strong_cells


def number(value: float, digits: str) -> str:
    """Format a number; a value that was not recorded is a dash, never a zero.

    Examples
    --------
    >>> number(12.345, ".1f"), number(float("nan"), ".1f")
    ('12.3', '–')
    """
    return format(float(value), digits) if np.isfinite(value) else NOT_RECORDED


def layer_step_table(key: str, values: xr.DataArray, caption: str, digits: str, selected: Collection[int]) -> Table:
    """Return one row per layer and one column per step; transposed for many steps, which would not fit a page."""
    values = mean_over_clips(values).transpose("layer", "step")
    layers, steps = numbers(values, "layer"), numbers(values, "step")
    timed = "timestep" in values.coords and values["timestep"].dims == ("step",)
    times = values["timestep"].values if timed else [None] * len(steps)
    heads = [f"step {step}" + (f" (t {time:g})" if timed else "") for step, time in zip(steps, times, strict=True)]
    names = [f"layer {layer}" for layer in layers]
    cells = [[number(value, digits) for value in row] for row in values.values]
    strong = tuple(index for index, layer in enumerate(layers) if int(layer) in selected)
    if len(steps) > MOST_STEPS_ACROSS:
        rows = tuple((head, *row) for head, row in zip(heads, zip(*cells, strict=True), strict=True))
        return Table(key, caption, ("", *names), rows, strong_columns=tuple(index + 1 for index in strong))
    rows = tuple((name, *row) for name, row in zip(names, cells, strict=True))
    return Table(key, caption, ("", *heads), rows, strong)


def selection_table(selection: LayerSelection) -> Table:
    """Every layer, best first: accuracy of all and of moving points, leads over the baselines, then the ranking."""
    table, digits = selection.table(), ".3f" if selection.criterion == "harmonic" else ".1f"
    header = ["rank", "layer"]
    for points, baseline in (("", "“nothing moves”"), (", moving points", "a guess without direction")):
        header += [f"accuracy{points} [%]", f"above {baseline} (at least, for all layers)"]
    score = "harmonic mean" if selection.criterion == "harmonic" else "ranked by [%]"
    header += [score, f"probability of the top {selection.top}", "verdict"]
    rows = []
    for row in table:
        cells = [f"{row['rank']}{' (tied)' if row['tied'] else ''}", str(row["layer"])]
        for name, lead in (("accuracy", "lead"), ("moving_accuracy", "moving_lead")):
            cells.append(_with_ends(row, name, f"{name}_low", f"{name}_high", ".1f"))
            least = number(row[f"{lead}_low"], "+.1f")
            cells.append(number(row[lead], "+.1f") + ("" if least == NOT_RECORDED else f" ({least})"))
        cells.append(_with_ends(row, "mean", "low", "high", digits))
        rows.append((*cells, number(row["probability"], ".2f"), state(row)))
    within = "" if selection.threshold_cells is None else f", within {counted(selection.threshold_cells, 'cell')}"
    caption = f"Layers {where(selection)}{within}, ranked by {ranked_by(selection)}; in brackets: 95 % intervals"
    caption += "; bold: selected."
    strong = tuple(place for place, row in enumerate(table) if row["selected"])
    return Table("table-selection", caption, tuple(header), tuple(rows), strong)


def _with_ends(row: Mapping[str, Any], mean: str, low: str, high: str, digits: str) -> str:
    if not np.isfinite(row[low]):
        return number(row[mean], digits)
    return f"{number(row[mean], digits)} ({number(row[low], digits)} to {number(row[high], digits)})"


# Columns of the table of clips, from the sweep's attributes and then from its variables.
DETAILS = {"images": "images", "resized_from": "resized from (height x width)", "truth": "truth", "prompt": "prompt"}
COUNTS = {
    "points": "points",
    "pairs": "pairs",
    "moving_pairs": "moving pairs",
    "static_accuracy": "“nothing moves” [%]",
    "blind_accuracy": "without direction, at most [%]",
}


def clip_table(sweep: xr.Dataset, details: Sequence[dict[str, Any]]) -> Table:
    """One row per clip or window: its images and size, its truth, the number of points, its prompt."""
    columns: dict[str, list[str]] = {}
    for name, heading in COUNTS.items():
        if name in sweep:
            digits = ".1f" if name.endswith("accuracy") else ".0f"
            columns[heading] = [number(value, digits) for value in sweep[name].values]
    for name, heading in DETAILS.items():
        values = [_detail(name, detail.get(name)) for detail in details]
        if any(value not in ("", NOT_RECORDED) for value in values):
            columns[heading] = values
    rows = zip([str(name) for name in numbers(sweep, "clip")], *columns.values(), strict=True)
    caption = "The clips; where one was cut into windows, each window is a row."
    return Table("table-clips", caption, ("clip", *columns), tuple(rows))


def _detail(name: str, value: Any) -> str:
    if name == "resized_from" and isinstance(value, list | tuple) and len(value) == 2:
        return f"{value[0]} x {value[1]} px"
    return plain(value)


def plain(value: Any) -> str:
    """Format any attribute as one line of plain text.

    Examples
    --------
    >>> plain({"torch": "2.13", "numpy": 2}), plain([1, 2.5]), plain(None), plain(True)
    ('torch 2.13, numpy 2', '1, 2.5', '–', 'yes')
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return NOT_RECORDED
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
