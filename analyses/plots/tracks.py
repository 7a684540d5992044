"""Predicted tracks drawn on the images of a clip, with the truth if it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analyses.arrays import as_images
from analyses.plots.colours import start_colours
from analyses.plots.theme import INK, SOFT, entitle, evenly, image_trace, strided
from store.arguments import Array, checked
from store.arrays import as_array
from store.checks import finite, integer
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks


@dataclass(frozen=True)
class _Drawn:
    """Predictions and truth (image, point, 2), and hidden points (image, point), as they are drawn."""

    predicted: np.ndarray
    tracks: np.ndarray | None
    hidden: np.ndarray
    colours: list[str]
    points: np.ndarray  # their numbers before thinning


def _as_tracks(name: str, tracks: Any, images: int) -> np.ndarray:
    array = as_array(tracks).astype(np.float64)
    if array.ndim != 3 or array.shape[0] != images or array.shape[2] != 2 or not array.shape[1]:
        raise InvalidInputError(f"{name} needs dims (image, point, 2) with {images} images; got shape {array.shape}.")
    return array


def _as_flags(name: str, flags: Any, shape: tuple[int, int]) -> np.ndarray:
    array = as_array(flags)
    if array.dtype != bool or array.shape != shape:
        raise InvalidInputError(f"{name} needs bool (image, point) {shape}; got {array.dtype} {array.shape}.")
    return array


def _errors(drawn: _Drawn, image: int) -> list[go.Scatter]:
    """Thin lines from the truth to the prediction of visible points, with a dark rim to be visible anywhere."""
    lines = np.full((drawn.predicted.shape[1], 3, 2), np.nan)
    if drawn.tracks is not None:
        lines[:, 0], lines[:, 1] = drawn.tracks[image], drawn.predicted[image]
        lines[drawn.hidden[image]] = np.nan
    x, y = np.round(lines.reshape(-1, 2), 2).T
    strokes = ({"color": "rgba(31,36,48,0.75)", "width": 3.5}, {"color": "white", "width": 1.5})
    shared = {"mode": "lines", "showlegend": False, "hoverinfo": "skip", "legendgroup": "errors"}
    return [go.Scatter(x=x, y=y, line=line, **shared) for line in strokes]


def _truth(drawn: _Drawn, image: int) -> go.Scatter:
    """Crosses at the true positions of visible points."""
    places = np.full_like(drawn.predicted[image], np.nan)
    if drawn.tracks is not None:
        places = np.where(drawn.hidden[image][:, None], np.nan, drawn.tracks[image])
    return go.Scatter(
        x=np.round(places[:, 0], 2),
        y=np.round(places[:, 1], 2),
        mode="markers",
        marker={"symbol": "x", "size": 8, "color": "white", "line": {"color": INK, "width": 1}},
        showlegend=False,
        customdata=drawn.points,
        hovertemplate="point %{customdata}, truth<br>x %{x:.1f}, y %{y:.1f} px<extra></extra>",
    )


def _prediction(drawn: _Drawn, image: int) -> list[go.Scatter]:
    """Discs coloured by start position, hollow for hidden points, with dark rims since the colours are light."""
    x, y = np.round(drawn.predicted[image], 2).T
    hidden = drawn.hidden[image]
    symbols = ["circle-open" if flag else "circle" for flag in hidden]

    def marks(colour: Any, widths: tuple[float, float]) -> dict[str, Any]:
        line = {"width": [widths[int(flag)] for flag in hidden], "color": INK}
        return {"symbol": symbols, "size": 10, "color": colour, "line": line}

    rims = go.Scatter(x=x, y=y, mode="markers", marker=marks(INK, (1, 4)), showlegend=False, hoverinfo="skip")
    discs = go.Scatter(
        x=x,
        y=y,
        mode="markers",
        marker=marks(drawn.colours, (1, 2)),
        showlegend=False,
        customdata=drawn.points,
        hovertemplate="point %{customdata}, predicted<br>x %{x:.1f}, y %{y:.1f} px<extra></extra>",
    )
    return [rims, discs]


def _layers_of(drawn: _Drawn, pictures: np.ndarray, image: int) -> list[Any]:
    height, width = pictures.shape[1:3]
    background = image_trace(pictures[image], (0, 0, width, height))
    return [background, *_errors(drawn, image), _truth(drawn, image), *_prediction(drawn, image)]


def _frame(drawn: _Drawn, pictures: np.ndarray, image: int) -> go.Frame:
    layers = _layers_of(drawn, pictures, image)
    return go.Frame(name=str(image), data=layers, traces=list(range(len(layers))))


def _legend(drawn: _Drawn) -> list[go.Scatter]:
    """Legend entries that explain the marks and draw nothing."""
    entries = {"predicted": "circle"}
    if drawn.hidden.any():
        entries["predicted, hidden"] = "circle-open"
    if drawn.tracks is not None:
        entries["truth"] = "x"
    mark = {"size": 9, "color": SOFT, "line": {"width": 1.5, "color": SOFT}}
    marks = [mark | {"symbol": symbol} for symbol in entries.values()]
    if drawn.tracks is not None:
        marks[-1] |= {"color": "white"}
    found = [
        go.Scatter(x=[None], y=[None], mode="markers", marker=mark, name=name, hoverinfo="skip")
        for name, mark in zip(entries, marks, strict=True)
    ]
    if drawn.tracks is not None:
        line = {"color": INK, "width": 2}
        found.append(go.Scatter(x=[None], y=[None], mode="lines", line=line, name="errors", legendgroup="errors"))
    return found


TIMES_PLAYED = 5


def image_slider(shown: list[int], active: int) -> dict[str, Any]:
    """A slider that stops only at the drawn images."""
    options = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": str(image), "method": "animate", "args": [[str(image)], options]} for image in shown]
    return {
        "steps": steps,
        "active": active,
        "currentvalue": {"prefix": "image ", "font": {"size": 13}, "xanchor": "left"},
        "pad": {"l": 164, "r": 8, "b": 34},
        "len": 1,
        "bgcolor": "#e4e6ea",
        "bordercolor": "#c3c7cf",
        "tickcolor": "#c3c7cf",
    }


def add_player(figure: go.Figure, shown: list[int], images_per_second: float, *, active: int) -> None:
    """Add a slider over the drawn images, and buttons that play them a few times and stop.

    They are placed above the panels, which on a narrow screen do not fill their height.
    """
    still = {"transition": {"duration": 0}}
    play = {"mode": "immediate", "frame": {"duration": 1000 / images_per_second, "redraw": True}}
    stop = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}}
    names = [str(image) for image in shown] * TIMES_PLAYED
    buttons = [
        {"label": "▶ play", "method": "animate", "args": [names, play | still]},
        {"label": "❚❚ pause", "method": "animate", "args": [[None], stop | still]},
    ]
    place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}
    menu = {"type": "buttons", "direction": "left", "showactive": False, "buttons": buttons, "pad": {"b": 54, "l": 4}}
    figure.update_layout(sliders=[image_slider(shown, active) | place], updatemenus=[menu | place])


@checked
def plot_tracks(
    images: Array,
    predicted: Array | PointTracks,
    *,
    tracks: Array | None = None,
    visibility: Array | None = None,
    predicted_visibility: Array | None = None,
    max_images: int = 24,
    max_points: int = 150,
    images_per_second: float = 8.0,
    title: str | None = None,
) -> go.Figure:
    """Animation of predicted points on the images of a clip, joined to the truth if it is known, with a slider.

    A click on "errors" in the legend hides the lines between predictions and truth.

    Parameters
    ----------
    images : (image, y, x, 3) uint8
    predicted : PointTracks, or (image, point, 2) float, (x, y) in pixels of the clip
        Colours depend on the query position (:func:`analyses.plots.colours.start_colours`), as in
        :func:`analyses.plots.overlay.draw_tracks`; without queries, on the position in image 0.
    tracks : (image, point, 2) float, (x, y) in pixels of the clip, optional: the truth
    visibility, predicted_visibility : (image, point) bool, optional. Hidden points are drawn hollow, by the truth
        where it is given, by the prediction otherwise; the error of a hidden point is not drawn.
    max_images, max_points : larger numbers are thinned out to these; the title states it
    images_per_second : float
        Speed of the animation, above 0.

    Raises
    ------
    InvalidInputError
        For a wrong shape or dtype, limits below one, or a speed that is not above 0.

    Examples
    --------
    >>> figure = plot_tracks(np.zeros((9, 80, 112, 3), np.uint8), np.full((9, 4, 2), 8.0), max_images=3)
    >>> [stop.label for stop in figure.layout.sliders[0].steps]
    ['0', '4', '8']
    """
    pictures = as_images(images)
    integer(max_images, "max_images", min_value=1)
    integer(max_points, "max_points", min_value=1)
    finite(images_per_second, "images_per_second", above=0)
    drawn, total = _drawn(pictures, predicted, tracks, visibility, predicted_visibility, max_points)
    shown = strided(len(pictures), max_images)
    # The last image is shown first: in image 0 a tracker has not done anything yet.
    figure = go.Figure(_layers_of(drawn, pictures, shown[-1]) + _legend(drawn))
    if len(shown) > 1:
        figure.frames = [_frame(drawn, pictures, image) for image in shown]
        add_player(figure, shown, images_per_second, active=len(shown) - 1)
    _finish(figure, pictures, title or "Predicted tracks", _note(drawn, total, len(shown), len(pictures)))
    return figure


def _drawn(
    pictures: np.ndarray, predicted: Any, tracks: Any, visibility: Any, predicted_visibility: Any, max_points: int
) -> tuple[_Drawn, int]:
    """Checked and thinned input, and the number of points before thinning."""
    queries = None
    if isinstance(predicted, PointTracks):
        queries = predicted.queries[:, 1:]
        predicted_visibility = predicted.visibility if predicted_visibility is None else predicted_visibility
        predicted = predicted.tracks
    predicted = _as_tracks("predicted", predicted, len(pictures))
    shape = predicted.shape[:2]
    if tracks is not None:
        tracks = _as_tracks("tracks", tracks, len(pictures))
        if tracks.shape != predicted.shape:
            raise InvalidInputError(
                f"predicted has {shape[1]} points and tracks {tracks.shape[1]}. Pass the same points in both."
            )
    if visibility is not None:
        name, flags = "visibility", visibility
    else:
        name, flags = "predicted_visibility", predicted_visibility
    hidden = np.zeros(shape, bool) if flags is None else ~_as_flags(name, flags, shape)
    keep = np.array(evenly(shape[1], max_points))
    starts = predicted[0] if queries is None else queries
    colours = [f"rgb({r},{g},{b})" for r, g, b in start_colours(starts[keep], *pictures.shape[1:3])]
    truth = None if tracks is None else tracks[:, keep]
    return _Drawn(predicted[:, keep], truth, hidden[:, keep], colours, keep), shape[1]


def _note(drawn: _Drawn, points: int, shown: int, images: int) -> str:
    kept = drawn.predicted.shape[1]
    parts = ["colour: where a point starts" + ("; lines: errors" if drawn.tracks is not None else "")]
    if kept < points:
        parts.append(f"{kept} of {points} points")
    if shown < images:
        parts.append(f"{shown} of {images} images")
    if drawn.tracks is None:
        parts.append("no truth for this clip")
    return "; ".join(parts)


def _finish(figure: go.Figure, pictures: np.ndarray, heading: str, note: str) -> None:
    height, width = pictures.shape[1:3]
    entitle(
        figure,
        heading,
        note,
        height=int(230 + min(480, max(260, 620 * height / width))),
        top=92 + (70 if figure.frames else 0),
    )
    figure.update_layout(margin={"l": 6, "r": 6, "b": 10})
    bare = {"showgrid": False, "showticklabels": False, "constrain": "domain"}
    figure.update_xaxes(range=[0, width], **bare)
    figure.update_yaxes(range=[height, 0], scaleanchor="x", **bare)
