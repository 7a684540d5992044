"""The motion of a reference clip as one layer of a backbone sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import xarray as xr

from analyses.flow.attention_flow import attention_motion_flow, check_temperature, labelled_flow
from analyses.selection.defaults import chosen_layers, selected_step, tracking_defaults
from analyses.selection.layer_selection import LayerSelection
from probe.backbones.backbone import Backbone
from probe.families.published import model_card, names_with
from probe.run.layers_of_clip import layers_of_clip
from store.arguments import checked
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.recordings.provenance import library_versions
from store.selection import resolve_number
from store.wording import Wording

FlowPreset = Literal["exact", "ditflow"]


@checked
@torch.no_grad()
def reference_flow(
    backbone: Backbone,
    clip: Clip,
    *,
    layer: int | LayerSelection | None = None,
    step: int | None = None,
    prompt: str | None = "",
    conditioning: Mapping[str, Any] | None = None,
    preset: FlowPreset = "exact",
    steps: int = 50,
    hard: bool = True,
    temperature: float = 2.0,
) -> xr.DataArray:
    """The attention motion flow of a clip: its clean latents, one layer, the ``cond`` branch.

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
        A clip of a size that the backbone takes; :func:`probe.run.windows.cut_windows` fits other clips.
    layer : int or LayerSelection, optional
        By default that of the preset; of a selection, its best layer. Negative layers count from the end.
    step : int, optional
        The step at whose timestep the clean latents are shown; by default that of a selection under the preset
        "exact", else that of the preset.
    prompt : str
        Empty by default, as published. None if ``conditioning`` has ``prompt_embeds``.
    conditioning : mapping, optional
        Further arguments of the pipeline, as in :meth:`probe.backbones.backbone.Backbone.generate`.
    preset : "exact" or "ditflow"
        Source of the default layer and step. "exact": those known to hold correspondence on this backbone
        (:func:`analyses.selection.defaults.tracking_defaults`), and the last step if none is known. "ditflow": the
        layer of the DiTFlow release (CogVideoX-2B and 5B) at timestep 0.
    steps : int
        Number of steps of the run that ``step`` belongs to.
    hard, temperature
        As in :func:`analyses.flow.attention_flow.attention_motion_flow`; the published reference is hard.

    Returns
    -------
    DataArray (frame, frame_to, y, x, xy), (dx, dy) in cells, as :func:`analyses.flow.attention_flow.labelled_flow`
    makes it; the
        attribute ``details`` states how it was found.

    Raises
    ------
    InvalidInputError
        For a size or prompt that the backbone does not take, or where no layer is given and none is known.
    UnknownLayerError
        For a layer or step that does not exist.

    Notes
    -----
    DiTFlow (Pondaven et al., CVPR 2025); docs/definitions.md, section 7.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store.scenes.scene import make_scene
    >>> flow = reference_flow(load_backbone("mini"), make_scene(3))
    >>> dict(flow.sizes)
    {'frame': 6, 'frame_to': 6, 'y': 10, 'x': 10, 'xy': 2}
    """
    if isinstance(layer, LayerSelection):
        step = shown_step(layer, backbone, preset, steps) if step is None else step
        layer = chosen_layers(layer, backbone)[0]
    number = resolve_number("layer", default_layer(backbone, preset) if layer is None else layer, len(backbone.layers))
    step = default_step(backbone, preset, steps) if step is None else step
    how: dict[str, Any] = {"prompt": prompt, "preset": preset, "hard": hard, "temperature": temperature}
    return layer_flows(backbone, clip, [number], step=step, steps=steps, conditioning=conditioning, **how)[0]


@torch.no_grad()
def layer_flows(
    backbone: Backbone,
    clip: Clip,
    layers: Sequence[int],
    *,
    step: int | None,
    steps: int = 50,
    prompt: str | None = "",
    conditioning: Mapping[str, Any] | None = None,
    preset: FlowPreset = "exact",
    hard: bool = True,
    temperature: float = 2.0,
) -> list[xr.DataArray]:
    """The flows of several layers from one pass of the model, which holds the queries and keys of all of them.

    Parameters
    ----------
    backbone, clip, steps, prompt, conditioning, preset, hard, temperature : as in :func:`reference_flow`
    layers : not negative
    step : int, or None for the clean end, timestep 0

    Returns
    -------
    list of DataArray (frame, frame_to, y, x, xy), one for each layer

    Raises
    ------
    InvalidInputError, UnknownLayerError
        As :func:`reference_flow`.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store.scenes.scene import make_scene
    >>> len(layer_flows(load_backbone("mini"), make_scene(3), [4, 5], step=-1))
    2
    """
    check_temperature(temperature)
    read = layers_of_clip(
        backbone, clip, list(layers), step=step, steps=steps, prompt=prompt, conditioning=conditioning
    )
    found = []
    for number in layers:
        capture = read.captures[number]
        flow = attention_motion_flow(capture.query, capture.key, capture.layout, temperature=temperature, hard=hard)
        details = {
            "backbone": backbone.name,
            "revision": backbone.revision,
            "config_hash": backbone.config_hash,
            "layer": number,
            "layer_name": capture.layer_name,
            "step": None if step is None else capture.step,
            "steps": steps,
            "timestep": capture.timestep,
            "noise": "clean",
            "prompt": prompt,
            "preset": preset,
            "hard": hard,
            "temperature": None if hard else temperature,
            "pixel_size": [capture.layout.pixel_height, capture.layout.pixel_width],
            "versions": library_versions(),
        }
        found.append(labelled_flow(flow, capture.layout, details=details))
    return found


def default_layer(backbone: Backbone, preset: FlowPreset = "exact") -> int:
    """Default layer of the flow for a preset.

    Raises
    ------
    InvalidInputError
        If no layer is known for the backbone.

    Examples
    --------
    >>> from probe import load_backbone
    >>> default_layer(load_backbone("mini"))
    5
    """
    if preset == "exact":
        return tracking_defaults(backbone).layer
    card = model_card(backbone)
    if card is None or card.ditflow is None:
        raise InvalidInputError(
            f"DiTFlow has published no layer for {backbone.name}.",
            remedy=Wording(
                "Pass {layer}, or use {preset}. Published: {}.",
                ", ".join(names_with("ditflow")),
                layer=...,
                preset="exact",
            ),
        )
    return card.ditflow.layers[0]


def default_step(backbone: Backbone, preset: FlowPreset = "exact", steps: int = 50) -> int | None:
    """Default step at which a clip is shown; None is the clean end, timestep 0.

    Examples
    --------
    >>> from probe import load_backbone
    >>> default_step(load_backbone("mini")), default_step(load_backbone("mini"), "ditflow")
    (49, None)
    """
    if preset == "ditflow":
        return None
    try:
        return tracking_defaults(backbone).step_of(steps)
    except InvalidInputError:
        return -1


def shown_step(layers: object, backbone: Backbone, preset: FlowPreset, steps: int) -> int | None:
    """Return the step at which a reference is shown: that of a selection under "exact", else :func:`default_step`.

    Examples
    --------
    >>> from probe import load_backbone
    >>> shown_step((5,), load_backbone("mini"), "exact", 50)
    49
    """
    if preset == "exact" and isinstance(layers, LayerSelection):
        found = selected_step(layers, steps)
        if found is not None:
            return found
    return default_step(backbone, preset, steps)
