"""The picture of a layer selection: how good each layer is, how sure that is, how often it would be chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analyses.layer_selection import LayerSelection
from analyses.plots_theme import PALETTE, entitle
from store.errors import InvalidInputError

OTHER = "#9aa0ab"


def plot_selection(selection: LayerSelection, *, max_layers: int = 16, title: str | None = None) -> go.Figure:
    """The layers, best first: harmonic mean with its 95 % interval, and the probability of being in the top count.

    Parameters
    ----------
    selection : LayerSelection, as of :func:`analyses.selection.select_layers`
    max_layers : at most this many layers are drawn, the best ones, never fewer than were chosen

    Raises
    ------
    InvalidInputError
        For ``max_layers`` below one.

    Examples
    --------
    >>> import xarray as xr
    >>> from analyses.selection import select_layers
    >>> cross = np.arange(24.0).reshape(2, 3, 4, 1)
    >>> sweep = {name: (("clip", "step", "layer", "target"), cross) for name in ("confidence", "attention_score")}
    >>> sweep["accuracy"] = (("clip", "step", "layer"), cross[..., 0])
    >>> sweep = xr.Dataset(sweep, {"target": ["cross"], "step": [0, 1, 2], "layer": [2, 3, 5, 8]})
    >>> plot_selection(select_layers(sweep, 2)).data[0].y
    ('8', '5', '3', '2')
    """
    if max_layers < 1:
        raise InvalidInputError(f"max_layers must be at least 1; got {max_layers}.")
    table = selection.table()
    rows = table[: max(max_layers, selection.count)]
    colours = [PALETTE[0] if row["selected"] else OTHER for row in rows]
    figure = make_subplots(1, 2, shared_yaxes=True, column_widths=[0.6, 0.4], horizontal_spacing=0.05)
    figure.add_trace(_means(rows, colours), 1, 1)
    figure.add_trace(_probabilities(rows, colours), 1, 2)
    _finish(figure, selection, len(rows), len(table), title)
    return figure


def _column(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], dtype=np.float64)


def _means(rows: list[dict[str, Any]], colours: list[str]) -> go.Scatter:
    mean, low, high = (_column(rows, name) for name in ("mean", "low", "high"))
    return go.Scatter(
        x=mean,
        y=[str(row["layer"]) for row in rows],
        mode="markers",
        marker={"size": 10, "color": colours},
        error_x={"array": high - mean, "arrayminus": mean - low, "color": OTHER, "thickness": 1.5, "width": 5},
        customdata=np.stack([low, high], axis=-1),
        showlegend=False,
        hovertemplate="layer %{y}<br>harmonic mean %{x:.3f} (95 %: %{customdata[0]:.3f} to %{customdata[1]:.3f})"
        "<extra></extra>",
    )


def _probabilities(rows: list[dict[str, Any]], colours: list[str]) -> go.Bar:
    percent = 100 * _column(rows, "probability")
    return go.Bar(
        x=percent,
        y=[str(row["layer"]) for row in rows],
        orientation="h",
        marker={"color": colours},
        text=["" if np.isnan(value) else f"{value:.0f} %" for value in percent],
        textposition="outside",
        cliponaxis=False,
        showlegend=False,
        hovertemplate="layer %{y}<br>%{x:.1f} %<extra></extra>",
    )


def _finish(figure: go.Figure, selection: LayerSelection, shown: int, layers: int, title: str | None) -> None:
    where = "averaged over the steps" if selection.step is None else f"at step {selection.step}"
    notes = [f"blue: the {selection.count} selected"]
    if selection.sources > 1:
        notes.append(f"lines: 95 % bootstrap interval over {selection.sources} clips")
    else:
        notes.append("one clip: neither interval nor probability")
    if shown < layers:
        notes.append(f"the best {shown} of {layers} layers")
    entitle(figure, title or f"Harmonic mean {where}", "; ".join(notes), height=150 + 28 * shown, top=66)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_yaxes(title={"text": "layer"}, col=1)
    figure.update_xaxes(title={"text": "harmonic mean, 0 to 1"}, range=[-0.03, 1.03], col=1)
    top = f"probability of the top {selection.count} [%]"
    figure.update_xaxes(title={"text": top}, range=[0, 118], tickvals=[0, 50, 100], col=2)
