"""Pictures over the frames of a clip: where points look, what queries and keys distinguish, where tracks go."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from analyses.arrays import as_images, need_dims
from analyses.attention.pca import component_colours
from analyses.attention.text_maps import OF_EACH_CELL
from analyses.plots.theme import SEQUENTIAL, SOFT, chooser, entitle, image_trace, numbers
from store.arguments import Array, checked
from store.checks import one_of
from store.errors import InvalidInputError

Normalisation = Literal["frame", "point"]
MARK = "#D55E00"
_DIMMED = 0.7
"""Factor of the brightness of the images, so that light cells are visible on white ones."""
_OVER_IMAGES = [
    [0.0, "rgba(88, 24, 140, 0)"],
    [0.3, "rgba(196, 40, 110, 0.3)"],
    [0.6, "rgba(246, 118, 32, 0.6)"],
    [0.85, "rgba(255, 214, 84, 0.8)"],
    [1.0, "rgba(255, 250, 205, 0.9)"],
]
"""Opacity by weight: cells without attention show the plain image."""


def _grid(frames: int, height: int, width: int, rows_of: int = 1, max_columns: int = 7) -> tuple[int, int, int]:
    """Rows, columns and figure height for frames set side by side; ``rows_of`` rows belong together."""
    rows = -(-frames // max_columns)
    columns = -(-frames // rows)
    tall = min(240.0, 820 / columns * height / width)
    return rows * rows_of, columns, int(128 + rows * rows_of * (tall + 34))


def _frames_figure(titles: list[str], rows: int, columns: int, height: int, cells: tuple[int, int]) -> go.Figure:
    """Empty panels with square cells, y downwards, without axes."""
    figure = make_subplots(
        rows, columns, subplot_titles=titles, horizontal_spacing=0.01, vertical_spacing=0.1 if rows > 1 else 0
    )
    figure.update_annotations(font_size=11, font_color=SOFT)
    bare = {"showticklabels": False, "showgrid": False, "constrain": "domain"}
    figure.update_xaxes(range=[-0.5, cells[1] - 0.5], **bare)
    figure.update_yaxes(range=[cells[0] - 0.5, -0.5], **bare)
    for index in range(rows * columns):
        name = "" if index == 0 else str(index + 1)
        figure.layout[f"yaxis{name}"].update(scaleanchor=f"x{name}")
    figure.update_layout(height=height, margin={"l": 6, "r": 6, "b": 10})
    return figure


def frame_panels(titles: list[str], cells: tuple[int, int], *, rows: int = 1) -> tuple[go.Figure, int]:
    """Return empty panels with these titles, and the number of columns; several rows are not broken.

    Examples
    --------
    >>> frame_panels(["a", "b"], (5, 7))[1], frame_panels(["a", "b"], (5, 7), rows=2)[1]
    (2, 1)
    """
    each = len(titles) // rows
    down, columns, tall = _grid(each, *cells, rows, max_columns=each if rows > 1 else 7)
    return _frames_figure(titles, down, columns, tall, cells), columns


def _as_percent(attention: np.ndarray, normalise: Normalisation) -> np.ndarray:
    """uint8 (point, frame, y, x): whole percent of the largest value, so that hovering shows the stored value."""
    axes = (2, 3) if normalise == "frame" else (1, 2, 3)
    largest = attention.max(axis=axes, keepdims=True)
    return np.round(100 * attention / np.where(largest > 0, largest, 1)).astype(np.uint8)


def _check_attention(attention: xr.DataArray, normalise: str) -> xr.DataArray:
    attention = need_dims("attention", attention, ("point", "frame", "y", "x"))
    one_of(normalise, ("frame", "point"), "normalise")
    if not np.isfinite(attention.values).all() or (attention.values < 0).any():
        raise InvalidInputError("attention holds negative values or values that are not finite.")
    return attention


def _backgrounds(figure: go.Figure, attention: xr.DataArray, images: Any, columns: int) -> int:
    """Add one image behind each frame; return the number of traces."""
    if images is None:
        return 0
    pictures = as_images(images)
    if "image" not in attention.coords or int(attention["image"].max()) >= len(pictures):
        raise InvalidInputError(
            f"images holds {len(pictures)} images and attention must say which image each frame shows in its "
            f"coordinate 'image' (frame), within 0 to {len(pictures) - 1}; attention_of_points writes it."
        )
    extent = (-0.5, -0.5, attention.sizes["x"] - 0.5, attention.sizes["y"] - 0.5)
    for frame, image in enumerate(attention["image"].values):
        dimmed = (pictures[int(image)] * _DIMMED).astype(np.uint8)
        figure.add_trace(image_trace(dimmed, extent), frame // columns + 1, frame % columns + 1)
    return attention.sizes["frame"]


def _add_rows(
    figure: go.Figure, cells: np.ndarray, largest: np.ndarray, columns: int, *, scale_text: str, over: bool
) -> None:
    """One heat map per frame for one point, hidden until it is chosen; its hover text gives its share of the row."""
    for frame, values in enumerate(cells):
        share = f"which is {100 * largest[frame]:.3g} % of the row"
        figure.add_heatmap(
            z=values,
            zmin=0,
            zmax=100,
            colorscale=_OVER_IMAGES if over else SEQUENTIAL,
            visible=False,
            showscale=frame == 0,
            colorbar={
                "thickness": 10,
                "outlinewidth": 0,
                "tickvals": [0, 50, 100],
                "title": {"text": scale_text, "side": "right", "font": {"size": 11}},
            },
            hovertemplate=f"frame {frame}<br>cell (y, x) = (%{{y}}, %{{x}})<br>"
            f"%{{z}} % of the largest, {share}<extra></extra>",
            row=frame // columns + 1,
            col=frame % columns + 1,
        )


def _add_source(figure: go.Figure, attention: xr.DataArray, point: int, columns: int) -> None:
    """A square around the cell whose row is shown, in its own frame."""
    frame = int(attention["source_frame"]) if "source_frame" in attention.coords else 0
    known = "row" in attention.coords and "column" in attention.coords
    y, x = (float(attention[name].values[point]) if known else np.nan for name in ("row", "column"))
    figure.add_scatter(
        x=x + np.array([-0.5, 0.5, 0.5, -0.5, -0.5]),
        y=y + np.array([-0.5, -0.5, 0.5, 0.5, -0.5]),
        mode="lines",
        line={"color": MARK, "width": 2.5},
        visible=False,
        showlegend=False,
        hoverinfo="skip",
        row=frame // columns + 1,
        col=frame % columns + 1,
    )


def _is_map(attention: xr.DataArray) -> bool:
    """Tell whether each cell's value belongs to its own row, as in ``map_attention_to_text``."""
    return attention.attrs.get("units") == OF_EACH_CELL


def _frame_titles(attention: xr.DataArray) -> list[list[str]]:
    """Title of each panel for each point: the frame and its share, or the mean share that its cells give."""
    frames = numbers(attention, "frame")
    shares = attention.values.mean((2, 3)) if _is_map(attention) else attention.values.sum((2, 3))
    shares = 100 * shares
    return [[f"frame {frame} ({share:.3g} %)" for frame, share in zip(frames, row, strict=True)] for row in shares]


def _point_names(attention: xr.DataArray, kind: str) -> list[str]:
    names = [f"{kind} {point}" for point in numbers(attention, "point")]
    if "point_x" in attention.coords and "point_y" in attention.coords:
        places = zip(names, attention["point_x"].values, attention["point_y"].values, strict=True)
        names = [f"{name} at x {x:.4g}, y {y:.4g} px" for name, x, y in places]
    if "text" in attention.coords and (attention["text"] > 0).any():
        shares = 100 * attention["text"].values
        names = [f"{name} (text: {share:.3g} %)" for name, share in zip(names, shares, strict=True)]
    return names


@checked
def plot_attention(
    attention: xr.DataArray,
    *,
    images: Array | None = None,
    normalise: Normalisation = "frame",
    title: str | None = None,
) -> go.Figure:
    """Return a figure of each point's attention over the cells of every frame; a dropdown chooses the point.

    Parameters
    ----------
    attention : DataArray (point, frame, y, x) or (token, frame, y, x), shares of the whole row, as of
        :func:`analyses.attention.rows.attention_of_points` and ``attention_of_text``. The title of a frame states its
        share of the row; for ``map_attention_to_text``, the mean share that its cells give to the text token.
    images : uint8 (image, y, x, 3), optional. The clip, dimmed under each frame; opacity is by weight.
    normalise : "frame" colours each frame by percent of its own largest value (far frames stay readable);
        "point" by percent of the largest value over all frames (frames compare).

    Raises
    ------
    InvalidInputError
        For other dims, negative or non-finite values, or frames that ``images`` does not hold.

    Examples
    --------
    >>> attention = xr.DataArray(np.full((2, 3, 5, 7), 1 / 105), dims=("point", "frame", "y", "x"))
    >>> len(plot_attention(attention).layout.updatemenus[0].buttons)
    2
    """
    kind = "text token" if "token" in attention.dims else "point"
    if kind == "text token":
        attention = attention.rename(token="point")
    attention = _check_attention(attention, normalise)
    points, frames, height, width = attention.shape
    titles = _frame_titles(attention)
    rows, columns, tall = _grid(frames, height, width)
    figure = _frames_figure(titles[0], rows, columns, tall, (height, width))
    behind = _backgrounds(figure, attention, images, columns)
    where = "in its frame" if normalise == "frame" else "over all frames"
    cells = _as_percent(attention.values, normalise)
    largest = attention.values.max((2, 3))
    if normalise == "point":
        largest = np.broadcast_to(largest.max(1, keepdims=True), largest.shape)
    for point in range(points):
        _add_rows(
            figure, cells[point], largest[point], columns, scale_text=f"% of the largest {where}", over=behind > 0
        )
        _add_source(figure, attention, point, columns)
    _choose(figure, _point_names(attention, kind), titles, behind=behind, each=frames + 1)
    heading, note = f"Attention of {kind}s over frames", f"share of the {kind}'s attention that the frame holds"
    if _is_map(attention):
        heading, note = "Attention of all cells on text tokens", "what the cells of the frame give the token on average"
    entitle(figure, title or heading, f"in brackets: {note}", height=tall, top=118)
    return figure


def _choose(figure: go.Figure, names: list[str], titles: list[list[str]], *, behind: int, each: int) -> None:
    """Show the first point; a dropdown shows the other points, with the titles of their frames."""
    notes = [note.to_plotly_json() for note in figure.layout.annotations]
    updates = []
    for point, texts in enumerate(titles):
        visible = [True] * behind + [index == point for index in range(len(names)) for _ in range(each)]
        labels = [note | {"text": text} for note, text in zip(notes, texts, strict=True)]
        updates.append([{"visible": visible}, {"annotations": labels}])
    for trace, shown in zip(figure.data, updates[0][0]["visible"], strict=True):
        trace.visible = shown
    figure.update_layout(updatemenus=[chooser(names, updates)])


def _explained(name: str, components: xr.DataArray) -> str:
    if "explained" not in components.coords:
        return name
    parts = 100 * components["explained"].values[:3]
    return f"{name}: {parts.sum():.0f} % of the variance ({', '.join(f'{part:.0f}' for part in parts)})"


@checked
def plot_pca(query: xr.DataArray, key: xr.DataArray | None = None, *, title: str | None = None) -> go.Figure:
    """The first three principal components of queries (and keys) as red, green and blue, cell by cell.

    Parameters
    ----------
    query, key : DataArray (frame, y, x, component), as of :func:`analyses.attention.pca.principal_components`

    Raises
    ------
    InvalidInputError
        For other dims, non-finite values, or grids that differ.

    Notes
    -----
    Equal colours mean equal places along these components; the colours of query and key are not comparable.

    Examples
    --------
    >>> components = xr.DataArray(np.zeros((3, 5, 7, 3)), dims=("frame", "y", "x", "component"))
    >>> len(plot_pca(components).data)
    3
    """
    parts = {"query": query} if key is None else {"query": query, "key": key}
    parts = {
        name: need_dims(name, part, ("frame", "y", "x", "component")).astype(np.float64) for name, part in parts.items()
    }
    if key is not None and parts["query"].shape[:3] != parts["key"].shape[:3]:
        raise InvalidInputError(f"query and key differ in grid: {query.shape[:3]} and {key.shape[:3]}.")
    for name, part in parts.items():
        if not np.isfinite(part.values).all():
            raise InvalidInputError(f"{name} holds values that are not finite.")
    frames, height, width = parts["query"].shape[:3]
    rows, columns, tall = _grid(frames, height, width, len(parts))
    titles = [""] * (rows * columns)
    step = rows // len(parts) * columns
    for index, (name, part) in enumerate(parts.items()):
        titles[index * step : index * step + frames] = [f"{name}, frame {n}" for n in numbers(part, "frame")]
    figure = _frames_figure(titles, rows, columns, tall, (height, width))
    for index, part in enumerate(parts.values()):
        for frame, cells in enumerate(component_colours(part)):
            place = index * step + frame
            figure.add_image(z=cells, hovertemplate=_COLOUR_HOVER, row=place // columns + 1, col=place % columns + 1)
    shares = "; ".join(_explained(name, part) for name, part in parts.items())
    scale = "red, green, blue: components 0, 1, 2, each from its 1st to its 99th percentile"
    entitle(figure, title or "Principal components of the tokens", f"{shares}<br>{scale}", height=tall, top=96)
    return figure


_COLOUR_HOVER = "cell (y, x) = (%{y}, %{x})<br>components 0, 1, 2 in 255ths of their range: %{color}<extra></extra>"
