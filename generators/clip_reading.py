"""What layers make of a clip that exists: the clean latents of a reference, shown to the model once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from generators.reading import Reading, _Enough, _keep_blocks
from probe.backbone import Backbone
from probe.capture import Capture
from probe.forward import ForwardPass
from probe.probe import Probe
from probe.run import run_states
from store.arguments import checked
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.selection import Selection


@checked
@torch.no_grad()
def reading_of_clip(
    backbone: Backbone,
    clip: Clip,
    layers: list[int],
    *,
    step: int | None = None,
    steps: int = 50,
    prompt: str | None = "",
    conditioning: Mapping[str, Any] | None = None,
    latents: Tensor | None = None,
    blocks: bool = False,
) -> Reading:
    """Queries and keys of layers, and their blocks' output, for the clean latents of a clip, ``cond`` branch.

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
        Of a size that the backbone takes.
    layers : list of int, not negative
        Layers after the last of them are not evaluated.
    step : int, optional
        At whose timestep the latents are shown; by default at timestep 0, the clean end of a run.
    steps : int
        Of the run that ``step`` belongs to.
    prompt : str
        None where ``conditioning`` has ``prompt_embeds``.
    conditioning : mapping, optional
        Further arguments of the pipeline, as in :meth:`probe.backbone.Backbone.generate`.
    latents : tensor, optional
        Those of the clip, where they are known already.
    blocks : bool
        Also the output (frame, y, x, channel) of the layers' blocks.

    Raises
    ------
    InvalidInputError
        For a size or prompt that the backbone does not take.
    UnknownLayerError
        For a layer or step that does not exist.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store.scenes.scene import make_scene
    >>> reading_of_clip(load_backbone("mini"), make_scene(3), [4], blocks=True).blocks[4].shape
    torch.Size([6, 10, 10, 128])
    """
    if not len(layers):
        raise InvalidInputError("layers is empty: name at least one to read.")
    backbone.check_ready()
    backbone.check_size(clip.height, clip.width, len(clip))
    forward = ForwardPass(
        backbone,
        prompt,
        steps=steps,
        height=clip.height,
        width=clip.width,
        images=len(clip),
        conditioning={**backbone.conditioning_of(clip), **(conditioning or {})},
    )
    if step is None:
        # a run of one step, whose timestep is that of the clean end
        forward.schedule = replace(forward.schedule, timesteps=(0.0,), signal=(1.0, 1.0), noise=(0.0, 0.0))
    at = forward.schedule.resolve(0 if step is None else step)
    latents = backbone.encode(clip) if latents is None else latents
    found, last = Reading(), max(layers)

    def keep(capture: Capture) -> None:
        found.captures[capture.layer] = capture
        if capture.layer == last and not blocks:
            raise _Enough  # the layers after it are not needed

    with ExitStack() as stack:
        stack.enter_context(Probe(backbone, Selection([at], layers), keep, steps=len(forward.schedule)))
        if blocks:
            denoiser = backbone.denoiser_at(forward.schedule.timesteps[at])
            modules = backbone.modules[backbone.denoisers.index(denoiser)]
            _keep_blocks(stack, found, denoiser, {modules[layer][0]: layer for layer in layers}, last)
        stack.enter_context(suppress(_Enough))
        for _ in run_states(forward, latents, [at]):
            pass
    return found
