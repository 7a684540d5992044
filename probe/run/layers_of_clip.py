"""Features of chosen layers for one pass of the model, which ends after the last of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from probe.attention.tap import AttentionCall, AttentionTap
from probe.backbones.backbone import Backbone
from probe.backbones.settings import RequestedSize, RunSettings
from probe.capture.capture import Capture
from probe.capture.probe import Probe, gathered
from probe.run.forward import ForwardPass
from probe.run.run import run_states
from store.arguments import checked
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.selection import Selection

Kept = Literal["features", "attention", "blocks"]


@dataclass(frozen=True, eq=False)
class Reading:
    """Features of the layers of a pass, by layer; part of the graph of the latents where gradients were enabled.

    Parameters
    ----------
    captures : dict of Capture
        Queries and keys of the video tokens (head, frame, y, x, channel), and the attention output if it was wanted.
    attention : dict of AttentionCall
        Query, key and value (1, head, token, channel) with the text tokens, and the output with ``features``, if they
        were wanted.
    blocks : dict of (frame, y, x, channel) tensors
        Output of the layer's block for the video tokens, if it was wanted.
    """

    captures: dict[int, Capture] = field(default_factory=dict)
    attention: dict[int, AttentionCall] = field(default_factory=dict)
    blocks: dict[int, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Reading(layers {', '.join(map(str, self.captures))})"


class _LastLayer(Exception):
    """Leaves the transformer after the last layer that was asked for."""


@contextmanager
def kept_layers(
    backbone: Backbone,
    denoiser: nn.Module,
    layers: Sequence[int],
    step: int,
    *,
    steps: int | None = None,
    branch: str = "cond",
    heads: Sequence[int] | None = None,
    keep: Collection[Kept] = (),
) -> Iterator[Reading]:
    """Keep what chosen layers compute in the transformer call made in this context, which ends after the last of them.

    Parameters
    ----------
    backbone : Backbone
    denoiser : module
        The one of its transformers that is called.
    layers : sequence of int, not negative
    step, branch : int, str
        Step and branch of the call, which is labelled (:meth:`probe.Backbone.label_calls`) or made by the pipeline.
    steps : int, optional
        Number of steps of the run.
    heads : sequence of int, optional
        Heads of the captures; all by default.
    keep : collection of "features", "attention", "blocks"
        Also keep the attention output in the captures, the attention calls, or the output of the layers' blocks.
        Without features or blocks, the attention of the last layer is not computed.

    Raises
    ------
    RuntimeError
        When the last layer was never reached.

    Examples
    --------
    >>> from probe import ForwardPass, load_backbone
    >>> backbone = load_backbone("mini")
    >>> forward = ForwardPass(backbone, "", steps=4)
    >>> with torch.no_grad(), kept_layers(backbone, backbone.denoisers[0], [2], 3) as found:
    ...     _ = forward.predict(torch.zeros(1, 6, 12, 20, 20), step=3)
    >>> found
    Reading(layers 2)
    """
    found, last = Reading(), max(layers)
    features, attention, blocks = (name in keep for name in ("features", "attention", "blocks"))

    def stop_after(layer: int) -> None:
        if layer == last:
            raise _LastLayer

    def keep_capture(capture: Capture) -> None:
        found.captures[capture.layer] = capture
        if not (attention or blocks):
            stop_after(capture.layer)

    def keep_attention(call: AttentionCall) -> None:
        found.attention[call.layer] = gathered(call, backbone, found.captures[call.layer].layout)
        if not blocks:
            stop_after(call.layer)

    def keep_block(layer: int, output: Any) -> None:
        if torch._C._current_graph_task_id() != -1:  # checkpointing recomputes within backward
            return
        found.blocks[layer] = _video_tokens(backbone, found.captures[layer], output)
        stop_after(layer)

    selection = Selection([step], list(layers), (branch,), heads=heads)
    with ExitStack() as stack:
        watched: list[Any] = [Probe(backbone, selection, keep_capture, steps=steps, features=features)]
        if attention:
            modules = backbone.modules_of(denoiser)
            chosen = {layer: modules[layer] for layer in layers}
            site = backbone.attention_site
            watched.append(AttentionTap(chosen, keep_attention, site=site, output=features))
        # The last one entered is called first and observes last after an attention, first before it. The probe must
        # have seen the layer when the other one ends the pass.
        for watching in watched if features else reversed(watched):
            stack.enter_context(watching)
        for layer in layers if blocks else ():
            hook = lambda module, args, output, layer=layer: keep_block(layer, output)  # noqa: E731
            stack.callback(backbone.block_of(denoiser, layer).register_forward_hook(hook).remove)
        try:
            yield found
        except _LastLayer:
            return
    raise RuntimeError(f"layer {last} of {type(denoiser).__name__} was never reached.")


def _video_tokens(backbone: Backbone, capture: Capture, output: Any) -> Tensor:
    """Output (frame, y, x, channel) of a block for the video tokens, which joint blocks return first."""
    layout = capture.layout
    every: Tensor = output[0] if isinstance(output, tuple) else output
    tokens = backbone.gather_tokens(every[:, None], layout, backbone.layers[capture.layer].name)[0, 0]
    return tokens.unflatten(0, (layout.frames, layout.height, layout.width))


@checked
@torch.no_grad()
def layers_of_clip(
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
    """Show the clean latents of a clip to the model once and return what chosen layers compute, ``cond`` branch.

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
        A clip of a size that the backbone takes.
    layers : list of int, not negative
        Layers after the last of them are not evaluated.
    step : int, optional
        Step at whose timestep the latents are shown; by default timestep 0, the clean end of a run.
    steps : int
        Number of steps of the run that ``step`` belongs to.
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
    >>> layers_of_clip(load_backbone("mini"), make_scene(3), [4], blocks=True).blocks[4].shape
    torch.Size([6, 10, 10, 128])
    """
    if not len(layers):
        raise InvalidInputError("layers is empty: name at least one to read.")
    backbone.check_ready()
    backbone.check_size(clip.height, clip.width, len(clip))
    size = RequestedSize(clip.height, clip.width, len(clip))
    settings = RunSettings(steps=steps, size=size, conditioning=conditioning)
    forward = ForwardPass.of(backbone, prompt, settings.with_conditioning(backbone.conditioning_of(clip)))
    if step is None:
        # a run of one step, whose timestep is that of the clean end
        clean = (forward.schedule.clean_timestep,)
        forward.schedule = replace(
            forward.schedule, timesteps=clean, signal=(1.0, 1.0), noise=(0.0, 0.0), timestep_inputs=()
        )
    at = forward.schedule.resolve(0 if step is None else step)
    latents = backbone.encode(clip) if latents is None else latents
    denoiser = backbone.denoiser_at(forward.schedule.timesteps[at])
    keep: tuple[Kept, ...] = ("blocks",) if blocks else ()
    with kept_layers(backbone, denoiser, layers, at, steps=len(forward.schedule), keep=keep) as found:
        for _ in run_states(forward, latents, [at]):
            pass
    return found
