"""What a report says in words: the answer with its uncertainty, what was run, notes and limits. No HTML here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analyses.clips import bootstrap_mean, mean_over_clips
from analyses.layer_selection import LayerSelection
from analyses.selection_words import interval_in_words
from ditprobe.report_tables import plain

# Attributes that are told first, by the names a reader knows. What is not here follows by its own name.
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
# From so many clips on intervals hold the truth 95 times in 100; over three clips, 76 to 80 times (docs/benchmarks.md).
FEW_CLIPS = 8
# Told elsewhere: in the table of clips, or by the recorded steps and layers.
ELSEWHERE = ("clips", "selected_steps", "selected_layers")


@dataclass(frozen=True)
class Tile:
    """One figure worth reading first."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Answer:
    """The headline, the figures below it and a sentence for each selected layer."""

    headline: str
    tiles: tuple[Tile, ...]
    details: tuple[str, ...]


def listed(items: Sequence[Any]) -> str:
    """Items as a sentence lists them.

    Examples
    --------
    >>> listed([4]), listed([4, 3]), listed([4, 3, 5])
    ('4', '4 and 3', '4, 3 and 5')
    """
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def runs(numbers: Sequence[int]) -> str:
    """Ascending numbers with runs of three and more shortened.

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
    """Whether the sweep has at least one value of a variable."""
    return name in sweep and bool(np.isfinite(sweep[name].values).any())


def source_count(sweep: xr.Dataset) -> int:
    """How many whole clips the sweep has; windows of one clip count once."""
    return len(np.unique(sweep["source"].values)) if "source" in sweep.coords else sweep.sizes["clip"]


def counted(count: int, noun: str) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def summary(sweep: xr.Dataset) -> str:
    """One line: the model, the clips, the layers and the steps."""
    model = sweep.attrs.get("backbone") or sweep.attrs.get("model")
    sources, entries = source_count(sweep), sweep.sizes["clip"]
    clips = counted(sources, "clip") + (f" in {entries} windows" if entries > sources else "")
    parts = [clips, counted(sweep.sizes["layer"], "layer"), counted(sweep.sizes["step"], "step")]
    return f"{f'{plain(model)}: ' if model else ''}{', '.join(parts)}."


def answer(sweep: xr.Dataset, selection: LayerSelection | None) -> Answer:
    """Which layers, how sure, and the figures that put them in proportion."""
    if selection is None:
        text = "No layers were selected: none of the clips has true tracks, so there is no accuracy to rank layers by."
        return Answer(text, (), ("Confidence and attention score need no truth; they are shown below.",))
    where = "averaged over the steps" if selection.step is None else f"at step {selection.step}"
    kind = "Layer" if selection.count == 1 else "Layers"
    verb = "carries" if selection.count == 1 else "carry"
    headline = (
        f"{kind} {listed(selection.layers)} {verb} temporal correspondence best, by the harmonic mean of accuracy, "
        f"cross confidence and cross attention score {where}, over {counted(selection.sources, 'clip')}"
    )
    left_out = source_count(sweep) - selection.sources
    headline += f"; {counted(left_out, 'clip')} without true tracks left out." if left_out > 0 else "."
    if sweep.attrs.get("pseudo_truth"):
        headline += f" This is {sweep.attrs['pseudo_truth']}."
    return Answer(headline, _tiles(sweep, selection), (*_against_static(sweep, selection), *_layer_lines(selection)))


def _against_static(sweep: xr.Dataset, selection: LayerSelection) -> list[str]:
    """A ranking always has a first; say so where the first is worse than a guess."""
    if not recorded(sweep, "accuracy") or not recorded(sweep, "static_accuracy"):
        return []
    layer = selection.layers[0]
    best = float(mean_over_clips(sweep["accuracy"]).sel(layer=layer).max())
    static = float(mean_over_clips(sweep["static_accuracy"]))
    if best > static:
        return []
    return [
        f"Layer {layer} finds no more points at its best step ({best:.1f} %) than the guess that nothing moves "
        f"({static:.1f} %): the ranking says which layer is best, not that it is good."
    ]


def _tiles(sweep: xr.Dataset, selection: LayerSelection) -> tuple[Tile, ...]:
    """Accuracy of the best layer at its best step, beside the median layer, the first step and a static guess."""
    if not recorded(sweep, "accuracy"):
        return ()
    layer = selection.layers[0]
    accuracy = mean_over_clips(sweep["accuracy"]).transpose("layer", "step")
    curve = accuracy.sel(layer=layer).values
    best = int(np.nanargmax(curve)) if np.isfinite(curve).any() else 0
    step, first = int(sweep["step"].values[best]), accuracy.isel(step=0)
    low, high = (float(end.sel(layer=layer).isel(step=best)) for end in bootstrap_mean(sweep["accuracy"]))
    interval = f"95 % interval {low:.1f} to {high:.1f}" if np.isfinite(low) else "one clip: no interval"
    tiles = [
        Tile(f"accuracy of layer {layer} at step {step}, its best", f"{curve[best]:.1f} %", interval),
        Tile("median layer", f"{np.nanmedian(accuracy.values[:, best]):.1f} %", f"at step {step}"),
    ]
    if sweep.sizes["step"] > 1 and np.isfinite(first.values).any():
        note = f"step {int(sweep['step'].values[0])}, the most noise of this sweep"
        tiles.append(Tile("best layer of the first step", f"{float(first.max()):.1f} %", note))
    if recorded(sweep, "static_accuracy"):
        value = float(mean_over_clips(sweep["static_accuracy"]))
        tiles.append(Tile("“nothing moves”", f"{value:.1f} %", "a guess that needs no model"))
    if recorded(sweep, "moving_accuracy"):
        moving = mean_over_clips(sweep["moving_accuracy"]).sel(layer=layer).isel(step=best)
        tiles.append(Tile(f"layer {layer} on moving points", f"{float(moving):.1f} %", "“nothing moves” scores 0 here"))
    return tuple(tiles)


def _layer_lines(selection: LayerSelection) -> list[str]:
    table = selection.table()
    if selection.sources < 2:
        means = [f"layer {row['layer']}: {row['mean']:.3f}" for row in table[: selection.count]]
        return [f"Harmonic means: {'; '.join(means)}.", "One clip alone: neither intervals nor probabilities."]
    lines = [
        f"Layer {row['layer']}: harmonic mean {row['mean']:.3f} ({interval_in_words(row['low'], row['high'])}); "
        f"in the top {selection.count} with probability {row['probability']:.2f}"
        + (". This choice is not settled by these clips." if row["probability"] < 0.8 else ".")
        for row in table[: selection.count]
    ]
    rest = [row for row in table[selection.count :] if row["probability"] >= 0.05]
    if rest:
        near = listed([f"layer {row['layer']} ({row['probability']:.2f})" for row in rest[:5]])
        lines.append(f"Not selected, but with a probability of 0.05 or more: {near}.")
    return lines


def _value(value: Any) -> Any:
    """Attributes that cannot be nested in a store arrive as JSON."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def facts(sweep: xr.Dataset) -> list[tuple[str, str]]:
    """Everything that the sweep says of how it was made: what is known first, then the rest by name."""
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
    """What the attribute ``clips`` says of each clip, in the order of ``clip``; empty where it is not there."""
    details = _value(sweep.attrs.get("clips", []))
    usable = isinstance(details, list) and all(isinstance(item, dict) for item in details)
    return details if usable and len(details) == sweep.sizes["clip"] else []


def notes(sweep: xr.Dataset, selection: LayerSelection | None) -> list[str]:
    """What these numbers mean and what they do not."""
    lines = [
        "Accuracy is the percentage of visible (point, image) pairs within the threshold; the query image itself and "
        "points hidden in it do not count, unless a preset says otherwise.",
        "Means are over whole clips that have a value; the windows of a clip are averaged first. Intervals resample "
        "whole clips: they say how much another choice of clips would change the numbers, not how another model, "
        "another noise or a fresh choice of the best step and layer would.",
        "The harmonic mean scales each measure to 0-1 over this sweep's own layers and steps: it compares layers "
        "within this report and is no absolute score.",
        "Numbers of publications are measured on other clips, sizes and models; none is shown beside these.",
        "Grey hatched cells and dashes were not recorded. They are not zero.",
    ]
    without = _without_truth(sweep)
    if without:
        lines.insert(0, without)
    if sweep.attrs.get("pseudo_truth"):
        lines.insert(
            0,
            f"{str(sweep.attrs['pseudo_truth']).capitalize()}: what the tracker gets wrong counts against a layer that "
            "is right, and for one that is wrong in the same way.",
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
