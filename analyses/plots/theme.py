"""Theme of every figure: colours, fonts, labels, checks of arrays, and the style of values that were not recorded."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from PIL import Image

from analyses.layers.differences import is_difference, quantity

INK, SOFT, FAINT, MISSING, HATCH = "#1f2430", "#5b6270", "#d9dce2", "#e4e6ea", "#9aa0ab"
# Okabe and Ito's palette without its yellow, which vanishes on white; distinguishable with any colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
SEQUENTIAL, DIVERGING = "Viridis", "RdBu"
MAX_TICKS = 16
# Buttons of plotly's toolbar that send a figure, and with it unpublished images, to a server. They are removed in the
# layout and so are missing everywhere: in notebooks, and in files of plotly's own write_html.
UPLOADS = ("sendChartToCloud", "sendDataToCloud")
# Wider pictures only add bytes to a report.
MAX_PIXELS = 384

_AXIS = {
    "showline": False,
    "zeroline": False,
    "ticks": "",
    "gridcolor": FAINT,
    "title": {"font": {"size": 13, "color": SOFT}, "standoff": 8},
    "automargin": True,
}
THEME = go.layout.Template(
    layout={
        "font": {"family": "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif", "size": 12, "color": INK},
        "title": {"font": {"size": 15}, "x": 0, "xanchor": "left", "yanchor": "top", "pad": {"l": 6}},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": list(PALETTE),
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "margin": {"l": 60, "r": 16, "t": 56, "b": 56},
        "hoverlabel": {"bgcolor": "white", "bordercolor": FAINT, "font": {"color": INK}, "align": "left"},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
    }
)


def escape(text: object) -> str:
    """Escape text so that plotly shows it literally; its labels interpret a subset of HTML."""
    return html.escape(str(text), quote=False)


def label(values: xr.DataArray) -> str:
    """The quantity and its unit from attrs, ``accuracy [%]``; the variable's name if that is too long."""
    name, units = escape(quantity(values)), str(values.attrs.get("units", ""))
    units = "%" if units == "percent" else units
    return f"{name} [{escape(units)}]" if units not in ("", "1") else name


def headline(values: xr.DataArray) -> str:
    """The quantity as a title; the title of a difference includes its unit."""
    name, _, units = label(values).capitalize().partition(" [")
    return f"{name}, {units.removesuffix(']')}" if units and is_difference(values) else name


def unit(values: xr.DataArray) -> str:
    """The unit for a colour bar, which has no room for a name: ``%``, or the name if there is no unit."""
    text = label(values)
    return text.split(" [")[1].removesuffix("]") if " [" in text else text


def entitle(figure: go.Figure, heading: str, note: str, *, height: int, top: int) -> None:
    """Set theme, height and a title with a note below it, at a fixed distance from the top; no upload button."""
    text = f"{heading}<br><span style='font-size:12px;color:{SOFT}'>{note}</span>"
    figure.update_layout(template=THEME, height=height, margin={"t": top}, title={"text": text, "y": 1 - 16 / height})
    figure.update_layout(modebar={"remove": list(UPLOADS)})


def numbers(values: xr.DataArray | xr.Dataset, dim: str) -> np.ndarray:
    """The recorded numbers along a dim: its coordinate, or 0, 1, 2 ... if it has none."""
    return np.asarray(values[dim].values) if dim in values.coords else np.arange(values.sizes[dim])


def step_names(values: xr.DataArray) -> list[str]:
    """``step 12, timestep 741`` for each recorded step; only the step if the timestep is unknown."""
    steps = numbers(values, "step")
    if "timestep" not in values.coords or values.timestep.dims != ("step",):
        return [f"step {step}" for step in steps]
    return [f"step {step}, timestep {time:g}" for step, time in zip(steps, values.timestep.values, strict=True)]


def layer_names(values: xr.DataArray) -> list[str]:
    """``layer 4, transformer_blocks.4.attn1`` for each layer; only the layer if its module path is unknown."""
    layers = numbers(values, "layer")
    if "layer_name" not in values.coords or values.layer_name.dims != ("layer",):
        return [f"layer {layer}" for layer in layers]
    return [f"layer {layer}, {escape(name)}" for layer, name in zip(layers, values.layer_name.values, strict=True)]


def ink_on(colour: tuple[float, float, float]) -> str:
    """Black or white, whichever contrasts more with a colour (red, green, blue from 0 to 1): at least 4.5 to 1.

    Notes
    -----
    The contrast of relative luminances of WCAG 2.2, section 1.4.3.

    Examples
    --------
    >>> ink_on((0.99, 0.91, 0.14)), ink_on((0.27, 0.0, 0.33))
    ('#000000', '#ffffff')
    """
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 >= 1.05 * 0.05 else "#ffffff"


def ticks(names: Sequence[str], texts: Sequence[str], most: int = MAX_TICKS) -> dict[str, Any]:
    """About ``most`` ticks of a category axis at a whole stride, including the first and the last."""
    keep = strided(len(names), most)
    if len(keep) > 2 and keep[-1] - keep[-2] <= (keep[1] - keep[0]) / 2:
        del keep[-2]
    return {"tickmode": "array", "tickvals": [names[i] for i in keep], "ticktext": [texts[i] for i in keep]}


def step_ticks(values: xr.DataArray) -> dict[str, Any]:
    """Ticks of a step axis, each step with its timestep below."""
    steps = [str(step) for step in numbers(values, "step")]
    names = step_names(values)
    timed = "timestep" in values.coords and values.timestep.dims == ("step",)
    times = [f"<br><span style='color:{SOFT}'>{time:g}</span>" for time in values.timestep.values] if timed else None
    texts = [step + time for step, time in zip(steps, times, strict=True)] if times else steps
    return (
        ticks(names, texts, 12)
        | {"tickangle": 0}
        | {"title": {"text": f"step{' (timestep below)' if timed else ''}; noise falls to the right"}}
    )


def mark_missing(figure: go.Figure, values: np.ndarray, x: Sequence[str], y: Sequence[str], note: str) -> None:
    """Hatch NaN cells in grey and explain that in the legend; zero keeps its colour."""
    rows, columns = (places.tolist() for places in np.nonzero(np.isnan(values)))
    if not rows:
        return
    grey = np.where(np.isnan(values), 0, np.nan).astype(np.float32)
    figure.add_heatmap(
        z=grey, x=x, y=y, colorscale=[[0, MISSING], [1, MISSING]], showscale=False, xgap=1, ygap=1, hoverinfo="skip"
    )
    figure.add_scatter(
        x=[x[i] for i in columns],
        y=[y[i] for i in rows],
        mode="markers",
        marker={"symbol": "line-ne", "size": 10, "line": {"width": 1.5, "color": HATCH}},
        name=note,
        showlegend=True,
        hovertemplate="%{x}<br>%{y}<br>" + note + "<extra></extra>",
    )


def _picture(image: np.ndarray) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((MAX_PIXELS, MAX_PIXELS), Image.Resampling.LANCZOS)
    return picture


def _data_uri(picture: Image.Image) -> str:
    """Encode small pictures as PNG, so that pixels stay exact, and others as JPEG."""
    kind, options = ("png", {}) if max(picture.size) <= 128 else ("jpeg", {"quality": 82})
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def encoded_image(image: np.ndarray) -> str:
    """An image (y, x, 3) uint8 as a data URI, at most 384 px along its longer side."""
    return _data_uri(_picture(image))


def image_trace(image: np.ndarray, extent: tuple[float, float, float, float], **options: Any) -> go.Image:
    """An image (y, x, 3) uint8 drawn over ``extent`` (left, top, right, bottom) in axis units."""
    left, top, right, bottom = extent
    picture = _picture(image)
    dx, dy = (right - left) / picture.width, (bottom - top) / picture.height
    options = {"x0": left + dx / 2, "y0": top + dy / 2, "dx": dx, "dy": dy, "hoverinfo": "skip"} | options
    return go.Image(source=_data_uri(picture), **options)


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` evenly spaced indices of ``count``, including both ends.

    Examples
    --------
    >>> evenly(9, 3), evenly(2, 5)
    ([0, 4, 8], [0, 1])
    """
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, most)).round()})


def strided(count: int, most: int) -> list[int]:
    """At most ``most`` indices of ``count`` at a whole stride from 0, including the last.

    Examples
    --------
    >>> strided(9, 3), strided(11, 4), strided(2, 5), strided(7, 1)
    ([0, 4, 8], [0, 4, 8, 10], [0, 1], [6])
    """
    if most == 1:
        return [count - 1]
    stride = max(1, -(-(count - 1) // (most - 1)))
    return [*range(0, count - 1, stride), count - 1]


def chooser(labels: Iterable[str], updates: Iterable[list[dict[str, Any]]]) -> dict[str, Any]:
    """A dropdown whose entries update the figure in place; it needs no server and works from ``file://``."""
    buttons = [{"label": name, "method": "update", "args": args} for name, args in zip(labels, updates, strict=True)]
    return {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 30}}
