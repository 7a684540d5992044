"""Pictures of a layer sweep: heat maps over layer and step, curves of the best layers, the selection, the heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.colors import sample_colorscale

from analyses.arrays import need_dims
from analyses.layers.differences import PERCENT, has_negative, is_difference, mark_difference
from analyses.plots.bands import add_band
from analyses.plots.theme import (
    DIVERGING,
    PALETTE,
    SEQUENTIAL,
    SOFT,
    entitle,
    headline,
    ink_on,
    label,
    layer_names,
    mark_missing,
    numbers,
    step_names,
    step_ticks,
    ticks,
    unit,
)
from analyses.statistics import bootstrap_mean, mean_over_clips
from store.arguments import checked
from store.errors import InvalidInputError, UnknownLayerError

Limits = tuple[float, float]
MOST_WRITTEN = 14
"""Largest numbers of rows and columns at which the number of each cell is written in it."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")


@dataclass(frozen=True)
class _Scale:
    """The limits of a colour scale, its colours, and in words how they were chosen."""

    low: float
    high: float
    colours: str
    note: str


def _scale(values: xr.DataArray, limits: Limits | None) -> _Scale:
    """A scale from 0, or one centred on 0 for values that can be negative."""
    if limits is not None and not limits[0] < limits[1]:
        raise InvalidInputError(f"limits must rise from low to high; got {limits}.")
    if is_difference(values) and limits is not None and limits[0] != -limits[1]:
        raise InvalidInputError(f"limits of a difference lie as far below 0 as above it; got {limits}. Leave them out.")
    if is_difference(values) or (has_negative(values) and limits is None):
        most = float(np.nanmax(np.abs(values.values), initial=0.0)) if limits is None else limits[1]
        most = most or 1.0
        return _Scale(-most, most, DIVERGING, f"white: 0; blue: above it, to {most:.3g}; red: below")
    if limits is not None:
        return _Scale(*limits, SEQUENTIAL, f"colour from {limits[0]:g} to {limits[1]:g}")
    if values.attrs.get("units") in PERCENT:
        return _Scale(0.0, 100.0, SEQUENTIAL, "colour from 0 to 100 %")
    finite = values.values[np.isfinite(values.values)]
    high = float(finite.max()) if finite.size else 1.0
    return _Scale(0.0, high if high > 0 else 1.0, SEQUENTIAL, "colour from 0 to the largest value")


def _cell_format(high: float) -> str:
    """Format of all cells: whole numbers if the largest value is ten or more, otherwise two digits of it."""
    decimals = 0 if high >= 10 else max(2, 1 - int(np.floor(np.log10(high))))
    return f".{decimals}f" if decimals <= 4 else ".1e"


def _write_cells(figure: go.Figure, cells: np.ndarray, x: Sequence[str], y: Sequence[str], scale: _Scale) -> None:
    """Write the number of each cell in black or white, whichever contrasts more with the colour of the cell."""
    rows, columns = (places.tolist() for places in np.nonzero(np.isfinite(cells)))
    if not rows:
        return
    values = cells[rows, columns].astype(float)
    form = ("+" if scale.colours == DIVERGING else "") + _cell_format(scale.high)
    texts = [format(value, form) for value in values]
    places = np.clip((values - scale.low) / (scale.high - scale.low), 0, 1)
    figure.add_scatter(
        x=[x[i] for i in columns],
        y=[y[i] for i in rows],
        mode="text",
        text=[text if float(text) else text.lstrip("+-") for text in texts],
        textfont={"color": [ink_on(colour) for colour in sample_colorscale(scale.colours, places, colortype="tuple")]},
        showlegend=False,
        hoverinfo="skip",
    )


def _matrix(
    values: xr.DataArray, x: Sequence[str], y: Sequence[str], *, limits: Limits | None, title: str | None
) -> go.Figure:
    """A heat map of cells (y, x) that states its scale, normalisation and missing cells."""
    scale = _scale(values, limits)
    cells = values.values.astype(np.float32)
    figure = go.Figure(
        go.Heatmap(
            z=cells,
            x=x,
            y=y,
            zmin=scale.low,
            zmax=scale.high,
            colorscale=scale.colours,
            xgap=1,
            ygap=1,
            hoverongaps=False,
            colorbar={"title": {"text": unit(values), "side": "right"}, "thickness": 12, "outlinewidth": 0},
            hovertemplate=f"%{{x}}<br>%{{y}}<br>{label(values)}: %{{z:.4g}}<extra></extra>",
        )
    )
    if len(x) <= MOST_WRITTEN and len(y) <= MOST_WRITTEN:
        _write_cells(figure, cells, x, y, scale)
    mark_missing(figure, cells, x, y, "not recorded")
    heading = title if title is not None else headline(values)
    entitle(figure, heading, scale.note, height=int(min(760, max(230, 140 + 26 * len(y)))), top=62)
    figure.update_layout(legend={"xanchor": "right", "x": 1})
    # The range is fixed, since text and hatches would widen an automatic one.
    figure.update_xaxes(showgrid=False, range=[-0.5, len(x) - 0.5])
    figure.update_yaxes(showgrid=False, range=[len(y) - 0.5, -0.5])
    return figure


@checked
def plot_layer_step(
    values: xr.DataArray, *, selected: Sequence[int] = (), limits: Limits | None = None, title: str | None = None
) -> go.Figure:
    """A heat map of one quantity over layer and step, with one cell for each recorded pair.

    Parameters
    ----------
    values : DataArray (step, layer), with or without ``clip`` (then the mean over clips); any unit, from ``attrs``
        A difference (:func:`analyses.layers.differences.difference`, or an accuracy with negative values) has diverging
        colours around 0.
    selected : layers whose labels are set in bold
    limits : of the colour scale; by default 0 to 100 for percent, otherwise 0 to the largest value

    Raises
    ------
    InvalidInputError
        For other dims, an empty array, limits that do not increase, and limits of a difference that are not symmetric
        around 0.

    Examples
    --------
    >>> accuracy = xr.DataArray([[10.0, 60.0]], dims=("step", "layer"), attrs={"units": "percent"}, name="accuracy")
    >>> plot_layer_step(accuracy).data[0].z.tolist()
    [[10.0], [60.0]]
    """
    values = need_dims("values", mean_over_clips(mark_difference(values)), ("layer", "step"))
    layers, names = numbers(values, "layer"), layer_names(values)
    figure = _matrix(values, step_names(values), names, limits=limits, title=title)
    texts = [f"<b>{layer}</b>" if layer in selected else str(layer) for layer in layers]
    figure.update_xaxes(**step_ticks(values))
    figure.update_yaxes(title={"text": "layer"}, **ticks(names, texts, 32))
    return figure


@checked
def plot_heads(
    values: xr.DataArray, *, selected: Sequence[int] = (), limits: Limits | None = None, title: str | None = None
) -> go.Figure:
    """A heat map of one quantity over layer and head.

    Parameters
    ----------
    values : DataArray (layer, head), with or without ``clip`` (then the mean over clips). Choose the step first.
    selected, limits : as in :func:`plot_layer_step`

    Raises
    ------
    InvalidInputError
        For other dims, an empty array or limits that do not increase.

    Examples
    --------
    >>> accuracy = xr.DataArray([[10.0, 60.0]], dims=("layer", "head"), attrs={"units": "percent"}, name="accuracy")
    >>> plot_heads(accuracy).data[0].z.tolist()
    [[10.0, 60.0]]
    """
    values = need_dims("values", mean_over_clips(mark_difference(values)), ("layer", "head"))
    heads, layers, names = numbers(values, "head"), numbers(values, "layer"), layer_names(values)
    columns = [f"head {head}" for head in heads]
    figure = _matrix(values, columns, names, limits=limits, title=title)
    texts = [f"<b>{layer}</b>" if layer in selected else str(layer) for layer in layers]
    figure.update_xaxes(title={"text": "head"}, **ticks(columns, [str(head) for head in heads], 32))
    figure.update_yaxes(title={"text": "layer"}, **ticks(names, texts, 32))
    return figure


def _position(layers: np.ndarray, layer: int) -> int:
    found = np.flatnonzero(layers == layer)
    if not len(found):
        raise UnknownLayerError(f"layer {layer} is not in this sweep. Layers: {', '.join(map(str, layers))}.")
    return int(found[0])


@checked
def plot_best_layers(
    values: xr.DataArray, layers: Sequence[int], *, baseline: xr.DataArray | None = None, title: str | None = None
) -> go.Figure:
    """Curves of the chosen layers over the steps, with 95 % intervals over clips; other layers are thin and grey.

    Parameters
    ----------
    values : DataArray (clip, step, layer), any unit; a difference is paired by clip and has a line at 0
    layers : layer numbers, best first (six at most are drawn in colour)
    baseline : DataArray (clip), optional. Score of "nothing moves"; its mean is a dashed line.

    Raises
    ------
    InvalidInputError
        For other dims, no layer or more than six, and a baseline of a difference.
    UnknownLayerError
        For a layer that is not in the sweep.

    Examples
    --------
    >>> accuracy = xr.DataArray(np.ones((2, 3, 4)), dims=("clip", "step", "layer"), name="accuracy")
    >>> [trace.name for trace in plot_best_layers(accuracy, [2]).data if trace.showlegend]
    ['other layers', 'layer 2']
    """
    values = need_dims("values", mark_difference(values), ("clip", "step", "layer"))
    if is_difference(values) and baseline is not None:
        raise InvalidInputError("a difference has no baseline: 'nothing moves' scores the same in both. Leave it out.")
    if not 1 <= len(layers) <= len(PALETTE):
        raise InvalidInputError(f"layers must name 1 to {len(PALETTE)} layers; got {len(layers)}.")
    numbered, x = numbers(values, "layer"), step_names(values)
    chosen = [_position(numbered, int(layer)) for layer in layers]
    mean, (lower, upper) = mean_over_clips(values), bootstrap_mean(values)
    figure = go.Figure()
    for index in (i for i in range(len(numbered)) if i not in chosen):
        _add_other(figure, x, mean.values[:, index], numbered[index], first=index == _first_other(chosen))
    for index, colour in zip(chosen, PALETTE, strict=False):
        add_band(figure, x, lower.values[:, index], upper.values[:, index], colour)
    for index, colour in zip(chosen, PALETTE, strict=False):
        _add_curve(figure, x, mean.values[:, index], (lower.values[:, index], upper.values[:, index]), colour)
        figure.data[-1].name = f"layer {numbered[index]}"
    _finish_curves(figure, values, baseline, title)
    return figure


def _first_other(chosen: Sequence[int]) -> int:
    return next(i for i in range(len(chosen) + 1) if i not in chosen)


def _add_other(figure: go.Figure, x: list[str], y: np.ndarray, layer: int, *, first: bool) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line={"width": 1, "color": "#c3c7cf"},
        marker={"size": 4 if len(x) == 1 else 1},
        name="other layers",
        legendgroup="others",
        showlegend=first,
        hovertemplate=f"layer {layer}<br>%{{x}}: %{{y:.3g}}<extra></extra>",
    )


def _add_curve(
    figure: go.Figure, x: list[str], y: np.ndarray, ends: tuple[np.ndarray, np.ndarray], colour: str
) -> None:
    lower, upper = ends
    single = np.isfinite(lower).sum() == 1
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line={"width": 2.5, "color": colour},
        marker={"size": 7, "symbol": SYMBOLS[PALETTE.index(colour)]},
        customdata=np.stack([lower, upper], axis=-1),
        error_y={"array": upper - y, "arrayminus": y - lower, "visible": bool(single)},
        showlegend=True,
        hovertemplate="%{x}<br>%{y:.3g} (95 %: %{customdata[0]:.3g} to %{customdata[1]:.3g})"
        "<extra>%{fullData.name}</extra>",
    )


def _finish_curves(figure: go.Figure, values: xr.DataArray, baseline: xr.DataArray | None, title: str | None) -> None:
    heading = title if title is not None else f"{label(values).split(' [')[0].capitalize()} of the best layers"
    entitle(figure, heading, _interval_note(values), height=430, top=64)
    figure.update_layout(legend={"y": -0.24, "yanchor": "top"})
    figure.update_xaxes(**step_ticks(values))
    figure.update_yaxes(title={"text": label(values)}, rangemode="tozero")
    if is_difference(values):
        figure.add_hline(y=0, line={"width": 1, "color": SOFT})
    if baseline is not None and np.isfinite(baseline.values).any():
        height = float(mean_over_clips(need_dims("baseline", baseline, ("clip",))))
        line = {"dash": "dash", "width": 1.5, "color": SOFT}
        suffix = f" {unit(values)}" if unit(values) else ""
        figure.add_hline(y=height, line=line, name=f"nothing moves: {height:.3g}{suffix}", showlegend=True)


def _interval_note(values: xr.DataArray) -> str:
    with_values = values.notnull().any([dim for dim in values.dims if dim != "clip"]).values
    entries = int(with_values.sum()) or values.sizes["clip"]
    sources = entries
    if "source" in values.coords:
        sources = len(np.unique(values["source"].values[with_values if with_values.any() else slice(None)]))
    if sources == 1:
        return "one clip: no interval over clips"
    windows = f" ({entries} windows)" if entries > sources else ""
    return f"bands: 95 % bootstrap interval over {sources} clips{windows}"
