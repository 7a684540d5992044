"""Guided sampling: an unchanged pipeline, with strategies that edit the inputs of its transformer and scheduler.

The pipeline is not rewritten or patched permanently: hooks on the transformer show a strategy the exact arguments of
every call, and a wrapper around the scheduler's ``step`` starts it from edited latents. A strategy that changes nothing
leaves the result identical to the bit. :mod:`generators.sampling.strategy` describes what a strategy may do.

Memory. A run without gradients needs what the pipeline needs. Reading a layer with gradients keeps the activations of
one branch in every layer up to it, and with ``gradient_checkpointing`` the input of each and the activations of one at
a time. At 13 frames of 30 x 45 cells with 226 text tokens, in bfloat16 and with a fused attention, that is 876 MiB per
layer for CogVideoX-2B and 1483 MiB for 5B; with checkpointing it is 65 and 104 MiB per layer plus the former once: 13
GiB or 1.8 GiB for layer 15 of 2B. (Counted from the tensors that autograd keeps for diffusers' own blocks; no such
model was run.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from generators.errors import GuidanceDivergedError
from generators.sampling.freezing import frozen_weights, gradient_checkpointing
from generators.sampling.scheduler import EditedSteps, check_editable, moved
from generators.sampling.step import Run, Step
from generators.sampling.strategy import Strategy
from probe.attention.wrapping import check_closed, named_arguments
from probe.backbones.backbone import Backbone
from probe.backbones.pipeline_call import OnStep
from probe.backbones.settings import RunSettings, requested_size
from probe.capture.clock import SamplerClock
from probe.execution.compiled import CompilerHold, uncompiled
from store.arguments import checked, checked_but
from store.checks import integer
from store.clips.clip import Clip
from store.errors import InvalidInputError, NotFiniteError


@checked_but("prompt", "negative_prompt")
def sample(
    backbone: Backbone,
    prompt: str | None = None,
    strategies: Strategy | Iterable[Strategy] = (),
    *,
    seed: int = 0,
    steps: int = 50,
    size: tuple[int, int] | None = None,
    height: int | None = None,
    width: int | None = None,
    images: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    on_step: OnStep | None = None,
    gradient_checkpointing: bool = False,
) -> Clip:
    """Generate a clip from a prompt under guidance.

    Parameters
    ----------
    backbone : Backbone
    strategies : Strategy, or several
        They act at each step in this order; without any, the result is that of ``backbone.generate``.
    prompt, seed, steps, size, height, width, images, guidance_scale, negative_prompt, conditioning, on_step
        As in :meth:`probe.Backbone.generate`.
    gradient_checkpointing : bool
        Recompute layers where a gradient needs them instead of keeping their activations.

    Returns
    -------
    Clip
        Images uint8 (image, y, x, 3).

    Raises
    ------
    InvalidInputError
        Before the model runs, for what :meth:`probe.Backbone.generate` or a strategy rejects, and for guidance rescale.
    UnsupportedBackboneError
        For a scheduler under which latents cannot be edited.
    GuidanceDivergedError
        When a strategy produces values that are not finite; names the step and holds the last good latents.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import new_pipeline
    >>> class Brighter(Strategy):
    ...     def before(self, step):
    ...         step.latents = step.latents + 0.1
    >>> prompt = "a red disc moves left over blue stripes"
    >>> sample(load_backbone(new_pipeline()), prompt, Brighter(), steps=2).images.shape
    (6, 40, 40, 3)
    """
    requested = requested_size(size, height, width, images)
    settings = RunSettings(seed, steps, requested, guidance_scale, negative_prompt, conditioning)
    arguments = backbone.arguments(prompt, settings)
    with GuidedSampling(backbone, strategies, arguments, gradient_checkpointing=gradient_checkpointing):
        return backbone.call_pipeline(arguments, prompt=prompt, on_step=on_step)


_NEEDED = ("height", "width", "num_frames", "num_inference_steps")


class GuidedSampling:
    """Context manager in which a pipeline run is guided; :func:`sample` is the short form.

    Parameters
    ----------
    backbone : Backbone
    strategies : Strategy, or several
    arguments : mapping
        Arguments of the pipeline for one clip, as :class:`probe.backbones.arguments.PipelineArguments` returns them.
    gradient_checkpointing : bool

    Raises
    ------
    InvalidInputError, UnsupportedBackboneError
        See :func:`sample`.
    ProbeStateError
        On entering one that is open, and when a second thread runs the model under it.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import new_pipeline
    >>> backbone = load_backbone(new_pipeline())
    >>> arguments = backbone.arguments("a red disc moves left over blue stripes", steps=2)
    >>> with GuidedSampling(backbone, Strategy(), arguments):
    ...     backbone.pipeline(**arguments, output_type="latent").frames.shape
    torch.Size([1, 6, 12, 20, 20])
    """

    @checked
    def __init__(
        self,
        backbone: Backbone,
        strategies: Strategy | Iterable[Strategy],
        arguments: Mapping[str, Any],
        *,
        gradient_checkpointing: bool = False,
    ) -> None:
        check_editable(backbone.pipeline.scheduler)
        if backbone.rescales_guidance(arguments):
            own = "guidance_rescale" not in arguments
            shown = (
                "the pipeline's own guidance_rescale" if own else f"guidance_rescale={arguments['guidance_rescale']}"
            )
            raise InvalidInputError(
                f"{shown} rescales the guided prediction, so that what a strategy adds to it would not arrive. "
                + ("Pass guidance_rescale=0 in the conditioning." if own else "Leave guidance_rescale out.")
            )
        backbone.check_ready()
        self.backbone = backbone
        self.strategies = (strategies,) if isinstance(strategies, Strategy) else tuple(strategies)
        missing = [name for name in _NEEDED if name not in arguments]
        if missing:
            raise InvalidInputError(
                f"arguments lacks {', '.join(missing)}. Make it with backbone.arguments(prompt, ...)."
            )
        for name in _NEEDED:
            integer(arguments[name], name, min_value=1)
        height, width, images = (int(arguments[name]) for name in ("height", "width", "num_frames"))
        self.run = Run(
            backbone,
            backbone.layout(height, width, images, arguments.get("prompt")),
            int(arguments["num_inference_steps"]),
            backbone.wants_guidance(arguments),
        )
        self._checkpointing = gradient_checkpointing
        self._clock = SamplerClock(backbone.pipeline.scheduler, lambda: backbone.skipped_steps)
        self._step: Step | None = None
        self._delta: Tensor | None = None
        self._kwargs: dict[str, Any] = {}
        self._cond = 0
        self._own = False
        self._open = False
        self._exit = ExitStack()
        self._call = ExitStack()

    def __enter__(self) -> GuidedSampling:
        check_closed(self._open, "this guided run")
        for strategy in self.strategies:
            strategy.start(self.run)
        with ExitStack() as stack:
            stack.enter_context(CompilerHold())
            stack.enter_context(self._clock)
            stack.enter_context(EditedSteps(self.backbone.pipeline.scheduler, self._edited_sample))
            for denoiser in self.backbone.denoisers:
                stack.enter_context(frozen_weights(denoiser))
                if self._checkpointing:
                    stack.enter_context(gradient_checkpointing(denoiser))
                # before other hooks, so that a probe sees the final call
                begin, end = (uncompiled(denoiser, each) for each in (self._before_call, self._after_call))
                before = denoiser.register_forward_pre_hook(begin, prepend=True, with_kwargs=True)
                stack.callback(before.remove)
                stack.callback(denoiser.register_forward_hook(end).remove)
            for strategy in self.strategies:
                stack.enter_context(strategy.attached(self.run))
            stack.callback(self._end)
            self._exit = stack.pop_all()
        self._open = True
        return self

    def __exit__(self, kind: Any = None, error: BaseException | None = None, trace: Any = None) -> None:
        step, self._open = self._step, False
        self._exit.close()
        # the run's own check of its latents does not know the latents with which the step began
        if isinstance(error, NotFiniteError) and not isinstance(error, GuidanceDivergedError) and step is not None:
            raise step.diverged(str(error)) from error

    def _end(self) -> None:
        self._call.close()
        self._step = self._delta = None

    # The pipeline's calls of its transformer ----------------------------------------------------------------------

    def _before_call(
        self, denoiser: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self._clock.check_thread()
        if self._own:
            return None
        if self._clock.at_start:
            self._clock.calls_a_step = self.backbone.calls_a_step(guided=self.run.guided)
        self._clock.begin_call()
        kwargs = named_arguments(denoiser, args, kwargs)
        branches = self._branches(kwargs)
        if self._clock.call == 0:
            self._cond = branches.index("cond")
            self._begin(denoiser, kwargs, self._cond)
        self._clock.call += 1
        self._kwargs = kwargs
        step = self._step
        if step is None:
            return None
        call, edit = self._call.enter_context(step.altered(kwargs))
        self._call.enter_context(edit)
        return (), call

    def _after_call(self, denoiser: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self._own or self._step is None:
            return None
        self._call.close()
        prediction = self.backbone.prediction_of(output, self._kwargs)
        if self._clock.call == 1:
            self._delta = self._total_delta(self._step, prediction[self._cond : self._cond + 1])
        edited, guided = self._step.edited, prediction
        if edited is not None:
            guided = self.backbone.prediction_for_sampler(guided, self._step.shown, edited.to(guided))
        if self._delta is not None:
            guided = guided + self._delta
        return None if guided is prediction else self.backbone.output_with(output, guided, self._kwargs)

    def _branches(self, call: Mapping[str, Any]) -> list[str]:
        elements = self.backbone.branches_of_call(
            len(call["hidden_states"]), call=self._clock.call, guided=self.run.guided
        )
        if max(sample for _, sample in elements) > 0:
            raise InvalidInputError(
                f"one clip is guided at a time; this call of {self.backbone.name} makes several. Call it once for each."
            )
        return [branch for branch, _ in elements]

    def _begin(self, denoiser: nn.Module, call: Mapping[str, Any], index: int) -> None:
        """Begin a step: strategies read the conditional branch and make their changes."""
        timestep, batch = self._clock.timestep, len(call["hidden_states"])
        cond = {name: value[index : index + 1] if _has_batch(value, batch) else value for name, value in call.items()}
        self._delta = None
        self._step = Step(self.run, self._clock.step, float(timestep or 0.0), denoiser, cond, self._apart)
        for strategy in self.strategies:
            strategy.before(self._step)

    def _total_delta(self, step: Step, prediction: Tensor) -> Tensor | None:
        deltas = [strategy.delta(step, prediction) for strategy in self.strategies]
        total = None
        for delta in deltas:
            if delta is not None:
                step.check_finite(delta, "what is added to the prediction is")
                total = delta if total is None else total + delta
        return None if total is None else total.to(prediction)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Context for the strategies' own calls of the transformer: not guided, and hidden from the caller's probes."""
        before, self._own = self._own, True
        try:
            with self.backbone.label_calls(None, 0.0):
                yield
        finally:
            self._own = before

    def _edited_sample(self, latents: Tensor) -> Tensor | None:
        step = self._step
        edited = None if step is None else step.edited
        if step is None or edited is None:
            return None
        shown, edited = (self.backbone.in_sampler_layout(each, latents) for each in (step.shown, edited))
        changed, kept = moved(latents, shown, edited), self.backbone.kept_in_sampler(self._kwargs)
        return changed if kept is None else torch.where(kept, latents, changed)


def _has_batch(value: Any, batch: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == batch
