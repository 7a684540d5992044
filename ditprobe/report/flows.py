"""Pages of flows: that of one clip, and those of a reference and a result, over frames, layers and steps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analyses.flow.reference_flow import layer_flows
from ditprobe.report.page import Part
from ditprobe.report.transfer import named_flows, seen_by
from ditprobe.report.views import RIM, flow_data, rim_of, transfer_data, view
from probe.backbones.backbone import Backbone
from store.clips.clip import Clip

SMALL, FEW_STEPS = 2_000, 5
"""Largest number of tokens at which a page shows every layer by default, and the number of steps."""
MOST_BYTES = 6_000_000
_VALUE = 8 / 3
"""Bytes per number in a page: two, as base64."""
_READ_FLOW = (
    "Each cell of the first picture has an arrow to the place where the layer finds its content again in the last; "
    "lengths are true.",
    "Beside it, the same as colours: the hue is the direction, as on the wheel; white is no motion, and full "
    f"saturation the length at the rim, the {RIM}th percentile of all lengths. Longer vectors are darker.",
    "Arrows that agree over an object are a motion that the layer sees. Arrows in all directions mean that it "
    "matches nothing there, and no arrows that it only matches positions: compare layers and steps.",
)
_READ_TRANSFER = (
    "Beside each clip: the displacement of what each cell shows since image 0, in cells, as the layer sees it. The "
    "hue is the direction, as on the wheel; white has not moved.",
    "Where the result follows the reference, the same place has the same colour in both. A method that optimises the "
    "flow of this layer makes the two alike by design; only the images show whether the object really moves that way.",
)


def default_choices(
    layers: int, tokens: int, layer: int, step: int | None, steps: int
) -> tuple[list[int], list[int | None]]:
    """Return the layers and steps that a page shows by default, including the chosen ones.

    Examples
    --------
    >>> default_choices(3, 600, 2, 46, 50)
    ([0, 1, 2], [0, 11, 23, 34, 46])
    >>> default_choices(30, 17550, 17, None, 50)
    ([17], [None])
    """
    if tokens > SMALL:
        return [layer], [step]
    if step is None:
        return list(range(layers)), [None]
    return list(range(layers)), [*sorted({int(place) for place in np.linspace(0, step, FEW_STEPS)})]


def page_bytes(frames: int, cells: int, flows: int) -> int:
    """Return the size in bytes of a number of flows in a page.

    Examples
    --------
    >>> page_bytes(6, 100, 1)
    19200
    """
    return round(frames * frames * cells * 2 * _VALUE * flows)


def read_flows(
    backbone: Backbone,
    clip: Clip,
    layers: Sequence[int],
    shown: Sequence[int | None],
    *,
    steps: int,
    prompt: str | None = "",
    hard: bool = True,
    temperature: float = 2.0,
) -> list[list[xr.DataArray]]:
    """Return the flows of a clip for each step, for each layer; one pass of the model per step."""
    how: dict[str, Any] = {"steps": steps, "prompt": prompt, "hard": hard, "temperature": temperature}
    return [layer_flows(backbone, clip, layers, step=step, **how) for step in shown]


def flow_part(clip: Clip, flows: Sequence[Sequence[xr.DataArray]], *, layer: int = 0, step: int = 0) -> Part:
    """Return the flow of a clip as part of a page, with sliders over frames, layers and steps.

    Parameters
    ----------
    clip : Clip
    flows : for each step, for each layer, DataArray (frame, frame_to, y, x, xy), in cells
    layer, step : positions of what is shown first
    """
    layers, steps = named_flows(flows)
    lengths = np.hypot(*np.moveaxis(flows[step][layer].values.astype(np.float64), -1, 0))
    apart = lengths[~np.eye(len(lengths), dtype=bool)] if len(lengths) > 1 else lengths
    data = flow_data(clip, flows, layers=layers, steps=steps, rim=rim_of(apart)) | {"layer": layer, "step": step}
    return Part(view("flow", data, _names()), "", _seen(flows[step][layer], len(layers)), _READ_FLOW)


def transfer_flows_part(
    reference: Clip,
    clip: Clip,
    flows: Sequence[Sequence[tuple[xr.DataArray, xr.DataArray]]],
    *,
    layer: int = 0,
    step: int = 0,
) -> Part:
    """Return a reference and a result next to their flows as part of a page.

    Parameters
    ----------
    reference, clip : Clip
    flows : for each step, for each layer, the flow of the reference and that of the result
    layer, step : positions of what is shown first
    """
    layers, steps = named_flows([[pair[1] for pair in row] for row in flows])
    data = transfer_data(reference, clip, flows, layers=layers, steps=steps) | {"layer": layer, "step": step}
    return Part(view("transfer", data, _names()), "", _seen(flows[step][layer][1], len(layers)), _READ_TRANSFER)


def _seen(flow: xr.DataArray, layers: int) -> str:
    """The backbone that sees the motion, and the layer if it cannot be chosen."""
    details = json.loads(flow.attrs.get("details", "{}"))
    if layers > 1 and "backbone" in details:
        return f"Motion as {details['backbone']} sees it; choose the layer, and the step at which it looks."
    return seen_by(flow)


def _names() -> Iterator[str]:
    yield "flow"
