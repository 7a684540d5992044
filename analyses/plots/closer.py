"""Paths of coarse tracks, of a closer look and of the truth, drawn over an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from analyses.arrays import as_images
from analyses.plots.theme import INK, PALETTE, entitle, evenly, image_trace
from store.arguments import Array, checked
from store.arrays import as_array
from store.checks import integer
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks

COARSE, CLOSER, TRUE = "coarse", "closer look", "truth"
_STYLES = {
    TRUE: ("white", "x", "solid"),
    COARSE: (PALETTE[5], "square", "dot"),
    CLOSER: (PALETTE[4], "circle", "solid"),
}


@checked
def plot_closer(
    images: Array,
    coarse: PointTracks,
    closer: PointTracks,
    *,
    tracks: Array | None = None,
    visibility: Array | None = None,
    max_points: int = 16,
    title: str | None = None,
) -> go.Figure:
    """Paths of the same points from the whole image and from a closer look, over the last image.

    A mark ends each path. Where the truth is known, hidden parts of all paths are left out.

    Parameters
    ----------
    images : (image, y, x, 3) uint8
    coarse, closer : PointTracks of the same queries
    tracks : (image, point, 2) float, (x, y) in pixels of the clip, optional: the truth
    visibility : (image, point) bool, optional: the truth
    max_points : larger numbers of points are thinned out to this; the title states it
    title : plain text

    Raises
    ------
    InvalidInputError
        For tracks of other points, and for a wrong shape.

    Examples
    --------
    >>> from analyses.trackers.static import StaticTracker
    >>> images = np.zeros((9, 80, 112, 3), np.uint8)
    >>> still = StaticTracker()(images, [[0, 10.0, 20.0]])
    >>> [each.name for each in plot_closer(images, still, still).data if each.name]
    ['coarse', 'closer look']
    """
    pictures = as_images(images)
    integer(max_points, "max_points", min_value=1)
    shape = coarse.tracks.shape
    if not np.array_equal(coarse.queries, closer.queries) or shape[0] != len(pictures):
        raise InvalidInputError(
            f"coarse has {shape[1]} points in {shape[0]} images, closer {closer.tracks.shape[1]} in "
            f"{closer.tracks.shape[0]}, and there are {len(pictures)} images. Pass tracks of the same queries in them."
        )
    paths = {COARSE: coarse.tracks, CLOSER: closer.tracks}
    if tracks is not None:
        paths = {TRUE: _fitting("tracks", tracks, shape), **paths}
    shown = np.ones(shape[:2], bool) if visibility is None else _fitting("visibility", visibility, shape[:2])
    keep = np.array(evenly(shape[1], max_points))
    height, width = pictures.shape[1:3]
    figure = go.Figure(image_trace(pictures[-1], (0, 0, width, height)))
    for name, path in paths.items():
        figure.add_traces(_path(name, path[:, keep], shown[:, keep].astype(bool), keep))
    note = f"paths from image 0 to {len(pictures) - 1}, marks where they end"
    note += f"; {len(keep)} of {shape[1]} points" if len(keep) < shape[1] else ""
    tall = int(170 + min(560, max(280, 620 * height / width)))
    entitle(figure, title or "Coarse tracks and a closer look", note, height=tall, top=96)
    figure.update_layout(margin={"l": 6, "r": 6, "b": 10})
    bare = {"showgrid": False, "showticklabels": False, "constrain": "domain"}
    figure.update_xaxes(range=[0, width], **bare)
    figure.update_yaxes(range=[height, 0], scaleanchor="x", **bare)
    return figure


def _fitting(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array: np.ndarray = as_array(values)
    if array.shape != shape:
        raise InvalidInputError(f"{name} needs the shape {shape} of the coarse tracks; got {array.shape}.")
    return array


def _path(name: str, path: np.ndarray, shown: np.ndarray, points: np.ndarray) -> list[go.Scatter]:
    """Lines with a dark rim, visible on any image, and a mark at the end of each."""
    colour, symbol, dash = _STYLES[name]
    lines = np.where(shown[..., None], path, np.nan)
    lines = np.concatenate([lines, np.full((1, *lines.shape[1:]), np.nan)])  # a gap after each point
    x, y = np.round(lines.transpose(1, 0, 2).reshape(-1, 2), 2).T
    shared = {"x": x, "y": y, "mode": "lines", "hoverinfo": "skip", "showlegend": False, "legendgroup": name}
    last = np.array([np.flatnonzero(seen)[-1] if seen.any() else 0 for seen in shown.T])
    ever = np.array([seen.any() for seen in shown.T])
    ends = np.round(np.where(ever[:, None], path[last, np.arange(path.shape[1])], np.nan), 2)
    marks = go.Scatter(
        x=ends[:, 0],
        y=ends[:, 1],
        mode="markers",
        marker={"symbol": symbol, "size": 9, "color": colour, "line": {"width": 1, "color": INK}},
        name=name,
        legendgroup=name,
        customdata=points,
        hovertemplate="point %{customdata}, " + name + "<br>x %{x:.1f}, y %{y:.1f} px<extra></extra>",
    )
    rim = go.Scatter(line={"color": INK, "width": 3.5}, **shared)
    return [rim, go.Scatter(line={"color": colour, "width": 2, "dash": dash}, **shared), marks]
