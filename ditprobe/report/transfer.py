"""The section of a report about motion transfer: reference, result, and the flow of both as a video."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import xarray as xr

from analyses.evaluation.transfer import ERROR, FIDELITY, check_pair, measure_transfer
from analyses.flow.reference_flow import reference_flow
from analyses.plots.transfer import checked_pair
from ditprobe.report.sweep import ShownExample
from ditprobe.report.tables import Table, number
from ditprobe.report.views import transfer_data, view
from probe.backbones.backbone import Backbone
from store.arguments import checked
from store.clips.clip import Clip

RESULT, PLAIN = "result", "plain backbone"
_INTRO = (
    "One clip is an example, not a measurement: judging how well a method transfers motion takes many references, "
    "prompts and seeds."
)
_NOTES = (
    "Motion fidelity: how well points followed by optical flow match points with the same directions in the other "
    "clip, -1 to 1. Background and object count alike.",
    "Motion error (synthetic scenes): the distance of the object's path from that of the reference's object, divided "
    "by that object's motion. 0 is the same path, 1 is as wrong as an object at rest.",
    "Flow: the attention motion flow of one layer, read from the finished clips. A method that optimises the flow of "
    "the same layer makes the two alike by design; only the images show whether the object really moves that way.",
)


@dataclass(frozen=True, eq=False)
class TransferredClip:
    """A clip with the motion of a reference, as the report shows it.

    Parameters
    ----------
    name : of the motion, for the heading and the table
    reference, clip : Clip, of the same size and length
    reference_flow, flow : DataArray (frame, frame_to, y, x, xy), as :func:`analyses.flow.reference_flow.reference_flow`
        returns them of ``reference`` and ``clip``
    prompt : of the clip
    method : how its motion was transferred, in words
    measured : by clip ("result", "plain backbone"), then by measure ("motion fidelity", "motion error") See
        :func:`analyses.evaluation.transfer.measure_transfer`; missing values are shown as not measured.
    """

    name: str
    reference: Clip
    clip: Clip
    reference_flow: xr.DataArray
    flow: xr.DataArray
    prompt: str = ""
    method: str = ""
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownTransfers:
    """The section as the page shows it."""

    intro: str
    table: Table
    clips: tuple[ShownExample, ...]
    notes: tuple[str, ...]


@checked
def transferred_clip(
    backbone: Backbone,
    name: str,
    reference: Clip,
    clip: Clip,
    *,
    layer: int | None = None,
    step: int | None = None,
    steps: int = 50,
    method: str = "",
    plain: Clip | None = None,
) -> TransferredClip:
    """Read both flows with a backbone and measure the motion.

    Parameters
    ----------
    backbone : Backbone
    name : str
    reference, clip : Clip
        Clips of a size that the backbone takes.
    layer, step, steps : as of :func:`analyses.flow.reference_flow.reference_flow`
    method : how its motion was transferred, in words
    plain : the backbone's clip of the same prompt and seed without a method, optional; also measured

    Raises
    ------
    InvalidInputError, UnknownLayerError
        For clips that do not fit each other, and as :func:`analyses.flow.reference_flow.reference_flow`.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store.scenes.scene import make_scene
    >>> found = transferred_clip(load_backbone("mini"), "a scene", make_scene(18), make_scene(16), layer=5)
    >>> found.prompt, list(found.measured)
    ('a red disc moves up and a grey disc moves up over cyan waves', ['result'])
    """
    check_pair(reference, clip)
    clips = {RESULT: clip} if plain is None else {RESULT: clip, PLAIN: plain}
    measured = {which: measure_transfer(each, reference) for which, each in clips.items()}
    first, second = (reference_flow(backbone, each, layer=layer, step=step, steps=steps) for each in (reference, clip))
    return TransferredClip(name, reference, clip, first, second, clip.prompt or "", method, measured)


def transfer_part(transfers: Sequence[TransferredClip], names: Iterator[str]) -> ShownTransfers | None:
    """Section of the page; None if there is nothing about motion transfer."""
    if not transfers:
        return None
    notes = list(_NOTES)
    if not all(one.measured.get(RESULT) for one in transfers):
        notes.insert(0, "Missing measurements need OpenCV: pip install 'ditprobe[vision]'.")
    return ShownTransfers(_INTRO, _table(transfers), tuple(_show(one, names) for one in transfers), tuple(notes))


def transfer_in_words(one: TransferredClip) -> str:
    """Describe the measurements of a clip in one line.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> scene, flow = make_scene(18), xr.DataArray()
    >>> measured = {"result": {"motion fidelity": 0.71, "motion error": 0.4}, "plain backbone": {"motion error": 1.1}}
    >>> transfer_in_words(TransferredClip("a scene", scene, scene, flow, flow, measured=measured))
    'motion fidelity 0.71, motion error 0.40 (plain backbone: 1.10); one clip is an example, not a measurement'
    """
    if not one.measured.get(RESULT):
        return "its motion is not measured, which needs OpenCV (pip install 'ditprobe[vision]')"
    result, plain = one.measured.get(RESULT, {}), one.measured.get(PLAIN, {})
    parts = [
        f"{measure} {_cell(result, measure)}" + (f" ({PLAIN}: {_cell(plain, measure)})" if measure in plain else "")
        for measure in (FIDELITY, ERROR)
        if measure in result
    ]
    return f"{', '.join(parts)}; one clip is an example, not a measurement"


def _cell(found: Mapping[str, float], measure: str) -> str:
    return number(found.get(measure, math.nan), ".2f")


def _table(transfers: Sequence[TransferredClip]) -> Table:
    rows = []
    for one in transfers:
        for which in (RESULT, PLAIN):
            if which == RESULT or which in one.measured:
                found = one.measured.get(which, {})
                rows.append((one.name, which, _cell(found, FIDELITY), _cell(found, ERROR)))
    caption = f"Motion against the reference: more {FIDELITY} and less {ERROR} is closer."
    return Table("table-transfer", caption, ("motion of", "clip", FIDELITY, ERROR), tuple(rows))


def _show(one: TransferredClip, names: Iterator[str]) -> ShownExample:
    clip, flows = one.clip, (one.reference_flow, one.flow)
    size = f"{len(clip)} images of {clip.height} x {clip.width} px (height x width)"
    words = f"{size}; {one.method}." if one.method else f"{size}."
    checked_pair(one.reference, clip, *flows)
    layers, steps = named_flows([[one.flow]])
    shown = view("transfer", transfer_data(one.reference, clip, [[flows]], layers=layers, steps=steps), names)
    return ShownExample(one.name, one.prompt, f"{words} {seen_by(one.flow)}", (shown,))


def seen_by(flow: xr.DataArray) -> str:
    """Return the layer and the backbone of a flow in words, if they are known.

    Examples
    --------
    >>> seen_by(xr.DataArray(0, attrs={"details": '{"backbone": "mini", "layer": 5}'}))
    'Motion as layer 5 of mini sees it.'
    """
    details = json.loads(flow.attrs.get("details", "{}"))
    if not {"backbone", "layer"} <= set(details):
        return "Motion as given by the flow."
    return f"Motion as layer {details['layer']} of {details['backbone']} sees it."


def named_flows(flows: Sequence[Sequence[xr.DataArray]]) -> tuple[list[str], list[str]]:
    """Return the names of the layers and of the steps of flows, for each step, for each layer.

    Examples
    --------
    >>> flow = xr.DataArray(0, attrs={"details": '{"layer": 5, "step": 46, "timestep": 79}'})
    >>> named_flows([[flow]])
    (['5'], ['46 (timestep 79)'])
    """
    rows = [[json.loads(flow.attrs.get("details", "{}")) for flow in row] for row in flows]
    return [str(each.get("layer", "")) for each in rows[0]], [_step_name(row[0]) for row in rows]


def _step_name(details: Mapping[str, object]) -> str:
    time = f"timestep {float(str(details['timestep'])):g}" if details.get("timestep") is not None else ""
    if details.get("step") is None:
        return time
    return f"{details['step']} ({time})" if time else str(details["step"])
