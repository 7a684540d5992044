"""Pictures of an evaluation of trackers: error over time, accuracy over thresholds, and scores of single clips."""

from __future__ import annotations

from textwrap import wrap

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from analyses.arrays import need_dims
from analyses.layers.differences import is_difference, mark_difference
from analyses.plots.bands import add_band
from analyses.plots.layers import SYMBOLS
from analyses.plots.theme import INK, PALETTE, SOFT, entitle, escape, headline, label, numbers
from analyses.statistics import bootstrap_mean, by_source, mean_over_clips
from store.arguments import checked
from store.errors import InvalidInputError


@checked
def plot_error_over_time(errors: xr.DataArray, *, title: str | None = None) -> go.Figure:
    """Error against the images since the query, one curve for each tracker, with 95 % bands over clips.

    Parameters
    ----------
    errors : DataArray (tracker, clip, lag), such as ``error`` of :func:`analyses.metrics.track_errors.gather_errors`
        Six trackers at most. At a lag, only clips that are long enough count.

    Raises
    ------
    InvalidInputError
        For other dims, an empty array or more than six trackers.

    Examples
    --------
    >>> errors = xr.DataArray(np.ones((2, 4, 9)), {"tracker": ["ours", "flow"]}, ("tracker", "clip", "lag"), "error")
    >>> [trace.name for trace in plot_error_over_time(errors).data if trace.name]
    ['ours', 'flow']
    """
    errors, names = _trackers(errors, "lag")
    x = numbers(errors, "lag")
    figure = go.Figure()
    bands = [_statistics(errors.isel(tracker=index)) for index in range(len(names))]
    for (_, lower, upper), colour in zip(bands, PALETTE, strict=False):
        add_band(figure, x, lower, upper, colour)
    for name, (mean, lower, upper), colour, symbol in zip(names, bands, PALETTE, SYMBOLS, strict=False):
        single = np.isfinite(lower).sum() == 1
        figure.add_scatter(
            x=x,
            y=mean,
            mode="lines+markers",
            line={"width": 2.5, "color": colour},
            marker={"size": 7 if len(x) <= 30 else 1, "symbol": symbol},
            error_y={"array": upper - mean, "arrayminus": mean - lower, "visible": bool(single)},
            customdata=np.stack([lower, upper], -1),
            name=name,
            hovertemplate=_hover("%{x} images since the query"),
        )
    _finish(figure, errors, title or _heading("Error over the time since the query", errors), _note(errors, "bands:"))
    every = 1 if len(x) <= 12 else None  # no ticks between whole images
    figure.update_xaxes(title={"text": "images since the query"}, rangemode="tozero", dtick=every)
    return figure


@checked
def plot_accuracy_per_threshold(within: xr.DataArray, *, title: str | None = None) -> go.Figure:
    """The percentage of points within each threshold, one curve for each tracker, with 95 % intervals over clips.

    Parameters
    ----------
    within : DataArray (tracker, clip, threshold), such as ``within`` of
        :func:`analyses.metrics.track_errors.gather_errors`, or ``jaccard`` in the same dims. Six trackers at most.

    Raises
    ------
    InvalidInputError
        For other dims, an empty array or more than six trackers.

    Examples
    --------
    >>> within = xr.DataArray(np.ones((1, 4, 2)), {"threshold": [1, 2]}, ("tracker", "clip", "threshold"), "within")
    >>> plot_accuracy_per_threshold(within).data[0].x
    array([1, 2])
    """
    within, names = _trackers(within, "threshold")
    x = numbers(within, "threshold")
    figure = go.Figure()
    # Side by side, since intervals at the same place would overlap.
    spread = 1.03 ** (np.arange(len(names)) - (len(names) - 1) / 2)
    for index, (name, colour, symbol) in enumerate(zip(names, PALETTE, SYMBOLS, strict=False)):
        mean, lower, upper = _statistics(within.isel(tracker=index))
        figure.add_scatter(
            x=x * spread[index] if len(names) > 1 else x,
            y=mean,
            mode="lines+markers",
            line={"width": 2, "color": colour},
            marker={"size": 8, "symbol": symbol},
            error_y={"array": upper - mean, "arrayminus": mean - lower, "thickness": 1.5, "width": 3},
            customdata=np.stack([lower, upper, x], -1),
            name=name,
            hovertemplate=_hover("within %{customdata[2]:g} px"),
        )
    _finish(figure, within, title or _heading("Accuracy per threshold", within), _note(within, "bars:"))
    text = label(within["threshold"]) if "threshold" in within.coords else "threshold"
    figure.update_xaxes(
        title={"text": text}, type="log", tickmode="array", tickvals=x, ticktext=[f"{value:g}" for value in x]
    )
    if within.attrs.get("units") in ("%", "percent"):
        figure.update_yaxes(range=[0, 101])
    return figure


@checked
def plot_clip_scores(scores: xr.DataArray, *, title: str | None = None) -> go.Figure:
    """One column for each tracker: a dot for every clip, joined by thin lines, and the mean with its 95 % interval.

    Parameters
    ----------
    scores : DataArray (tracker, clip), any unit; NaN where a tracker has no score. Six trackers at most.

    Raises
    ------
    InvalidInputError
        For other dims, an empty array or more than six trackers.

    Examples
    --------
    >>> scores = xr.DataArray([[40.0, 60.0], [50.0, 90.0]], {"tracker": ["patches", "ours"]}, ("tracker", "clip"))
    >>> [trace.y for trace in plot_clip_scores(scores).data if trace.name == "mean of ours"]
    [array([70.])]
    """
    scores, names = _trackers(scores)
    clips = [escape(clip) for clip in numbers(scores, "clip")]
    places = np.arange(len(names), dtype=float)
    figure = go.Figure()
    lines = np.concatenate([scores.values, np.full((1, len(clips)), np.nan)])  # the gap ends each clip's line
    figure.add_scatter(
        x=np.tile([*places, np.nan], len(clips)),
        y=lines.T.ravel(),
        mode="lines",
        line={"width": 1, "color": "rgba(154,160,171,0.5)"},
        name="the same clip",
        showlegend=False,
        hoverinfo="skip",
    )
    for index, (name, colour, symbol) in enumerate(zip(names, PALETTE, SYMBOLS, strict=False)):
        figure.add_scatter(
            x=np.full(len(clips), places[index]),
            y=scores.values[index],
            mode="markers",
            marker={"size": 7, "symbol": symbol, "color": colour, "opacity": 0.6},
            text=clips,
            name=name,
            showlegend=False,
            hovertemplate="%{text}<br>%{y:.3g}<extra>%{fullData.name}</extra>",
        )
        mean, lower, upper = (value.reshape(1) for value in _statistics(scores.isel(tracker=index)))
        figure.add_scatter(
            x=[places[index] + 0.2],
            y=mean,
            mode="markers",
            marker={"size": 10, "symbol": "line-ew", "line": {"width": 3, "color": INK}},
            error_y={"array": upper - mean, "arrayminus": mean - lower, "color": INK, "thickness": 1.5, "width": 4},
            customdata=np.stack([lower, upper], -1),
            name=f"mean of {name}",
            showlegend=False,
            hovertemplate=_hover("mean over clips"),
        )
    joined = "lines: the same clip; " if len(names) > 1 else ""
    _finish(figure, scores, title or _heading("Every clip", scores), _note(scores, f"{joined}black: mean and its"))
    figure.update_xaxes(
        tickmode="array",
        tickvals=places,
        ticktext=[_wrapped(name) for name in numbers(scores, "tracker")],
        tickangle=0,
        range=[-0.5, len(names) - 0.5],
        showgrid=False,
    )
    return figure


def _trackers(values: xr.DataArray, *dims: str) -> tuple[xr.DataArray, list[str]]:
    values = need_dims("values", mark_difference(values), ("tracker", "clip", *dims))
    names = [escape(name) for name in numbers(values, "tracker")]
    if len(names) > len(PALETTE):
        raise InvalidInputError(
            f"{len(names)} trackers are too many to tell apart. Choose {len(PALETTE)} at most, e.g. "
            "values.sel(tracker=[...])."
        )
    return values, names


def _statistics(values: xr.DataArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over clips and the bounds of its interval, at each place from the clips that have a value."""
    mean = np.asarray(mean_over_clips(values).values)
    seen = np.isfinite(by_source(values).values)
    if seen.ndim == 1:
        lower, upper = bootstrap_mean(values)
        return mean, np.asarray(lower.values), np.asarray(upper.values)
    ends = np.full((2, len(mean)), np.nan)
    _, group = np.unique(seen, axis=1, return_inverse=True)
    for number in range(group.max() + 1):
        places = np.flatnonzero(group == number)
        lower, upper = bootstrap_mean(values.transpose("clip", ...)[:, places])
        ends[:, places] = lower.values, upper.values
    return mean, ends[0], ends[1]


def _hover(where: str) -> str:
    interval = "(95 %: %{customdata[0]:.3g} to %{customdata[1]:.3g})"
    return f"{where}<br>%{{y:.3g}} {interval}<extra>%{{fullData.name}}</extra>"


def _finish(figure: go.Figure, values: xr.DataArray, heading: str, note: str) -> None:
    entitle(figure, heading, _chosen(values) + note, height=430, top=64)
    figure.update_layout(legend={"y": -0.2, "yanchor": "top", "traceorder": "normal"})
    figure.update_traces(cliponaxis=False)
    figure.update_xaxes(ticks="outside", ticklen=6, tickcolor="rgba(0,0,0,0)")  # numbers below marks at zero
    figure.update_yaxes(title={"text": label(values)}, rangemode="tozero")
    if is_difference(values):
        figure.add_hline(y=0, line={"width": 1, "color": SOFT})


def _heading(text: str, values: xr.DataArray) -> str:
    return f"{headline(values)}: {text[0].lower()}{text[1:]}" if is_difference(values) else text


def _wrapped(name: object) -> str:
    """A name broken into short lines, so that six fit side by side."""
    return "<br>".join(escape(line) for line in wrap(str(name), 10, break_long_words=False)) or " "


def _chosen(values: xr.DataArray) -> str:
    """Return the earlier selection with its unit: ``threshold 8 px; ``."""
    parts = []
    for name, coordinate in values.coords.items():
        if coordinate.ndim == 0:
            value = coordinate.item()
            text = f"{value:g}" if isinstance(value, int | float) else str(value)
            parts.append(escape(f"{name} {text} {coordinate.attrs.get('units', '')}".rstrip()) + "; ")
    return "".join(parts)


def _note(values: xr.DataArray, what: str) -> str:
    """Return the smallest and largest number of clips in an interval, in words."""
    scored = values.notnull().any([dim for dim in values.dims if dim != "clip"]).values
    if not scored.any():
        return "no clip has a value"
    seen = by_source(values.isel(clip=scored)).notnull()
    most = seen.sizes["clip"]
    if most < 2:
        return "one clip: no interval over clips"
    least = int(seen.sum("clip").min())
    return f"{what} 95 % bootstrap interval over {f'{least} to ' if least < most else ''}{most} clips"
