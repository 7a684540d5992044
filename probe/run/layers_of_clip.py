"""What layers make of a clip that exists: the clean latents of a reference, shown to the model once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from probe.attention.tap import AttentionCall
from probe.backbones.backbone import Backbone
from probe.capture.capture import Capture
from probe.capture.probe import Probe
from probe.run.forward import ForwardPass
from probe.run.run import run_states
from store.arguments import checked
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.selection import Selection


@dataclass(frozen=True, eq=False)
class Reading:
    """What the layers of a pass gave, by layer; part of the graph of the latents where gradients were enabled.

    Parameters
    ----------
    captures : dict of Capture
        Queries and keys of the video tokens (head, frame, y, x, channel), and the attention output if it was wanted.
    attention : dict of AttentionCall
        The attention as it was: query, key, value and output (1, head, token, channel) with the text tokens.
    blocks : dict of (frame, y, x, channel) tensors
        Output of the layer's block for the video tokens, if it was wanted.
    """

    captures: dict[int, Capture] = field(default_factory=dict)
    attention: dict[int, AttentionCall] = field(default_factory=dict)
    blocks: dict[int, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Reading(layers {', '.join(map(str, self.captures))})"


class EnoughRead(Exception):
    """Leaves the transformer after the last layer that was asked for."""


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
        Further arguments of the pipeline, as in :meth:`probe.backbones.backbone.Backbone.generate`.
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
            raise EnoughRead  # the layers after it are not needed

    with ExitStack() as stack:
        stack.enter_context(Probe(backbone, Selection([at], layers), keep, steps=len(forward.schedule)))
        if blocks:
            denoiser = backbone.denoiser_at(forward.schedule.timesteps[at])
            modules = backbone.modules[backbone.denoisers.index(denoiser)]
            keep_blocks(stack, found, denoiser, {modules[layer][0]: layer for layer in layers}, last)
        stack.enter_context(suppress(EnoughRead))
        for _ in run_states(forward, latents, [at]):
            pass
    return found


def keep_blocks(stack: ExitStack, found: Reading, denoiser: nn.Module, names: Mapping[str, int], last: int) -> None:
    for name, layer in names.items():

        def keep(module: nn.Module, args: Any, output: Any, layer: int = layer) -> None:
            if torch._C._current_graph_task_id() != -1:  # checkpointing recomputes within backward
                return
            tokens = output[0] if isinstance(output, tuple) else output
            layout = found.captures[layer].layout
            found.blocks[layer] = tokens[0].unflatten(0, (layout.frames, layout.height, layout.width))
            if layer == last:
                raise EnoughRead

        block = denoiser.get_submodule(name.rpartition(".")[0])
        stack.callback(block.register_forward_hook(keep).remove)
