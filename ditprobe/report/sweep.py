"""The figures of a report: each picture of the sweep as HTML with a fixed id, and the example clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from markupsafe import Markup

from analyses.plots.layers import plot_best_layers, plot_heads, plot_layer_step
from analyses.plots.theme import PALETTE
from analyses.selection.layer_selection import LayerSelection
from ditprobe.report import words
from ditprobe.report.page import figure_html
from ditprobe.report.views import View, clip_data, view
from store.clips.clip import Clip

# (variable, table digits, heading), in the order of the report.
MEASURES = (
    ("accuracy", ".1f", "Accuracy"),
    ("moving_accuracy", ".1f", "Accuracy on moving points"),
    ("feature_accuracy", ".1f", "Accuracy of intermediate features"),
    ("confidence", ".4f", "Cross confidence"),
    ("attention_score", ".4f", "Cross attention score"),
    ("harmonic_mean", ".3f", "Harmonic mean"),
)

NARROW = 440
"""Least width of a figure in pixels: that between the margins of a 500 px screen."""


@dataclass(frozen=True, eq=False)
class Example:
    """One clip of a report: predicted tracks, and the attention of some points.

    Parameters
    ----------
    name : str
    clip : Clip; its tracks and visibility, if it has them, are the truth
    predicted : (image, point, 2) float, (x, y) in pixels of the clip
    layer, step : int, of the prediction
    attention : DataArray (point, frame, y, x), optional, as of :func:`analyses.attention.rows.attention_of_points`
    """

    name: str
    clip: Clip
    predicted: np.ndarray
    layer: int
    step: int
    attention: xr.DataArray | None = None


@dataclass(frozen=True)
class ReportFigure:
    """A figure as HTML; on a screen narrower than ``width`` px it scrolls sideways in its own frame."""

    html: Markup
    width: int


@dataclass(frozen=True)
class Maps:
    """Heat maps and the sentence before them."""

    intro: str
    figures: tuple[ReportFigure, ...]


@dataclass(frozen=True)
class ShownExample:
    """An example as the page shows it."""

    name: str
    prompt: str
    words: str
    views: tuple[View, ...]


def embed(figure: go.Figure, names: Iterator[str], width: int = 0) -> ReportFigure:
    """Return a figure as HTML with the next id."""
    return ReportFigure(figure_html(figure, next(names)), width)


def measures(sweep: xr.Dataset) -> Iterator[tuple[str, str, str, xr.DataArray]]:
    """Recorded measures over (clip,) step and layer; for measures with targets, the cross target."""
    for name, digits, heading in MEASURES:
        if words.recorded(sweep, name):
            values = sweep[name]
            if "target" in values.dims:
                values = values.sel(target="cross", drop=True)
            if np.isfinite(values.values).any():
                yield name, digits, heading, values


def maps(sweep: xr.Dataset, selected: Sequence[int], names: Iterator[str]) -> Maps:
    """A heat map over layer and step for each recorded measure."""
    found = list(measures(sweep))
    figures = []
    for name, _, heading, values in found:
        limits = (0.0, 1.0) if name == "harmonic_mean" else None
        figure = plot_layer_step(values, selected=selected, limits=limits, title=heading)
        figures.append(embed(figure, names, _cells_width(values.sizes["step"])))
    kept = {name for name, *_ in found}
    absent = [heading.lower() for name, _, heading in MEASURES if name not in kept]
    intro = "Means over clips; layers run downwards in execution order"
    intro += ", bold ones are selected." if selected else "."
    intro += f" Not recorded in this sweep: {words.listed(absent)}." if absent else ""
    return Maps(intro, tuple(figures))


def curves(sweep: xr.Dataset, selected: Sequence[int], names: Iterator[str]) -> list[ReportFigure]:
    """Accuracy of the best selected layers over the steps; nothing without a selection."""
    if not selected or not words.recorded(sweep, "accuracy"):
        return []
    layers = list(selected)[: len(PALETTE)]
    static = sweep.get("static_accuracy")
    width = _cells_width(sweep.sizes["step"])
    figures = [embed(plot_best_layers(sweep["accuracy"], layers, baseline=static, title="Accuracy"), names, width)]
    if words.recorded(sweep, "moving_accuracy"):
        moving = plot_best_layers(sweep["moving_accuracy"], layers, title="Accuracy on moving points")
        figures.append(embed(moving, names, width))
    return figures


def heads(sweep: xr.Dataset, selection: LayerSelection | None, names: Iterator[str]) -> Maps | None:
    """A map over layer and head for each measure of single heads, at the step that the selection ranks by."""
    step = sweep["step"].values[-1] if selection is None or selection.step is None else selection.step
    selected = selection.layers if selection is not None else ()
    figures = []
    for name, _, heading in MEASURES:
        if not words.recorded(sweep, f"head_{name}"):
            continue
        values = sweep[f"head_{name}"].sel(step=step)
        values = values.sel(target="cross", drop=True) if "target" in values.dims else values
        figure = plot_heads(values, selected=selected, title=heading)
        figures.append(embed(figure, names, _cells_width(values.sizes["head"])))
    if not figures:
        return None
    return Maps(f"Each head alone at step {step}; means over clips.", tuple(figures))


def _cells_width(columns: int) -> int:
    """Least width at which a heat map is legible."""
    return min(NARROW, 110 + 28 * columns)


def show_example(example: Example, names: Iterator[str]) -> ShownExample:
    """Tracks with the truth, the attention of points if given, and a description of both."""
    shown = view("clip", clip_data(example.clip, example.predicted, attention=example.attention), names)
    return ShownExample(example.name, example.clip.prompt or "", _example_words(example), (shown,))


def _example_words(example: Example) -> str:
    clip = example.clip
    size = f"{len(clip)} images of {clip.height} x {clip.width} px (height x width)"
    size += f"; layer {example.layer} at step {example.step}, mean over heads."
    if clip.tracks is None or clip.visibility is None:
        return f"{size} This clip has no true tracks; only the prediction is drawn."
    errors = np.linalg.norm(np.asarray(example.predicted) - clip.tracks, axis=-1)
    counted = clip.visibility & clip.visibility[:1]
    counted[0] = False
    if not counted.any():
        return f"{size} No point of image 0 is visible later."
    inside = errors[counted]
    return (
        f"{size} Median error {np.median(inside):.1f} px over {inside.size} visible (point, image) pairs after image 0 "
        "of points visible in image 0."
    )
