"""Text of a report: the answer with its uncertainty, the settings, notes and limits. No HTML here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analyses.selection.layer_selection import LayerSelection
from analyses.selection.words import FEW_CLIPS, interval_in_words, listed_layers, ranked_by, remarks, verdict, where
from analyses.statistics import mean_over_clips
from ditprobe.report.tables import NOT_RECORDED, plain
from store.text import counted, listed

# Attributes that are listed first, with readable names. Others follow under their own names.
KNOWN = {
    "backbone": "model",
    "model": "model",
    "revision": "revision",
    "config_hash": "configuration hash",
    "scheduler": "scheduler",
    "dtype": "dtype",
    "noise": "noise",
    "seed": "seed",
    "steps": "sampling steps",
    "branch": "CFG branch",
    "threshold_cells": "threshold [cells]",
    "preset": "preset",
    "resized": "resized",
    "windows": "windows",
    "skipped": "skipped",
}
STILL = "'nothing moves'"
# Follows the first mention of the harmonic mean.
RANKING_MEANS = (
    ", each scaled from 0 to 1 over this sweep. It rewards sharp and strong attention as much as being right, so it "
    "ranks layers but does not test them"
)
# Shown elsewhere: in the table of clips, or by the recorded steps and layers.
ELSEWHERE = ("clips", "selected_steps", "selected_layers")


@dataclass(frozen=True)
class Tile:
    """A key figure."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Answer:
    """The headline, the figures below it and a sentence for each selected layer."""

    headline: str
    tiles: tuple[Tile, ...]
    details: tuple[str, ...]


def runs(numbers: Sequence[int]) -> str:
    """Ascending numbers with runs of three or more shortened.

    Examples
    --------
    >>> runs([0, 1, 2, 3, 7, 8, 12]), runs([49])
    ('0 to 3, 7, 8, 12', '49')
    """
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    texts = [[f"{group[0]} to {group[-1]}"] if len(group) > 2 else [str(n) for n in group] for group in groups]
    return ", ".join(text for group in texts for text in group)


def recorded(sweep: xr.Dataset, name: str) -> bool:
    """True if the sweep has at least one value of a variable."""
    return name in sweep and bool(np.isfinite(sweep[name].values).any())


def source_count(sweep: xr.Dataset) -> int:
    """Number of whole clips in the sweep; windows of one clip count once."""
    return len(np.unique(sweep["source"].values)) if "source" in sweep.coords else sweep.sizes["clip"]


def summary(sweep: xr.Dataset) -> str:
    """One line: the model, the clips, the layers and the steps."""
    model = sweep.attrs.get("backbone") or sweep.attrs.get("model")
    sources, entries = source_count(sweep), sweep.sizes["clip"]
    draws = len(np.unique(sweep["draw"])) if "draw" in sweep.coords else 1
    clips = counted(sources, "clip") + (f" in {entries // draws} windows" if entries // draws > sources else "")
    clips += f" with {draws} noise draws each" if draws > 1 else ""
    parts = [clips, counted(sweep.sizes["layer"], "layer"), counted(sweep.sizes["step"], "step")]
    return f"{f'{plain(model)}: ' if model else ''}{', '.join(parts)}."


def answer(sweep: xr.Dataset, selection: LayerSelection | None) -> Answer:
    """The selected layers, their certainty, and the figures that put them in proportion."""
    if selection is None:
        text = "No layers were selected: none of the clips has true tracks, so there is no accuracy to rank layers by."
        return Answer(text, (), ("Confidence and attention score need no truth; they are shown below.",))
    headline = f"{verdict(selection)} Measured {where(selection)}{_within(selection)}."
    left_out = source_count(sweep) - selection.sources
    if left_out > 0:
        headline += f" {counted(left_out, 'clip').capitalize()} without true tracks left out."
    if sweep.attrs.get("pseudo_truth"):
        headline += f" This is {sweep.attrs['pseudo_truth']}."
    return Answer(headline, _tiles(sweep, selection), (*remarks(selection), *_layer_lines(selection)))


def interval_note(selection: LayerSelection) -> str:
    """Explain the lines through the dots of a selection."""
    if selection.sources < 2:
        return "One clip: neither intervals nor probabilities."
    return f"Lines: 95 % bootstrap intervals over {counted(selection.sources, 'clip')}."


def _within(selection: LayerSelection) -> str:
    threshold = selection.threshold_cells
    return "" if threshold is None else f"; a match within {counted(threshold, 'cell')} counts as found"


def _tiles(sweep: xr.Dataset, selection: LayerSelection) -> tuple[Tile, ...]:
    """Accuracy of the first layer on all and on moving points, next to guesses, the median layer and the first step."""
    table = selection.table()
    if not table or not recorded(sweep, "accuracy"):
        return ()
    best = next((row for row in table if row["selected"]), table[0])
    layer, at, scores = best["layer"], where(selection), selection.scores
    first = mean_over_clips(sweep["accuracy"]).isel(step=0)
    moving = _percent(best["moving_accuracy"])
    earliest = f"step {int(sweep['step'].values[0])}, the most noise of this sweep"
    tiles = [
        Tile(f"accuracy of layer {layer} {at}", _percent(best["accuracy"]), _interval_note(best, "accuracy")),
        Tile("“nothing moves”", _percent(scores["static_accuracy"]), "a guess that needs no model"),
        Tile(f"layer {layer} on moving points", moving, _interval_note(best, "moving_accuracy")),
        Tile("a guess without direction", _percent(scores["blind_accuracy"]), "at most, on moving points"),
        Tile("median layer", _percent(np.nanmedian([row["accuracy"] for row in table])), at),
    ]
    if sweep.sizes["step"] > 1 and np.isfinite(first.values).any():
        tiles.append(Tile("best layer of the first step", _percent(first.max()), earliest))
    return tuple(tile for tile in tiles if tile.value != NOT_RECORDED)


def _percent(value: Any) -> str:
    return f"{float(value):.1f} %" if np.isfinite(value) else NOT_RECORDED


def _interval_note(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"95 % interval {low:.1f} to {high:.1f}" if np.isfinite(low) else "one clip: no interval"


def _layer_lines(selection: LayerSelection) -> list[str]:
    """Lines about the ranking and the certainty of each selected layer."""
    table, harmonic = selection.table(), selection.criterion == "harmonic"
    lines = [f"Layers are ranked by {ranked_by(selection)}{RANKING_MEANS if harmonic else ''}."]
    if selection.sources < 2:
        return [*lines, "One clip alone: neither intervals nor probabilities."]
    lines += [_ranked_line(selection, row) for row in table if row["selected"]]
    if selection.count is None and selection:
        last = max(row["rank"] for row in table if row["selected"])
        passed = [row["layer"] for row in table if row["rank"] < last and not row["selected"]]
        if passed:
            lines.append(
                f"Ranked before some of these, but not shown to beat 'nothing moves': {listed_layers(passed)}."
            )
    elif selection:
        near = [f"layer {row['layer']} ({row['probability']:.2f})" for row in table if _near(row)]
        if near:
            lines.append(f"Not selected, but ranked there with a probability of 0.05 or more: {listed(near[:5])}.")
    noise = "one draw of the noise" if selection.draws == 1 else f"{selection.draws} draws of the noise"
    lines.append(f"Probabilities resample the clips, with {noise}; thresholds and steps are those of this sweep.")
    return lines


def _ranked_line(selection: LayerSelection, row: dict[str, Any]) -> str:
    """Rank, value and probability of a selected layer."""
    value = f"{row['mean']:.1f} %"
    if selection.criterion == "harmonic":
        value = f"{row['mean']:.3f} ({interval_in_words(row['low'], row['high'])})"
    sure = f"in the top {selection.top} with probability {row['probability']:.2f}"
    unsettled = selection.count is not None and row["probability"] < 0.8
    doubt = " This place is not settled by these clips." if unsettled else ""
    return f"Layer {row['layer']}, rank {row['rank']}{' (tied)' * row['tied']}: {value}; {sure}.{doubt}"


def _near(row: dict[str, Any]) -> bool:
    return not row["selected"] and row["probability"] >= 0.05


def _value(value: Any) -> Any:
    """Decode an attribute; nested ones are stored as JSON."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def facts(sweep: xr.Dataset) -> list[tuple[str, str]]:
    """All settings of the sweep: known ones first, then the rest by name."""
    attrs = {str(name): _value(value) for name, value in sweep.attrs.items()}
    attrs = {name: value for name, value in attrs.items() if value not in (None, "", [], {})}
    told = [(text, plain(attrs[name])) for name, text in KNOWN.items() if name in attrs]
    recorded_at = [
        ("steps recorded", runs(sweep["step"].values.tolist()) + " (step 0 has the most noise)"),
        ("layers", runs(sweep["layer"].values.tolist())),
    ]
    if "head" in sweep.coords:
        recorded_at.append(("heads", runs(sweep["head"].values.tolist())))
        attrs.pop("selected_heads", None)
    rest = [name for name in sorted(attrs) if name not in KNOWN and name not in ELSEWHERE]
    return told + recorded_at + [(name.replace("_", " "), plain(attrs[name])) for name in rest]


def clip_details(sweep: xr.Dataset) -> list[dict[str, Any]]:
    """Details of each clip from the attribute ``clips``, in the order of ``clip``; empty without it."""
    details = _value(sweep.attrs.get("clips", []))
    usable = isinstance(details, list) and all(isinstance(item, dict) for item in details)
    return details if usable and len(details) == sweep.sizes["clip"] else []


def notes(sweep: xr.Dataset, selection: LayerSelection | None) -> list[str]:
    """Notes on the meaning and the limits of the numbers."""
    lines = [
        "Accuracy is the percentage of visible (point, image) pairs within the threshold; the query image itself and "
        "points hidden in it do not count, unless a preset says otherwise.",
        "Means are over whole clips that have a value; the windows of a clip are averaged first. Intervals resample "
        "whole clips: they say how much another choice of clips would change the numbers, not how another model, "
        "another noise or a fresh choice of the best step and layer would.",
        "A layer is said to beat “nothing moves” if two lower bounds are above 0: that of its lead over that guess "
        "on all points, and that of its lead on moving points over the best score of a guess without direction. They "
        "are bounds of one-sided Student's t intervals over whole clips that hold for all layers at once with 95 % "
        "confidence.",
        "The harmonic mean scales each measure to 0-1 over this sweep's own layers and steps: it compares layers "
        "within this report and is not an absolute score.",
        "Numbers of publications are measured on other clips, sizes and models; none is shown next to these.",
        "Grey hatched cells and dashes were not recorded. They are not zero.",
    ]
    without = _without_truth(sweep)
    if without:
        lines.insert(0, without)
    if sweep.attrs.get("pseudo_truth"):
        lines.insert(
            0,
            f"{str(sweep.attrs['pseudo_truth']).capitalize()}: errors of the tracker count against a layer that is "
            "right, and for one with the same errors.",
        )
    if selection is not None and selection.sources < FEW_CLIPS:
        lines.insert(0, f"{counted(selection.sources, 'clip').capitalize()}: too few to trust the intervals much.")
    return lines


def _without_truth(sweep: xr.Dataset) -> str:
    if "accuracy" not in sweep:
        return "This sweep has no accuracy."
    known = np.isfinite(sweep["accuracy"].transpose("clip", ...).values.reshape(sweep.sizes["clip"], -1)).any(1)
    if known.all():
        return ""
    if not known.any():
        return "No clip has true tracks: there is no accuracy, and layers cannot be ranked."
    names = [str(name) for name in sweep["clip"].values[~known]]
    return f"Without true tracks, and so without accuracy: {listed(names)}."
