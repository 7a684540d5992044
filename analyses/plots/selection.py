"""The picture of a layer selection: each layer's accuracy beside guesses without a model, and its ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analyses.plots.theme import PALETTE, entitle
from analyses.selection.layer_selection import LayerSelection
from analyses.selection.words import where
from store.arguments import checked
from store.checks import integer
from store.errors import InvalidInputError
from store.text import counted

OTHER, BASELINE = "#9aa0ab", PALETTE[1]


@checked
def plot_selection(
    selection: LayerSelection, *, max_layers: int = 16, panels: Sequence[str] | None = None, title: str | None = None
) -> go.Figure:
    """The layers, best first: accuracy on all and on moving points beside the baselines, and the ranking measure.

    Each value has its 95 % interval. Filled dots are selected layers; dashed lines are the scores of guesses without a
    model.

    Parameters
    ----------
    selection : LayerSelection, as of :func:`analyses.selection.select.select_layers`
    max_layers : number of layers to draw, best first; all selected layers are drawn in any case
    panels : which of "accuracy", "moving_accuracy" and "mean" (what the layers are ranked by), all by default
        :func:`selection_panels` lists them.

    Raises
    ------
    InvalidInputError
        For ``max_layers`` below one, and for an unknown panel.

    Examples
    --------
    >>> import xarray as xr
    >>> from analyses.selection.select import select_layers
    >>> cross = np.arange(24.0).reshape(2, 3, 4, 1)
    >>> sweep = {name: (("clip", "step", "layer", "target"), cross) for name in ("confidence", "attention_score")}
    >>> sweep["accuracy"] = (("clip", "step", "layer"), cross[..., 0])
    >>> sweep = xr.Dataset(sweep, {"target": ["cross"], "step": [0, 1, 2], "layer": [2, 3, 5, 8]})
    >>> plot_selection(select_layers(sweep, 2)).data[0].y
    ('8', '5', '3', '2')
    """
    integer(max_layers, "max_layers", min_value=1)
    table = selection.table()
    rows = table[: max(max_layers, *(1 + place for place, row in enumerate(table) if row["selected"]), 1)]
    drawn = _chosen_panels(selection, panels)
    figure = make_subplots(1, len(drawn), shared_yaxes=True, horizontal_spacing=0.04)
    for column, (name, low, high, text, limits, baseline) in enumerate(drawn, start=1):
        figure.add_trace(_dots(rows, name, low, high, text), 1, column)
        if baseline is not None and np.isfinite(baseline):
            figure.add_vline(x=baseline, line={"color": BASELINE, "dash": "dash", "width": 1.5}, row=1, col=column)
        figure.update_xaxes(title={"text": text}, range=limits, col=column)
    _finish(figure, selection, len(rows), len(table), title)
    return figure


def selection_panels(selection: LayerSelection) -> list[str]:
    """Return the panels that :func:`plot_selection` has for a selection.

    Examples
    --------
    >>> import xarray as xr
    >>> from analyses.selection.select import select_layers
    >>> cross = np.arange(24.0).reshape(2, 3, 4, 1)
    >>> sweep = {name: (("clip", "step", "layer", "target"), cross) for name in ("confidence", "attention_score")}
    >>> sweep["accuracy"] = (("clip", "step", "layer"), cross[..., 0])
    >>> sweep = xr.Dataset(sweep, {"target": ["cross"], "step": [0, 1, 2], "layer": [2, 3, 5, 8]})
    >>> selection_panels(select_layers(sweep, 2))
    ['accuracy', 'mean']
    """
    return [name for name, *_ in _panels(selection)]


def _chosen_panels(selection: LayerSelection, wanted: Sequence[str] | None) -> list[Panel]:
    found = _panels(selection)
    known = [name for name, *_ in found]
    for name in wanted or ():
        if name not in known:
            raise InvalidInputError(f"panels has no {name!r} for this selection; it has: {', '.join(known)}.")
    return [panel for panel in found if wanted is None or panel[0] in wanted]


Panel = tuple[str, str, str, str, list[float], float | None]


def _panels(selection: LayerSelection) -> list[Panel]:
    """Column of the table, its interval, axis title, limits and baseline of each panel; accuracy leads."""
    percent, scores = [-3.0, 103.0], selection.scores
    panels: list[Panel] = []
    for name, text, baseline in (
        ("accuracy", "accuracy [%]", "static_accuracy"),
        ("moving_accuracy", "accuracy on moving points [%]", "blind_accuracy"),
    ):
        if np.isfinite(scores[name]).any():
            panels.append((name, f"{name}_low", f"{name}_high", text, percent, float(scores[baseline])))
    if selection.criterion == "harmonic":
        panels.append(("mean", "low", "high", "harmonic mean, 0 to 1", [-0.03, 1.03], None))
    return panels


def _dots(rows: list[dict[str, Any]], name: str, low: str, high: str, text: str) -> go.Scatter:
    mean, below, above, sure = (np.array([row[key] for row in rows]) for key in (name, low, high, "probability"))
    colours = [PALETTE[0] if row["selected"] else OTHER for row in rows]
    symbols = ["circle" if row["carrier"] else "circle-open" for row in rows]
    return go.Scatter(
        x=mean,
        y=[str(row["layer"]) for row in rows],
        mode="markers",
        marker={"size": 10, "color": colours, "symbol": symbols, "line": {"width": 2}},
        error_x={"array": above - mean, "arrayminus": mean - below, "color": OTHER, "thickness": 1.5, "width": 5},
        customdata=np.stack([below, above, sure], axis=-1),
        showlegend=False,
        hovertemplate=f"layer %{{y}}<br>{text} %{{x:.4g}} (95 %: %{{customdata[0]:.4g}} to %{{customdata[1]:.4g}})"
        "<br>top places: probability %{customdata[2]:.2f}<extra></extra>",
    )


def _finish(figure: go.Figure, selection: LayerSelection, shown: int, layers: int, title: str | None) -> None:
    notes = ["filled: beats the baselines (dashed)", "blue: selected"]
    if selection.sources > 1:
        notes.append(f"lines: 95 % bootstrap interval over {selection.sources} clips")
    else:
        notes.append("one clip: neither interval nor probability")
    if shown < layers:
        notes.append(f"the best {shown} of {layers} layers")
    threshold = selection.threshold_cells
    within = "" if threshold is None else f", within {counted(threshold, 'cell')}"
    entitle(figure, title or f"Layers {where(selection)}{within}", "; ".join(notes), height=150 + 28 * shown, top=66)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_yaxes(title={"text": "layer"}, col=1)
