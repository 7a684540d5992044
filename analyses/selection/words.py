"""A layer selection in words: the verdict, its conditions, remedies, and the table of all layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from store.text import counted

if TYPE_CHECKING:
    from analyses.selection.layer_selection import LayerSelection

FEW_CLIPS = 8
"""Number of clips above which 95 % intervals cover the truth about 95 times in 100 (docs/benchmarks/accuracy.md)."""
SMALL_THRESHOLD = 1.0
STILL = 0.25
"""Fraction of moving pairs below which a sweep shows little motion."""


def described(selection: LayerSelection) -> str:
    """The verdict, its conditions, notes and the table of all layers, as text."""
    head = f"LayerSelection: {listed_layers(selection.layers) if selection.layers else 'no layer'}"
    if "layer" not in selection.scores:
        return head
    return "\n".join([head, verdict(selection), *remarks(selection), *conditions(selection), "", table_text(selection)])


def verdict(selection: LayerSelection) -> str:
    """One or two sentences on the layers that are shown to beat "nothing moves", or that none is.

    Examples
    --------
    >>> import xarray as xr
    >>> from analyses.selection.layer_selection import LayerSelection
    >>> verdict(LayerSelection((), xr.Dataset(), None, "last", 49, 2000, 0, 8))
    "No layer was tested against 'nothing moves'."
    """
    carriers, others = selection.carriers, [layer for layer in selection if layer not in selection.carriers]
    found = _shown(selection, carriers)
    if others and was_tested(selection):
        found += f" {_capital(listed_layers(others))} {'is' if len(others) == 1 else 'are'} not above the baseline."
    return found


def _shown(selection: LayerSelection, carriers: Sequence[int]) -> str:
    if not was_tested(selection):
        return "No layer was tested against 'nothing moves'" + (
            ": the sweep does not hold static_accuracy and moving_accuracy. Sweep again."
            if "layer" in selection.scores
            else "."
        )
    clips, pairs = counted(selection.sources, "clip"), selection.scores["moving_pairs"]
    these = "this clip" if selection.sources == 1 else f"these {clips}"
    on = these if math.isnan(float(pairs)) else f"{these} ({counted(int(pairs), 'moving pair')})"
    if not carriers:
        return f"No layer is shown to beat 'nothing moves' on {on}."
    beat = "beats" if len(carriers) == 1 else "beat"
    return (
        f"{_capital(listed_layers(carriers))} {beat} 'nothing moves' on {on}, over all points and over the moving ones."
    )


def was_tested(selection: LayerSelection) -> bool:
    """Return whether the sweep holds the baselines of the test."""
    names = ("static_accuracy", "moving_accuracy")
    return all(name in selection.scores and bool(selection.scores[name].notnull().any()) for name in names)


def remarks(selection: LayerSelection) -> list[str]:
    """Remarks: why layers are not ranked as requested, which are tied, and what would help if none passes."""
    found = [selection.note] if selection.note else []
    found += _ties(selection)
    if selection.sources == 1:
        found.append("One clip alone gives no intervals.")
    if was_tested(selection) and not selection.carriers:
        found.append(f"What would help: {'; '.join(remedies(selection))}.")
    return found


def _ties(selection: LayerSelection) -> list[str]:
    """The groups of equal layers, best first."""
    groups: dict[int, list[int]] = {}
    for row in selection.table():
        if row["tied"]:
            groups.setdefault(row["rank"], []).append(row["layer"])
    return [
        f"{_capital(listed_layers(group))} are tied at rank {rank}; the one with the higher accuracy comes first."
        for rank, group in groups.items()
    ]


def remedies(selection: LayerSelection) -> list[str]:
    """Return changes of the sweep that could show more.

    Examples
    --------
    >>> import xarray as xr
    >>> from analyses.selection.layer_selection import LayerSelection
    >>> remedies(LayerSelection((), xr.Dataset({"pairs": 100, "moving_pairs": 5}), None, "last", 49, 2000, 0, 8))
    ['more clips', 'a larger stride, so that more points move (5 of 100 pairs do)']
    """
    scores, found = selection.scores, []
    few = f" (of {selection.sources}, intervals are wide)" if selection.sources < FEW_CLIPS else ""
    found.append(f"more clips{few}")
    pairs, moving = float(scores["pairs"]), float(scores["moving_pairs"])
    if pairs and moving < STILL * pairs:
        found.append(f"a larger stride, so that more points move ({moving:.0f} of {pairs:.0f} pairs do)")
    threshold = selection.threshold_cells
    if threshold is not None and threshold < SMALL_THRESHOLD:
        found.append(f"a larger threshold than {threshold:g} cells")
    return found


def conditions(selection: LayerSelection) -> list[str]:
    """Lines on the conditions of the table (step, threshold, clips, draws) and on the scores of the baselines."""
    place = where(selection) + (f" of {selection.steps}" if selection.steps and selection.step is not None else "")
    threshold = selection.threshold_cells
    parts = [place] + ([] if threshold is None else [f"within {counted(threshold, 'cell')}"])
    parts += [counted(selection.sources, "clip"), counted(selection.draws, "noise draw")]
    lines = [f"{_capital(', '.join(parts))}."]
    if was_tested(selection):
        static, blind = (float(selection.scores[name]) for name in ("static_accuracy", "blind_accuracy"))
        lines.append(
            f"'Nothing moves' scores {static:.1f} %; a guess without direction, at most {blind:.1f} % of moving points."
        )
    return lines


def table_text(selection: LayerSelection) -> str:
    """All layers, best first, as text; leads over the baselines have their lower bound for all layers at once.

    Examples
    --------
    >>> import xarray as xr
    >>> from analyses.selection.layer_selection import LayerSelection
    >>> table_text(LayerSelection((), xr.Dataset(), None, "last", 49, 2000, 0, 8)).splitlines()[0][:11]
    'rank  layer'
    """
    score, form = ("harmonic", ".3f") if selection.criterion == "harmonic" else ("by", ".1f")
    lines = [
        f"rank  layer  accuracy, % (95 %)    lead             moving, % (95 %)      lead             {score:8s}  "
        f"top {selection.top}"
    ]
    for row in selection.table():
        rank = f"{row['rank']}{'=' if row['tied'] else ''}"
        cells = [f"{rank:>4s}  {row['layer']:5d}"]
        for name, lead in (("accuracy", "lead"), ("moving_accuracy", "moving_lead")):
            cells += [f"{_interval(row, name):20s}", f"{_lead(row[lead], row[f'{lead}_low']):15s}"]
        sure = "" if math.isnan(row["probability"]) else f"{row['probability']:.2f}"
        cells += [f"{row['mean']:{form}}".rjust(8), f"{sure:5s}", state(row)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, *_legend(selection)])


def _legend(selection: LayerSelection) -> list[str]:
    """Return an explanation of the columns."""
    lines = [
        "lead: points above 'nothing moves', and above a guess without direction; in brackets the lower end of a 95 % "
        "interval",
        "that holds for all layers at once. A carrier has both lower ends above 0.",
    ]
    if selection.criterion == "harmonic":
        lines += [
            "harmonic: mean of accuracy, cross confidence and cross attention score, each scaled from 0 to 1 over this "
            "sweep.",
            "It ranks layers and tests nothing: sharp and strong attention counts as much as being right.",
        ]
    return [*lines, f"top {selection.top}: how often a resample of the clips ranks the layer there."]


def state(row: dict[str, Any]) -> str:
    """Return the state of a row of the table: carrier of correspondence, selected without being one, or neither."""
    if row["carrier"]:
        return "carrier"
    return "chosen, not above the baseline" if row["selected"] else ""


def interval_in_words(low: float, high: float) -> str:
    """An interval of a harmonic mean in words; at the bounds of the scale it has no width, which is not certainty.

    Examples
    --------
    >>> interval_in_words(0.62, 0.71)
    '95 % interval 0.620 to 0.710'
    >>> interval_in_words(1.0, 1.0)
    'the end of its scale, where an interval has no width'
    """
    if f"{low:.3f}" == f"{high:.3f}" and (low < 5e-4 or high > 1 - 5e-4):
        return "the end of its scale, where an interval has no width"
    return f"95 % interval {low:.3f} to {high:.3f}"


def where(selection: LayerSelection) -> str:
    """The step of a selection in words, or that it averages over steps."""
    return "averaged over the steps" if selection.step is None else f"at step {selection.step}"


def ranked_by(selection: LayerSelection) -> str:
    """Return the ranking measure as a noun."""
    points = "accuracy on moving points" if selection.accuracy == "moving" else "accuracy"
    if selection.criterion == "accuracy":
        return points
    return f"the harmonic mean of {points}, cross confidence and cross attention score"


def listed_layers(layers: Sequence[int]) -> str:
    """``layer 5``, ``layers 5, 4 and 1``.

    Examples
    --------
    >>> listed_layers([5]), listed_layers([5, 4, 1])
    ('layer 5', 'layers 5, 4 and 1')
    """
    texts = [str(layer) for layer in layers]
    return f"layer {texts[0]}" if len(texts) == 1 else f"layers {', '.join(texts[:-1])} and {texts[-1]}"


def _interval(row: dict[str, Any], name: str) -> str:
    if math.isnan(row[name]):
        return "-"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.1f}" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")


def _lead(lead: float, low: float) -> str:
    if math.isnan(lead):
        return "-"
    return f"{lead:+.1f}" + ("" if math.isnan(low) else f" (>{low:+.1f})")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
