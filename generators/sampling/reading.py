"""Run a transformer up to a layer and return its queries, keys and features; later layers are not evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from probe.attention.edit import AttentionEdit, Editor
from probe.attention.positions import Positions
from probe.attention.token_order import TokenOrder
from probe.backbones.backbone import Backbone, CallLabel
from probe.run.layers_of_clip import Kept, Reading, kept_layers
from store.layout import TokenLayout


@contextmanager
def altered(
    backbone: Backbone,
    denoiser: nn.Module,
    call: Mapping[str, Any],
    layout: TokenLayout,
    positions: Positions | None,
    editors: Mapping[int, list[Editor]],
) -> Iterator[tuple[dict[str, Any], AttentionEdit]]:
    """A call of the transformer with other positions and edited attention.

    Yields
    ------
    Its keyword arguments, and the edit of its attention, which is to be entered after the taps, so that they see the
    final inputs of the multiplication.
    """
    if any(editors.values()):
        backbone.check_joint_attention("edits of the attention")
    modules = backbone.modules_of(denoiser)
    unchanged: nullcontext[Any] = nullcontext((dict(call), []))
    with unchanged if positions is None else backbone.replaced_positions(denoiser, call, positions) as (changed, first):
        chains = {layer: [*first, *editors.get(layer, ())] for layer in modules}

        video = dataclasses.replace(layout, text_tokens=0)  # branches may have texts of different lengths

        def order(tokens: int) -> TokenOrder:
            return backbone.order_of_tokens(call, video, tokens, "a layer")

        edit = AttentionEdit(modules, chains, layout, backbone.text_position, site=backbone.attention_site, order=order)
        with _recomputing(denoiser, edit):
            yield changed, edit


@contextmanager
def _recomputing(denoiser: nn.Module, edit: AttentionEdit) -> Iterator[None]:
    """Recompute layers with the same edit under gradient checkpointing, after the edit itself has been closed."""

    def checkpointed(module: nn.Module, *args: Any) -> Any:
        return checkpoint(module.__call__, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), edit))

    name = "_gradient_checkpointing_func"
    changed = [(module, vars(module)[name]) for module in denoiser.modules() if name in vars(module)]
    for module, _ in changed:
        setattr(module, name, checkpointed)
    try:
        yield
    finally:
        for module, before in changed:
            setattr(module, name, before)


def read_layers(
    backbone: Backbone,
    denoiser: nn.Module,
    call: Mapping[str, Any],
    layers: list[int],
    label: CallLabel,
    edit: AttentionEdit,
    *,
    features: bool = False,
    blocks: bool = False,
) -> Reading:
    """Run one branch of a transformer up to the last of some layers.

    Parameters
    ----------
    backbone : Backbone
        On which the call is labelled.
    denoiser : module
        One of its transformers.
    call : keyword arguments of one batch element
    layers : ascending list of int
    label : CallLabel
        Label of the captures, with its step and number of steps set.
    edit : AttentionEdit
        Not entered yet.
    features, blocks : bool
        See :meth:`generators.sampling.step.Step.read`.
    """
    keep: list[Kept] = ["attention", *(("features",) if features else ()), *(("blocks",) if blocks else ())]
    with (
        kept_layers(
            backbone,
            denoiser,
            layers,
            label.step or 0,
            steps=label.steps,
            branch=label.branch,
            keep=keep,
        ) as found,
        edit,
        backbone.label_calls(label.step, label.timestep, label.branch, label.steps),
    ):
        denoiser(**call)
    return found
