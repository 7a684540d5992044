"""The probe: one capture for every selected layer, step, branch and sample of whatever the backbone runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from probe.attention.tap import AttentionCall, AttentionTap
from probe.attention.wrapping import check_closed, named_arguments
from probe.backbones.backbone import Backbone
from probe.backbones.indices import take
from probe.capture.capture import Capture, Sink
from probe.capture.clock import SamplerClock
from probe.execution.compiled import uncompiled
from store.arguments import checked
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.selection import ResolvedSelection, Selection


@dataclass(frozen=True)
class _Element:
    """One batch element of the transformer call under way that is to be captured."""

    index: int
    step: int
    timestep: float
    branch: str
    sample: int
    layout: TokenLayout
    frames: tuple[int, ...] | None


class Probe:
    """A context manager that hands a :class:`Capture` to every sink for each selected piece of attention.

    Whatever runs in the context is seen: a call of the pipeline, :func:`probe.run.run.run_clip`, a transformer call
    inside ``backbone.label_calls``. Nothing is changed: the model's results are the same to the bit, and on leaving,
    the attention processors and the scheduler are what they were. Probes may be closed in any order.

    Parameters
    ----------
    backbone : Backbone
    selection : Selection
        Steps, layers, branches, heads and frames to capture.
    sinks : callable, or several
        Each takes a :class:`Capture`, in the order of the layers within a step.
    steps : int, optional
        Steps of the run, from which negative steps count; where not given, the scheduler's own number.
    features : bool
        Also hand over the attention output before ``to_out``.

    Raises
    ------
    UnknownLayerError
        For a layer, head, step or frame that does not exist.
    UnsupportedBackboneError
        On entering, when a cache that skips attention is active.
    ProbeStateError
        On entering a probe that is open, and when a second thread runs the model under it.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import new_pipeline
    >>> backbone, captures = load_backbone(new_pipeline()), []
    >>> with Probe(backbone, Selection(steps=[-1], layers=[4]), captures.append):
    ...     clip = backbone.generate("a red disc moves right over blue dots", steps=2)
    >>> captures[0].step, captures[0].layer_name, tuple(captures[0].query.shape)
    (1, 'transformer_blocks.4.attn1', (4, 6, 10, 10, 32))
    """

    @checked
    def __init__(
        self,
        backbone: Backbone,
        selection: Selection,
        sinks: Sink | Iterable[Sink],
        *,
        steps: int | None = None,
        features: bool = False,
    ) -> None:
        self.backbone = backbone
        self.sinks: tuple[Sink, ...] = (sinks,) if callable(sinks) else tuple(sinks)
        if not self.sinks:
            raise InvalidInputError("a probe needs at least one sink: a callable that takes a Capture.")
        self._selection = selection
        self._features = features
        self._steps = steps
        self._resolved: dict[int, ResolvedSelection] = {}
        if steps is None:  # the steps are checked when a run starts, everything else now
            every = dataclasses.replace(selection, steps="all")
            self._layers = every.resolve(len(backbone.layers), 1, self._head_count()).layers
        else:
            self._layers = self._resolve(steps).layers
        self._clock = SamplerClock(backbone.pipeline.scheduler, lambda: backbone.skipped_steps)
        self._guided = False
        self._elements: list[_Element] = []
        self._call: Mapping[str, Any] = {}
        self._calls_of_layer: dict[int, int] = {}
        self._open = False
        self._exit = ExitStack()

    def __enter__(self) -> Probe:
        check_closed(self._open, "this probe")
        with ExitStack() as stack:
            stack.enter_context(self._clock)
            for number, denoiser in enumerate(self.backbone.denoisers):
                modules = {layer: self.backbone.modules[number][layer][1] for layer in self._layers}
                site = self.backbone.attention_site
                watching = AttentionTap(modules, self._see(number), root=denoiser, site=site, output=self._features)
                stack.enter_context(watching)
                before = denoiser.register_forward_pre_hook(uncompiled(denoiser, self._before_call), with_kwargs=True)
                stack.callback(before.remove)
                after = denoiser.register_forward_hook(uncompiled(denoiser, self._after_call))
                stack.callback(after.remove)
            self._exit = stack.pop_all()
        self._open = True
        return self

    def __exit__(self, *exception: Any) -> None:
        self._open = False
        self._elements, self._call = [], {}
        self._exit.close()

    # Which batch elements of a transformer call are captured -----------------------------------------------------

    def _head_count(self) -> int:
        return min(layer.heads for layer in self.backbone.layers)

    def _resolve(self, steps: int) -> ResolvedSelection:
        if steps not in self._resolved:
            self._resolved[steps] = self._selection.resolve(len(self.backbone.layers), steps, self._head_count())
        return self._resolved[steps]

    def _before_call(self, denoiser: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._clock.check_thread()
        call = named_arguments(denoiser, args, kwargs)
        self._call, self._calls_of_layer = call, {}
        if self.backbone.call_label is not None:
            self._elements = self._labelled_elements(call)
        else:
            self._elements = self._sampled_elements(call)
            self._clock.call += 1

    def _after_call(self, denoiser: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._elements, self._call = [], {}

    def _labelled_elements(self, call: Mapping[str, Any]) -> list[_Element]:
        label = self.backbone.call_label
        if label is None or label.step is None:
            return []
        steps = self._steps or label.steps or self._clock.steps
        branches = [(label.branch, sample) for sample in range(len(call["hidden_states"]))]
        return self._chosen(call, label.step, label.timestep, steps, branches)

    def _sampled_elements(self, call: Mapping[str, Any]) -> list[_Element]:
        clock = self._clock
        if clock.at_start:
            # asked once a run: dynamic guidance changes the pipeline's scale while it samples
            self._guided = self.backbone.is_guided(call)
            clock.calls_a_step = self.backbone.calls_a_step(guided=self._guided)
        clock.begin_call()
        branches = self.backbone.branches_of_call(len(call["hidden_states"]), call=clock.call, guided=self._guided)
        timestep = float(call["timestep"].flatten()[0]) if clock.timestep is None else clock.timestep
        return self._chosen(call, clock.step, timestep, self._steps or clock.steps, branches)

    def _chosen(
        self, call: Mapping[str, Any], step: int, timestep: float, steps: int, branches: list[tuple[str, int]]
    ) -> list[_Element]:
        selection = self._resolve(steps)
        if step not in selection.steps:
            return []
        elements = []
        for index, (layout, (branch, sample)) in enumerate(
            zip(self.backbone.layouts_of_call(call), branches, strict=True)
        ):
            if branch in selection.branches:
                frames = self._frames(layout, steps)
                elements.append(_Element(index, step, timestep, branch, sample, layout, frames))
        return elements

    def _frames(self, layout: TokenLayout, steps: int) -> tuple[int, ...] | None:
        if self._selection.frames is None:
            return None
        count = len(self.backbone.layers)
        return self._selection.resolve(count, steps, self._head_count(), layout.frames).frames

    # From an attention call to captures ---------------------------------------------------------------------------

    def _see(self, number: int) -> Callable[[AttentionCall], None]:
        prefix = f"transformer_{number + 1}." if number else ""

        def see(call: AttentionCall) -> None:
            if not self._elements:
                return
            name = prefix + self.backbone.layers[call.layer].name
            call = gathered(call, self.backbone, self._elements[0].layout)
            first = self._first_element(call)
            for element in self._elements:
                if not first <= element.index < first + len(call.query):
                    continue
                capture = self._capture(call, element, first, name)
                for sink in self.sinks:
                    sink(capture)

        return see

    def _first_element(self, call: AttentionCall) -> int:
        """The batch element of the transformer call that an attention call begins with.

        Mochi makes one attention call for each of them, all others one for the whole batch.
        """
        if not self._call or len(call.query) == len(self._call["hidden_states"]):
            return 0
        first = self._calls_of_layer.get(call.layer, 0)
        self._calls_of_layer[call.layer] = first + len(call.query)
        return first

    def _capture(self, call: AttentionCall, element: _Element, first: int, name: str) -> Capture:
        layout, chosen, index = element.layout, self._heads(call), element.index - first
        order = self.backbone.order_of_tokens(self._call, layout, call.query.shape[2], name)
        video, text = order.video, order.text
        query, key, value = (_pick(tensor[index], chosen) for tensor in (call.query, call.key, call.value))
        features = None
        if call.output is not None:
            output = call.output[index, :, video].transpose(0, 1).flatten(1)
            features = _grid(output[None], layout, element.frames)[0]
        return Capture(
            step=element.step,
            timestep=element.timestep,
            layer=call.layer,
            layer_name=name,
            branch=element.branch,
            sample=element.sample,
            query=_grid(query[:, video], layout, element.frames),
            key=_grid(key[:, video], layout, element.frames),
            text_query=None if text is None else query[:, text],
            text_key=None if text is None else key[:, text],
            features=features,
            scale=call.scale,
            layout=_with_frames(layout, element.frames),
            value=_grid(value[:, video], layout, element.frames),
        )

    def _heads(self, call: AttentionCall) -> list[int] | None:
        if self._selection.heads is None or self._selection.heads == "all":
            return None
        every = dataclasses.replace(self._selection, steps="all")
        return list(every.resolve(len(self.backbone.layers), 1, call.query.shape[1]).heads)


def gathered(call: AttentionCall, backbone: Backbone, layout: TokenLayout) -> AttentionCall:
    """Return an attention call with the batch of clips, where a model makes it with a batch of frames or of cells."""
    if not backbone.factorised:
        return call
    name, tensors = backbone.layers[call.layer].name, dict[str, Any]()
    for part in ("query", "key", "value", "output"):
        tensor = getattr(call, part)
        tensors[part] = None if tensor is None else backbone.gather_tokens(tensor, layout, name)
    return dataclasses.replace(call, **tensors)


def _pick(tensor: Tensor, heads: list[int] | None) -> Tensor:
    return tensor if heads is None else take(tensor, 0, heads)


def _grid(tokens: Tensor, layout: TokenLayout, frames: tuple[int, ...] | None) -> Tensor:
    """(n, token, channel) as (n, frame, y, x, channel)."""
    grid = tokens.unflatten(1, (layout.frames, layout.height, layout.width))
    return grid if frames is None else take(grid, 1, frames)


def _with_frames(layout: TokenLayout, frames: tuple[int, ...] | None) -> TokenLayout:
    if frames is None:
        return layout
    return dataclasses.replace(layout, frames=len(frames), spans=[layout.images_of(frame) for frame in frames])
