"""Run a clip or a prompt through a backbone with a probe on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probe.backbones.backbone import Backbone
from probe.backbones.pipeline_call import OnStep
from probe.backbones.settings import DEFAULT_SIZE, RequestedSize, RunSettings, check_seed, requested_size
from probe.capture.capture import Sink
from probe.capture.probe import Probe
from probe.run.forward import ForwardPass
from store.arguments import checked, checked_but
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.selection import Noise, Selection, check_noise
from store.wording import Wording


@dataclass(frozen=True, eq=False)
class State:
    """Latents that the model was shown at a step, and its predictions by branch."""

    step: int
    timestep: float
    latents: Tensor
    predictions: Mapping[str, Tensor]


@checked
@torch.no_grad()
def run_states(
    forward: ForwardPass, latents: Tensor, steps: Iterable[int], *, noise: Noise = "clean", seed: int = 0
) -> Iterator[State]:
    """Show the model a clip's latents at the given steps.

    Parameters
    ----------
    forward : ForwardPass
        Probes that are active see its calls.
    latents : tensor
        Clean latents, as :meth:`Backbone.encode` returns them.
    steps : iterable of int
        Negative ones count from the end.
    noise : "clean", "forward" or "inversion"
        Clean latents at the step's timestep; with gaussian noise added to that timestep, one draw for all steps; or
        the state from which the deterministic sampler would come back to the clip (DDIM inversion, Song et al. 2021;
        Euler for flow matching), found along the conditional branch without guidance.
    seed : int
        Seed of the added noise, drawn on the CPU.

    Yields
    ------
    State
        In ascending order of steps; for "inversion" from the last step down to the first one asked for, every step
        between included, because each state is made from the one before.

    Raises
    ------
    InvalidInputError
        For an unknown noise, or a model whose inversion is not defined.
    NotFiniteError
        When the model is shown or predicts what is not finite; names the step.
    """
    check_noise(noise)
    schedule = forward.schedule
    chosen = sorted({schedule.resolve(step) for step in steps})
    if noise == "inversion":
        yield from _inversion(forward, latents, chosen)
        return
    drawn = torch.Generator("cpu").manual_seed(check_seed(seed))
    gaussian = torch.randn(latents.shape, generator=drawn).to(latents) if noise == "forward" else None
    for step in chosen:
        state = latents if gaussian is None else schedule.noised(latents, gaussian, step)
        yield State(step, schedule.timesteps[step], state, forward.predict(state, step))


def _inversion(forward: ForwardPass, latents: Tensor, chosen: list[int]) -> Iterator[State]:
    schedule = forward.schedule
    state, at = latents, len(schedule)
    predictions = forward.predict(state, at, branches=("cond",))
    for step in reversed(range(chosen[0], len(schedule))):
        state, at = schedule.move(state, predictions["cond"].to(state), at, step), step
        branches = forward.branches if step in chosen else ("cond",)
        predictions = forward.predict(state, step, branches=branches, capture=step in chosen)
        yield State(step, schedule.timesteps[step], state, predictions)


@checked
def pass_count(selection: Selection, *, noise: Noise = "clean", steps: int = 50) -> int:
    """Count the steps of the model that :func:`run_clip` runs, for a progress bar or an estimate of the time.

    Examples
    --------
    >>> pass_count(Selection(steps=[0, 25, 49], layers=[0]))
    3
    >>> pass_count(Selection(steps=[40], layers=[0]), noise="inversion")
    11
    """
    check_noise(noise)
    chosen = _steps(selection, steps)
    return 1 + steps - chosen[0] if noise == "inversion" else len(chosen)


def _steps(selection: Selection, steps: int) -> tuple[int, ...]:
    if steps < 1:
        raise InvalidInputError(Wording("a run needs at least 1 step; got {steps}.", steps=steps))
    return Selection(selection.steps, "all").resolve(1, steps, 1).steps


@checked_but("prompt", "negative_prompt")
def run_clip(
    backbone: Backbone,
    clip: Clip,
    selection: Selection,
    sinks: Sink | Iterable[Sink],
    *,
    noise: Noise = "clean",
    seed: int = 0,
    steps: int = 50,
    prompt: str | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    features: bool = False,
    on_step: OnStep | None = None,
) -> None:
    """Show a clip to the model at the selected steps and hand what is selected to the sinks.

    Only the branches of the selection are run.

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
        A clip of a size that the backbone takes (see :meth:`Backbone.nearest_size`).
    selection : Selection
    sinks : callable, or several
        Each takes a :class:`Capture`.
    noise, seed
        See :func:`run_states`.
    steps : int
        Denoising steps of the run whose timesteps are used.
    prompt : str, optional
        The clip's own where not given (see :meth:`Backbone.caption_of`), else empty.
    guidance_scale, negative_prompt, conditioning
        As in :meth:`Backbone.generate`; the scale matters only where guidance is an input of the model.
    features : bool
        Also capture the attention output.
    on_step : callable, optional
        Called with (steps run, steps to run) after each.

    Raises
    ------
    InvalidInputError, UnknownLayerError
        Before the model runs.
    NotFiniteError
        When latents or predictions are not finite; names the step.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import new_pipeline
    >>> backbone, captures = load_backbone(new_pipeline()), []
    >>> clip = backbone.generate("a red disc moves left over blue stripes", steps=2)
    >>> run_clip(backbone, clip, Selection(steps=[10, -1], layers=[4]), captures.append, noise="forward")
    >>> [(capture.step, capture.timestep) for capture in captures]
    [(10, 799.0), (49, 19.0)]
    """
    settings = RunSettings(seed, steps, DEFAULT_SIZE, guidance_scale, negative_prompt, conditioning)
    show_clip(
        backbone, clip, selection, sinks, settings, noise=noise, prompt=prompt, features=features, on_step=on_step
    )


def show_clip(
    backbone: Backbone,
    clip: Clip,
    selection: Selection,
    sinks: Sink | Iterable[Sink],
    settings: RunSettings,
    *,
    noise: Noise = "clean",
    prompt: str | None = None,
    features: bool = False,
    on_step: OnStep | None = None,
) -> None:
    """Run :func:`run_clip` with settings as one value, whose size is that of the clip."""
    steps, size = settings.steps, RequestedSize(clip.height, clip.width, len(clip))
    backbone.check_size(clip.height, clip.width, len(clip))
    total = pass_count(selection, noise=noise, steps=steps)
    probe = Probe(backbone, selection, sinks, steps=steps, features=features)
    backbone.check_ready()
    settings = settings.changed(size=size)
    shown = backbone.caption_of(clip) if prompt is None else prompt
    further = backbone.conditioning_of(clip)
    forward = ForwardPass.of(backbone, shown, settings.with_conditioning(further), _branches(selection, noise))
    latents = backbone.encode(clip)
    with probe:
        states = run_states(forward, latents, _steps(selection, steps), noise=noise, seed=settings.seed)
        for done, _ in enumerate(states, start=1 + (noise == "inversion")):
            if on_step is not None:
                on_step(done, total)


def _branches(selection: Selection, noise: Noise) -> tuple[str, ...]:
    chosen = tuple(selection.branches)
    return chosen if noise != "inversion" or "cond" in chosen else ("cond", *chosen)


class EndRun(Exception):
    """Ends a run on purpose, before its clip is decoded; raised by a callback or a strategy, caught by who began it."""


@checked_but("prompt", "negative_prompt")
def run_prompt(
    backbone: Backbone,
    prompt: str | None,
    selection: Selection,
    sinks: Sink | Iterable[Sink],
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
    features: bool = False,
    want_clip: bool = True,
    on_step: OnStep | None = None,
) -> Clip | None:
    """Generate a clip and hand what is selected to the sinks while it is made.

    Parameters
    ----------
    backbone, prompt, seed, steps, size, height, width, images, guidance_scale, negative_prompt, conditioning
        As in :meth:`Backbone.generate`.
    selection : Selection
    sinks : callable, or several
        Each takes a :class:`Capture`.
    features : bool
        Also capture the attention output.
    want_clip : bool
        False ends the run after the last selected step and decodes nothing.
    on_step : callable, optional
        Called with (steps done, steps to do) after each.

    Returns
    -------
    Clip or None
        The same clip, to the bit, as without a probe; None if it is not wanted.

    Raises
    ------
    InvalidInputError, UnknownLayerError
        Before the model runs.
    NotFiniteError
        When latents or predictions are not finite; names the step.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import new_pipeline
    >>> backbone, captures = load_backbone(new_pipeline()), []
    >>> prompt = "a red disc moves left over blue stripes"
    >>> run_prompt(backbone, prompt, Selection([0], [2, 4]), captures.append, steps=9, want_clip=False)
    >>> [capture.layer for capture in captures]
    [2, 4]
    """
    requested = requested_size(size, height, width, images)
    settings = RunSettings(seed, steps, requested, guidance_scale, negative_prompt, conditioning)
    return sample_prompt(
        backbone, prompt, selection, sinks, settings, features=features, want_clip=want_clip, on_step=on_step
    )


def sample_prompt(
    backbone: Backbone,
    prompt: str | None,
    selection: Selection,
    sinks: Sink | Iterable[Sink],
    settings: RunSettings,
    *,
    features: bool = False,
    want_clip: bool = True,
    on_step: OnStep | None = None,
) -> Clip | None:
    """Run :func:`run_prompt` with settings as one value."""
    steps = settings.steps
    total = steps if want_clip else 1 + _steps(selection, steps)[-1]
    probe = Probe(backbone, selection, sinks, steps=steps, features=features)
    backbone.check_ready()
    arguments = backbone.arguments(prompt, settings)
    _check_branches(backbone, selection, arguments)
    _check_steps(backbone, selection, arguments)
    with probe:
        try:
            clip = backbone.call_pipeline(arguments, prompt=prompt, on_step=_until(total, on_step, want_clip))
        except EndRun:
            return None
    return clip


def _until(total: int, on_step: OnStep | None, want_clip: bool) -> Callable[[int, int], None]:
    def after(done: int, steps: int) -> None:
        if on_step is not None:
            on_step(done, total)
        if done == total and not want_clip:
            raise EndRun

    return after


def _check_branches(backbone: Backbone, selection: Selection, arguments: Mapping[str, Any]) -> None:
    if "uncond" in selection.branches and not backbone.wants_guidance(arguments):
        raise InvalidInputError(
            "branch 'uncond' was selected, but this run has no classifier-free guidance, so only 'cond' exists.",
            remedy=backbone.guidance_remedy,
        )


def _check_steps(backbone: Backbone, selection: Selection, arguments: Mapping[str, Any]) -> None:
    first, steps = backbone.first_step(arguments), int(arguments["num_inference_steps"])
    before = [step for step in _steps(selection, steps) if step < first]
    if before and selection.steps != "all":
        raise InvalidInputError(
            f"step {before[0]} was selected, but this run begins at step {first} of {steps}: its strength leaves the "
            f"steps before out. Select steps from {first} on, or pass strength=1 in the conditioning."
        )
