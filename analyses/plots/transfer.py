"""A reference and the clip with its motion as a video, each beside the displacement of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from analyses.arrays import as_images, need_dims
from analyses.plots.flow import DIMS, flow_colours, hover_of, wheel_picture
from analyses.plots.theme import FAINT, SOFT, entitle, escape, image_trace, strided
from analyses.plots.tracks import add_player
from store.arguments import Array, checked
from store.checks import finite, integer
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.layout import TokenLayout

_PANELS = ("reference", "its flow", "result", "its flow")


@dataclass(frozen=True)
class _Side:
    """One clip: images (image, y, x, 3), displacement of each cell (frame, y, x, 2), and frame of each image."""

    pictures: np.ndarray
    come: np.ndarray
    frames: list[int]


@checked
def plot_transfer(
    reference: Array | Clip,
    clip: Array | Clip,
    reference_flow: xr.DataArray,
    flow: xr.DataArray,
    *,
    largest: float | None = None,
    max_images: int = 24,
    images_per_second: float = 4.0,
    title: str | None = None,
) -> go.Figure:
    """A reference, its flow, a result and its flow side by side as a video, with the wheel that explains the colours.

    Each image is shown beside its latent frame, whose cells are coloured by their displacement since image 0: minus the
    flow from that frame back to frame 0. The colours therefore move along with the object.

    Parameters
    ----------
    reference, clip : Clip, or (image, y, x, 3) uint8 images
        Clips of the same size and the same number of images.
    reference_flow, flow : DataArray (frame, frame_to, y, x, xy) with the coordinate ``image`` (frame), in cells
        Of ``reference`` and of ``clip``, as :func:`analyses.flow.reference_flow.reference_flow` returns them, of the
        same shape.
    largest : length with full saturation in both flows; by default the longest vector that is drawn
    max_images : larger numbers of images are thinned out to this; the title states it
    images_per_second : speed of the video
    title : str, optional

    Raises
    ------
    InvalidInputError
        For clips of different sizes or lengths, flows that do not fit each other or the clips, values that are not
        finite, and a ``largest``, ``max_images`` or ``images_per_second`` that is not above 0.

    Examples
    --------
    >>> clip = np.zeros((9, 80, 112, 3), np.uint8)
    >>> flow = xr.DataArray(np.ones((3, 3, 5, 7, 2)), {"image": ("frame", [0, 2, 6])}, DIMS)
    >>> figure = plot_transfer(clip, clip, flow, -flow)
    >>> len(figure.frames), [trace.type for trace in figure.frames[8].data]
    (9, ['image', 'image', 'heatmap', 'image', 'image', 'heatmap'])
    """
    integer(max_images, "max_images", min_value=1)
    finite(images_per_second, "images_per_second", above=0)
    sides = _sides(reference, clip, reference_flow, flow)
    if largest is None:
        largest = float(max(np.hypot(*np.moveaxis(side.come, -1, 0)).max() for side in sides)) or 1.0
    count = len(sides[0].pictures)
    shown = strided(count, max_images)
    figure = _panels(sides[0], largest)
    # The last image is shown first: in image 0 nothing has moved yet.
    for place, trace in enumerate(_traces(sides, shown[-1], largest)):
        figure.add_trace(trace, 1, _column(place))
    figure.add_trace(image_trace(wheel_picture(largest), (-1, -1, 1, 1)), 1, 5)
    if len(shown) > 1:
        _animate(figure, sides, shown, largest, images_per_second)
    note = "flow: displacement of what a cell shows since image 0"
    note += f"; {len(shown)} of {count} images" if len(shown) < count else ""
    height, width = sides[0].pictures.shape[1:3]
    heading = escape(title) if title else "Motion of a reference and of the result"
    entitle(figure, heading, note, height=int(172 + min(420, max(120, 210 * height / width))), top=158)
    figure.update_layout(margin={"l": 6, "r": 6, "b": 10})
    return figure


def checked_pair(reference: Any, clip: Any, reference_flow: xr.DataArray, flow: xr.DataArray) -> None:
    """Check that two clips and their flows fit each other.

    Raises
    ------
    InvalidInputError
        For clips of different sizes or lengths, and flows that do not fit each other or the clips.

    Examples
    --------
    >>> clip, flow = np.zeros((9, 80, 112, 3), np.uint8), xr.DataArray(np.zeros((3, 3, 5, 7, 2)), dims=DIMS)
    >>> checked_pair(clip, clip, *2 * (flow.assign_coords(image=("frame", [0, 2, 6])),))
    """
    _sides(reference, clip, reference_flow, flow)


def _sides(reference: Any, clip: Any, reference_flow: xr.DataArray, flow: xr.DataArray) -> tuple[_Side, _Side]:
    """Both clips, checked against each other."""
    ours, theirs = (each.images if isinstance(each, Clip) else as_images(each) for each in (clip, reference))
    if ours.shape != theirs.shape:
        raise InvalidInputError(
            f"the reference has {_size(theirs)} and the result {_size(ours)} (height x width); they are shown image by "
            "image. Cut or resize one of them (Clip.window, Clip.resized)."
        )
    flows = {name: _checked(name, each) for name, each in (("reference_flow", reference_flow), ("flow", flow))}
    first, second = flows.values()
    if first.shape != second.shape:
        raise InvalidInputError(
            f"reference_flow has {_grid(first)} and flow {_grid(second)}. Take both from the same layer of the same "
            "backbone."
        )
    frames = {name: frames_of_images(name, each, len(ours)) for name, each in flows.items()}
    # negative zero becomes zero, so that no cell reads -0.00
    come = [0.0 - each.values[:, 0] for each in flows.values()]
    return _Side(theirs, come[0], frames["reference_flow"]), _Side(ours, come[1], frames["flow"])


def _size(images: np.ndarray) -> str:
    return f"{len(images)} images of {images.shape[1]} x {images.shape[2]} px"


def _grid(flow: xr.DataArray) -> str:
    return f"{flow.sizes['frame']} frames of {flow.sizes['y']} x {flow.sizes['x']} cells"


def _checked(name: str, flow: xr.DataArray) -> xr.DataArray:
    flow = need_dims(name, flow, DIMS)
    if flow.sizes["xy"] != 2 or flow.sizes["frame"] != flow.sizes["frame_to"] or not np.isfinite(flow.values).all():
        raise InvalidInputError(
            f"{name} needs finite (dx, dy) along xy and as many frames in frame_to as in frame; got {dict(flow.sizes)}."
        )
    return flow


def frames_of_images(name: str, flow: xr.DataArray, images: int) -> list[int]:
    """Return the frame of each image: spans of equal length, except for the first, with these middle images.

    Raises
    ------
    InvalidInputError
        If the coordinate ``image`` (frame) fits no such spans.

    Examples
    --------
    >>> flow = xr.DataArray(np.zeros(3), {"image": ("frame", [0, 2, 6])}, "frame")
    >>> frames_of_images("flow", flow, 9)
    [0, 1, 1, 1, 1, 2, 2, 2, 2]
    """
    frames = flow.sizes["frame"]
    for first in range(1, images - frames + 2):
        stride, rest = divmod(images - first, max(1, frames - 1))
        if rest or "image" not in flow.coords:
            continue
        spans = [range(first), *(range(first + stride * k, first + stride * (k + 1)) for k in range(frames - 1))]
        layout = TokenLayout(frames, 1, 1, 1, 1, images, spans=spans)
        if np.array_equal(np.floor(layout.frame_centres), flow["image"].values):
            return [layout.frame_of(image) for image in range(images)]
    raise InvalidInputError(
        f"{name} must say in its coordinate 'image' (frame) which of the {images} images of the clips is the middle "
        "one of each frame; labelled_flow writes it. Take the flow from the clip itself."
    )


def _panels(side: _Side, largest: float) -> go.Figure:
    """Empty panels: images in pixels and flows in cells, of the same size on the page, and the wheel."""
    figure = make_subplots(1, 5, subplot_titles=_PANELS, column_widths=[0.225] * 4 + [0.1], horizontal_spacing=0.012)
    figure.update_annotations(font_size=12, font_color=SOFT)
    (height, width), (rows, columns) = side.pictures.shape[1:3], side.come.shape[1:3]
    border = {"showline": True, "mirror": True, "linecolor": FAINT}
    bare = {"showgrid": False, "showticklabels": False, "constrain": "domain"}
    for column in range(1, 6):
        figure.update_xaxes(**bare, row=1, col=column)
        figure.update_yaxes(**bare, scaleanchor=f"x{column}", constraintoward="top", row=1, col=column)
    for column in (1, 3):
        figure.update_xaxes(range=[0, width], **border, row=1, col=column)
        figure.update_yaxes(range=[height, 0], **border, row=1, col=column)
    for column in (2, 4):
        figure.update_xaxes(range=[-0.5, columns - 0.5], **border, row=1, col=column)
        ratio = (height / rows) / (width / columns)
        figure.update_yaxes(range=[rows - 0.5, -0.5], scaleratio=ratio, **border, row=1, col=column)
    figure.update_xaxes(range=[-1.2, 1.2], row=1, col=5)
    figure.update_yaxes(range=[2.2, -1.2], row=1, col=5)
    rim = {"text": f"rim:<br>{largest:.3g}<br>cells", "showarrow": False, "font": {"size": 11, "color": SOFT}}
    figure.add_annotation(x=0, y=1.1, yanchor="top", **rim, row=1, col=5)
    return figure


def _traces(sides: tuple[_Side, _Side], image: int, largest: float) -> list[Any]:
    """Image, flow and hover text of the reference and then of the result."""
    height, width = sides[0].pictures.shape[1:3]
    rows, columns = sides[0].come.shape[1:3]
    found: list[Any] = []
    for side in sides:
        come = side.come[side.frames[image]]
        colours = flow_colours(come, largest=largest)
        found.append(image_trace(side.pictures[image], (0, 0, width, height)))
        found.append(image_trace(colours, (-0.5, -0.5, columns - 0.5, rows - 0.5)))
        found.append(hover_of(come, np.hypot(*np.moveaxis(come, -1, 0))))
    return found


def _column(place: int) -> int:
    """The panel of each of the six traces."""
    return (1, 2, 2, 3, 4, 4)[place]


def _animate(
    figure: go.Figure, sides: tuple[_Side, _Side], shown: list[int], largest: float, images_per_second: float
) -> None:
    """Add an animation frame per image, a slider over them, and buttons that play them a few times and stop."""
    figure.frames = [
        go.Frame(name=str(image), data=_traces(sides, image, largest), traces=list(range(6))) for image in shown
    ]
    add_player(figure, shown, images_per_second, active=len(shown) - 1)
