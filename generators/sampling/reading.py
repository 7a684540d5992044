"""A transformer run up to a layer and no further: what was asked for is handed back, later layers are not evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from probe.attention.edit import AttentionEdit, Editor
from probe.attention.positions import Positions, using_positions
from probe.attention.tap import AttentionCall, AttentionTap
from probe.backbones.backbone import Backbone, Moment
from probe.capture.probe import Probe
from probe.run.layers_of_clip import EnoughRead, Reading, keep_blocks
from store.layout import TokenLayout
from store.selection import Selection


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
    Its keyword arguments, and the edit of its attention, which is still to be entered: after the taps that are to see
    what is multiplied in the end.
    """
    modules = dict(enumerate(module for _, module in backbone.modules[backbone.denoisers.index(denoiser)]))
    with using_positions(denoiser, call, positions) as (changed, first):
        chains = {layer: [*first, *editors.get(layer, ())] for layer in modules}
        edit = AttentionEdit(modules, chains, layout, backbone.text_position)
        with _recomputing(denoiser, edit):
            yield changed, edit


@contextmanager
def _recomputing(denoiser: nn.Module, edit: AttentionEdit) -> Iterator[None]:
    """Gradient checkpointing, where it is on, recomputes a layer with the same edit, which is long closed by then."""

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
    moment: Moment,
    edit: AttentionEdit,
    *,
    features: bool = False,
    blocks: bool = False,
) -> Reading:
    """Run one branch of a transformer up to the last of some layers.

    Parameters
    ----------
    backbone : Backbone
        On which the pass is announced.
    denoiser : module
        One of its transformers.
    call : keyword arguments of one batch element
    layers : ascending list of int
    moment : Moment
        What the captures say they are; its step and its number of steps are given.
    edit : AttentionEdit
        Not entered yet.
    features, blocks : bool
        See :meth:`generators.sampling.step.Step.read`.
    """
    found, last = Reading(), layers[-1]
    modules = backbone.modules[backbone.denoisers.index(denoiser)]

    def keep(attention: AttentionCall) -> None:
        found.attention[attention.layer] = attention
        if attention.layer == last and not blocks:
            raise EnoughRead

    selection = Selection([moment.step or 0], layers, (moment.branch,))
    with ExitStack() as stack:
        stack.enter_context(
            Probe(
                backbone,
                selection,
                lambda capture: found.captures.__setitem__(capture.layer, capture),
                steps=moment.steps,
                features=features,
            )
        )
        # entered after the probe, so that it stops the pass when the probe has seen the layer
        stack.enter_context(AttentionTap({layer: modules[layer][1] for layer in layers}, keep))
        stack.enter_context(edit)
        if blocks:
            keep_blocks(stack, found, denoiser, {modules[layer][0]: layer for layer in layers}, last)
        stack.enter_context(backbone.announce(moment.step, moment.timestep, moment.branch, moment.steps))
        try:
            denoiser(**call)
        except EnoughRead:
            return found
    raise RuntimeError(f"layer {last} of {type(denoiser).__name__} was never reached.")
