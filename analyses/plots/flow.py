"""Pictures of a flow between two frames: optical-flow colours with their wheel, and arrows on the clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from analyses.arrays import as_images, need_dims
from analyses.plots.theme import FAINT, INK, SOFT, entitle, image_trace, label
from store.arguments import Array, checked
from store.checks import finite, integer
from store.errors import InvalidInputError
from store.selection import resolve_number

DIMS = ("frame", "frame_to", "y", "x", "xy")
# Number of colours from one corner of the wheel to the next, and the channel that changes.
_TRANSITIONS = ((15, 1, True), (6, 0, False), (4, 2, True), (11, 1, False), (13, 0, True), (6, 2, False))
_WHEEL_SIDE = 127  # px; up to 128 pictures keep their exact colours


def flow_colours(flow: Any, *, largest: float) -> np.ndarray:
    """The usual colours of optical flow: the hue is the direction, the saturation the length.

    Right is red, down yellow, left cyan and up violet. Zero is white, a length of ``largest`` is fully saturated, and
    longer vectors are darker.

    Parameters
    ----------
    flow : (..., 2) float, (dx, dy), y pointing down
    largest : length with full saturation, in the unit of the flow

    Returns
    -------
    (..., 3) uint8

    Raises
    ------
    InvalidInputError
        For another shape, values that are not finite, or a ``largest`` that is not above 0.

    Notes
    -----
    The wheel of 55 colours of Baker et al., A Database and Evaluation Methodology for Optical Flow, IJCV 92, 2011.

    Examples
    --------
    >>> flow_colours([[3.0, 0.0], [0.0, 0.0]], largest=3).tolist()
    [[255, 0, 0], [255, 255, 255]]
    """
    values = np.asarray(flow, dtype=np.float64)
    if values.ndim < 1 or values.shape[-1] != 2 or not np.isfinite(values).all():
        raise InvalidInputError(f"flow needs finite (dx, dy) along its last axis; got shape {values.shape}.")
    finite(largest, "largest", above=0)
    dx, dy = np.moveaxis(values, -1, 0)
    wheel = _wheel()
    place = (np.arctan2(dy, dx) % (2 * np.pi)) / (2 * np.pi) * (len(wheel) - 1)
    below = np.floor(place).astype(int)
    part = (place - below)[..., None]
    hue = (1 - part) * wheel[below] + part * wheel[(below + 1) % len(wheel)]
    length = (np.hypot(dx, dy) / largest)[..., None]
    colours = np.where(length <= 1, 1 - length * (1 - hue), 0.75 * hue)
    return np.floor(255 * colours).astype(np.uint8)


def _wheel() -> np.ndarray:
    """(55, 3) from 0 to 1: red, yellow, green, cyan, blue, magenta and the colours in between."""
    colour, found = np.array([1.0, 0.0, 0.0]), []
    for count, channel, rises in _TRANSITIONS:
        part = np.arange(count) / count
        colours = np.tile(colour, (count, 1))
        colours[:, channel] = part if rises else 1 - part
        found.append(colours)
        colour[channel] = float(rises)
    return np.concatenate(found)


@checked
def plot_flow(
    flow: xr.DataArray, *, frame: int = 0, frame_to: int = -1, largest: float | None = None, title: str | None = None
) -> go.Figure:
    """The flow from one frame to another as colours of cells, with the wheel that explains them.

    Parameters
    ----------
    flow : DataArray (frame, frame_to, y, x, xy), such as :func:`analyses.flow.reference_flow.reference_flow` returns
    frame, frame_to : which pair, as positions in the array; negative ones count from the end
    largest : length with full saturation; by default the longest vector of the pair
    title : str, optional

    Raises
    ------
    InvalidInputError
        For other dims, values that are not finite, or a ``largest`` that is not above 0.
    UnknownLayerError
        For a frame that is not there.

    Examples
    --------
    >>> flow = xr.DataArray(np.ones((2, 2, 5, 7, 2)), dims=("frame", "frame_to", "y", "x", "xy"))
    >>> [trace.type for trace in plot_flow(flow).data]
    ['image', 'heatmap', 'image']
    """
    values, names = _pair(flow, frame, frame_to)
    length = np.hypot(*np.moveaxis(values, -1, 0))
    if largest is None:
        largest = float(length.max()) or 1.0
    height, width = values.shape[:2]
    figure = make_subplots(1, 2, column_widths=[0.76, 0.24], horizontal_spacing=0.04)
    colours = flow_colours(values, largest=largest)
    figure.add_trace(image_trace(colours, (-0.5, -0.5, width - 0.5, height - 0.5)), 1, 1)
    figure.add_trace(hover_of(values, length), 1, 1)
    figure.add_trace(image_trace(wheel_picture(largest), (-1, -1, 1, 1)), 1, 2)
    _explain_wheel(figure, largest, label(flow))
    entitle(figure, title or "Attention motion flow", names, height=_height(height, width, 0.72), top=72)
    figure.update_layout(margin={"l": 6, "r": 6, "b": 10})
    bare = {"showgrid": False, "showticklabels": False, "constrain": "domain"}
    figure.update_xaxes(**bare)
    figure.update_yaxes(**bare)
    border = {"showline": True, "mirror": True, "linecolor": FAINT}
    figure.update_layout(
        xaxis={"range": [-0.5, width - 0.5], **border},
        yaxis={"range": [height - 0.5, -0.5], "scaleanchor": "x", **border},
        xaxis2={"range": [-1.5, 1.5]},
        yaxis2={"range": [1.5, -1.5], "scaleanchor": "x2"},
    )
    return figure


@checked
def plot_flow_arrows(
    flow: xr.DataArray,
    images: Array,
    *,
    frame: int = 0,
    frame_to: int = -1,
    every: int | None = None,
    title: str | None = None,
) -> go.Figure:
    """The flow from one frame to another as arrows of true length on the image of the first frame.

    Parameters
    ----------
    flow : DataArray (frame, frame_to, y, x, xy) with the coordinate ``image`` (frame)
    images : (image, y, x, 3) uint8, of any size
    frame, frame_to : which pair, as positions in the array; negative ones count from the end
    every : an arrow every n-th cell in both directions; by default at most 24 along the longer side
    title : str, optional

    Raises
    ------
    InvalidInputError
        For other dims, values that are not finite, images that do not hold the frame's, or ``every`` below 1.
    UnknownLayerError
        For a frame that is not there.

    Examples
    --------
    >>> flow = xr.DataArray(np.ones((2, 2, 5, 7, 2)), {"image": ("frame", [0, 2])}, ("frame", "frame_to", "y", "x", "xy"))
    >>> figure = plot_flow_arrows(flow, np.zeros((5, 80, 112, 3), np.uint8))
    >>> figure.data[-1].x[:2]
    array([ 8., 24.])
    """  # noqa: E501
    values, names = _pair(flow, frame, frame_to)
    pictures = as_images(images)
    if "image" not in flow.coords or int(flow["image"].max()) >= len(pictures):
        raise InvalidInputError(
            f"images holds {len(pictures)} images and flow must say which image each frame shows in its coordinate "
            f"'image' (frame), within 0 to {len(pictures) - 1}; labelled_flow writes it."
        )
    if every is not None:
        integer(every, "every", min_value=1)
    every = every or -(-max(values.shape[:2]) // 24)
    picture = pictures[int(flow["image"].values[frame])]
    height, width = picture.shape[:2]
    figure = go.Figure([image_trace(picture, (0, 0, width, height)), *_arrows(values, every, height, width)])
    note = names if every == 1 else f"{names}; one arrow for {every} x {every} cells"
    entitle(figure, title or "Attention motion flow", note, height=_height(height, width, 0.9), top=72)
    figure.update_layout(margin={"l": 6, "r": 6, "b": 10})
    bare = {"showgrid": False, "showticklabels": False, "constrain": "domain"}
    figure.update_xaxes(range=[0, width], **bare)
    figure.update_yaxes(range=[height, 0], scaleanchor="x", **bare)
    return figure


def _pair(flow: xr.DataArray, frame: int, frame_to: int) -> tuple[np.ndarray, str]:
    """(y, x, 2) float64 of a pair of frames, and its name."""
    flow = need_dims("flow", flow, DIMS)
    first = resolve_number("frame", frame, flow.sizes["frame"], "flow")
    second = resolve_number("frame", frame_to, flow.sizes["frame_to"], "flow")
    values = flow.values[first, second].astype(np.float64)
    if values.shape[-1] != 2 or not np.isfinite(values).all():
        raise InvalidInputError(f"flow needs finite (dx, dy) along xy; got {dict(flow.sizes)}.")
    return values, f"from frame {first} to frame {second}"


def hover_of(values: np.ndarray, length: np.ndarray) -> go.Heatmap:
    """Return an invisible trace whose hover text shows the values of a cell."""
    return go.Heatmap(
        z=length,
        customdata=values,
        opacity=0,
        showscale=False,
        hovertemplate="cell (y, x) = (%{y}, %{x})<br>(dx, dy) = (%{customdata[0]:.2f}, %{customdata[1]:.2f})<br>"
        "%{z:.2f} cells<extra></extra>",
    )


def wheel_picture(largest: float) -> np.ndarray:
    """The colour of every vector up to the longest one, as a disc on white."""
    line = np.linspace(-1, 1, _WHEEL_SIDE)
    vectors = np.stack(np.meshgrid(line, line), -1)
    outside = np.hypot(*np.moveaxis(vectors, -1, 0)) > 1
    return np.where(outside[..., None], np.uint8(255), flow_colours(vectors * largest, largest=largest))


def _explain_wheel(figure: go.Figure, largest: float, text: str) -> None:
    figure.add_annotation(
        x=0, y=1.25, text=f"rim: {largest:.3g} cells", showarrow=False, font={"size": 11, "color": SOFT}, row=1, col=2
    )
    figure.add_annotation(x=0, y=-1.25, text=text, showarrow=False, font={"size": 11, "color": SOFT}, row=1, col=2)


def _arrows(values: np.ndarray, every: int, height: int, width: int) -> list[go.Scatter]:
    """Arrows from cell centres in pixels of an image, with a dark rim to be visible anywhere. Still cells are dots."""
    rows, columns = values.shape[:2]
    cell = np.array([width / columns, height / rows])
    y, x = np.meshgrid(np.arange(rows)[::every], np.arange(columns)[::every], indexing="ij")
    starts = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) * cell
    ends = starts + values[::every, ::every].reshape(-1, 2) * cell
    moving = (starts != ends).any(-1)
    lines = np.full((int(moving.sum()), 3, 2), np.nan)
    lines[:, 0], lines[:, 1] = starts[moving], ends[moving]
    xs, ys = np.round(lines.reshape(-1, 2), 2).T
    strokes = ((INK, 4.0, 13), ("#FFD23F", 1.8, 9))
    still = go.Scatter(
        x=starts[~moving, 0],
        y=starts[~moving, 1],
        mode="markers",
        marker={"size": 4, "color": strokes[1][0], "line": {"width": 1, "color": INK}},
        showlegend=False,
        hoverinfo="skip",
    )
    return [
        still,
        *(
            go.Scatter(
                x=xs,
                y=ys,
                mode="lines+markers",
                line={"color": colour, "width": thick},
                marker={
                    "symbol": "arrow",
                    "angleref": "previous",
                    "color": colour,
                    "size": np.tile([0, size, 0], len(lines)),
                },
                showlegend=False,
                hoverinfo="skip",
            )
            for colour, thick, size in strokes
        ),
    ]


def _height(height: int, width: int, share: float) -> int:
    """Figure height in px for a picture that takes this fraction of the page's width."""
    return int(100 + min(520, max(200, 800 * share * height / width)))
