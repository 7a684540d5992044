"""Fitting an adapter to the motion of one clip: draw a step and noise, predict, and lower the losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generators.adapters.adapter import MotionAdapter
from generators.adapters.latent_tracks import LatentTracks
from generators.adapters.motion_tracks import MotionTracks, tracks_of
from generators.adapters.training.checkpoint import TrainingState
from generators.adapters.training.losses import denoising_loss, point_tracking_loss, tracking_weight
from generators.adapters.training.memory import encoders_set_aside
from generators.adapters.training.settings import Losses, Training
from generators.adapters.training.stages import PlainlyShown, Stage
from generators.errors import TrainingDivergedError
from generators.sampling.freezing import frozen_weights, gradient_checkpointing
from probe.backbones.backbone import Backbone
from probe.run.forward import ForwardPass
from store.arguments import checked
from store.clips.clip import Clip
from store.errors import ClipError, NotFiniteError

OnTrainingStep = Callable[[Losses], object]


class Objective(PlainlyShown):
    """The losses of a clip at any training step.

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
        A clip of the size that the backbone is trained at.
    training : Training
    tracks : MotionTracks, optional
        Needed where the tracking loss counts.
    prompt : str or None
        What the model reads; None if ``conditioning`` has embeddings.
    conditioning : mapping, optional
        Further keyword arguments of the pipeline.
    """

    def __init__(
        self,
        backbone: Backbone,
        clip: Clip,
        training: Training,
        *,
        tracks: MotionTracks | None = None,
        prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
    ) -> None:
        self.backbone, self.training = backbone, training
        given = {**backbone.conditioning_of(clip), **(conditioning or {})}
        steps = int(backbone.pipeline.scheduler.config.num_train_timesteps)
        size: dict[str, Any] = {"height": clip.height, "width": clip.width, "images": len(clip)}
        self._forward = ForwardPass(backbone, prompt, steps=steps, conditioning=given, **size)
        self.schedule = self._forward.schedule
        self.clean = backbone.encode(clip)
        self.tracks: LatentTracks | None = None
        if training.tracking_weight and tracks is not None:
            self.tracks = tracks.in_latents(backbone, self.clean, clip, training.preset)

    def draw(self, step: int) -> tuple[int, Tensor]:
        """The noise level and the noise of a training step: they depend on the seed and the step alone."""
        generator = torch.Generator().manual_seed((self.training.seed << 32) + step)
        level = int(torch.randint(len(self.schedule), (), generator=generator))
        return level, torch.randn(self.clean.shape, generator=generator).to(self.clean)

    def losses(self, step: int) -> tuple[Tensor, Tensor, float]:
        """The denoising loss, the weighted tracking loss, and the scheduler's value, of a training step."""
        level, noise = self.draw(step)
        noised = self.schedule.noised(self.clean, noise, level)
        prediction = self._forward.predict(noised, level, branches=("cond",), capture=False)["cond"].float()
        preset = self.training.preset
        denoising = denoising_loss(self.schedule, self.clean, noise, prediction, level, preset=preset)
        timestep = self.schedule.timesteps[level]
        weight = self.training.tracking_weight * tracking_weight(self.schedule, level, preset)
        if self.tracks is None or not weight:
            return denoising, torch.zeros_like(denoising), timestep
        implied = self.schedule.clean(noised, prediction, level)
        axis = self.backbone.frame_axis
        return denoising, weight * point_tracking_loss(implied, self.tracks, frame_axis=axis, preset=preset), timestep


@checked
def train_adapter(
    adapter: MotionAdapter,
    backbone: Backbone,
    clip: Clip,
    training: Training | None = None,
    *,
    tracks: MotionTracks | None = None,
    prompt: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_step: OnTrainingStep | None = None,
) -> list[Losses]:
    """Fit an adapter to a clip; its parameters are changed in place, the backbone is left as it was.

    Parameters
    ----------
    adapter : MotionAdapter
        Made for ``backbone``.
    backbone : Backbone
    clip : Clip
        A clip of a size that the backbone takes, two images at least.
    training : Training, optional
    tracks : MotionTracks, optional
        Tracks of the tracking loss; by default :func:`generators.adapters.motion_tracks.tracks_of` of the clip.
    prompt : str, optional
        The caption that the model reads while it learns; by default the clip's own.
    conditioning : mapping, optional
        Further keyword arguments of the pipeline, such as ``prompt_embeds`` where it has no text encoder.
    checkpoint : path, optional
        Where the state is kept when the training is interrupted or ends with an error; removed when it is done.
    resume : bool
        Go on from ``checkpoint`` if there is one; the numbers are those of an uninterrupted training.
    on_step : callable, optional
        Called with the :class:`Losses` of each step. What it raises ends the training.

    Returns
    -------
    list of Losses, one for each step

    Raises
    ------
    InvalidInputError, ClipError
        Before anything is trained: a clip of one image or of a size that the backbone does not take, an adapter of
        another backbone, a checkpoint of other settings.
    TrainingDivergedError
        When a loss or a gradient is not finite; names the step, and the adapter then has the last good parameters.
    KeyboardInterrupt
        As it came, after the checkpoint was written.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store import make_scene
    >>> from generators.adapters.temporal_kernel import TemporalKernel
    >>> backbone = load_backbone("mini")
    >>> adapter = TemporalKernel(backbone, width=4, layers=[0])
    >>> scene = make_scene(3, prompt="a red disc moves left over blue stripes")
    >>> len(train_adapter(adapter, backbone, scene, Training(steps=1)))
    1
    """
    training = training or Training()
    adapter.check(backbone)
    check_moving(clip)
    backbone.check_size(clip.height, clip.width, len(clip))
    backbone.check_ready()
    if prompt is None and backbone.embeddings not in (conditioning or {}):
        prompt = backbone.caption_of(clip) or ""
    if training.tracking_weight and tracks is None:
        tracks = tracks_of(clip, backbone, points=training.points, seed=training.seed, conditioning=conditioning)
    objective = Objective(backbone, clip, training, tracks=tracks, prompt=prompt, conditioning=conditioning)
    stage = Stage(training, tuple(adapter.parameters()), objective)
    return run_stages(adapter, backbone, [stage], checkpoint=checkpoint, resume=resume, on_step=on_step)


def run_stages(
    adapter: MotionAdapter,
    backbone: Backbone,
    stages: Sequence[Stage],
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_step: OnTrainingStep | None = None,
) -> list[Losses]:
    """Train an adapter in stages, one after the other, with a single checkpoint.

    Parameters
    ----------
    adapter : MotionAdapter
        Attached as a whole in every stage.
    backbone : Backbone
    stages : sequence of Stage
        The precision and the gradient checkpointing of the first hold for all.
    checkpoint, resume, on_step
        As of :func:`train_adapter`; steps are counted through all stages.

    Raises
    ------
    As :func:`train_adapter`.
    """
    state = TrainingState(adapter, stages, checkpoint, resume=resume)
    with _ready(backbone, adapter, stages[0].training), state.kept():
        while state.step < state.steps:
            losses = _train_step(adapter, backbone, state)
            if on_step is not None:
                on_step(losses)
    state.remove()
    return state.losses


def check_moving(clip: Clip) -> None:
    """Raise if nothing moves in a clip.

    Raises
    ------
    ClipError
        For one image, or images that are all alike.

    Examples
    --------
    >>> import numpy as np
    >>> check_moving(Clip(np.zeros((4, 8, 8, 3), np.uint8), fps=8))
    Traceback (most recent call last):
    ...
    store.errors.ClipError: the 4 images of the clip are all alike, so there is no motion to learn. Give another clip.
    """
    if len(clip) < 2:
        raise ClipError("the clip has 1 image, so there is no motion to learn. Give it at least 2.")
    if (clip.images == clip.images[:1]).all():
        raise ClipError(
            f"the {len(clip)} images of the clip are all alike, so there is no motion to learn. Give another clip."
        )


def _train_step(adapter: MotionAdapter, backbone: Backbone, state: TrainingState) -> Losses:
    step, (number, local) = state.step, state.place
    stage, objective = state.stages[number], state.stages[number].objective
    adapter.requires_grad_(False)
    for parameter in stage.parameters:
        parameter.requires_grad_(True)
    try:
        with objective.shown(local), adapter.attached(backbone), state.precision.autocast():
            denoising, second, timestep = objective.losses(local)
            total = denoising + second
            # fetched together: each fetch waits for the device
            values = torch.stack([each.detach().float() for each in (total, denoising, second)]).tolist()
            _check(values[0], "the loss is", step, timestep)
            state.precision.backward(total)
        norm = float(state.clip_gradients())
        if not state.precision.retries:
            _check(norm, "the gradients are", step, timestep)
    except NotFiniteError as error:
        state.restore_last_good()
        raise TrainingDivergedError(_diverged(error, step, state.steps), step=step, adapter=adapter) from error
    losses = Losses(step, timestep, values[0], values[1], **{objective.second: values[2]})
    state.update(losses)
    return losses


def _check(value: float, what: str, step: int, timestep: float) -> None:
    if not math.isfinite(value):
        raise NotFiniteError(f"{what} not finite at timestep {timestep:g}.", step=step)


def _diverged(error: NotFiniteError, step: int, steps: int) -> str:
    return (
        f"the training diverged at step {step} of {steps}: {error.message} The adapter has its last good parameters. "
        "Lower the learning rate, or warm it up."
    )


@contextmanager
def _ready(backbone: Backbone, adapter: MotionAdapter, training: Training) -> Iterator[None]:
    """Gradients for the adapter alone, checkpointing where it is wanted, and encoders out of the way."""
    with ExitStack() as stack:
        stack.enter_context(encoders_set_aside(backbone))
        for denoiser in backbone.denoisers:
            stack.enter_context(frozen_weights(denoiser))
            if training.gradient_checkpointing:
                stack.enter_context(gradient_checkpointing(denoiser))
        stack.callback(adapter.requires_grad_, False)
        stack.callback(adapter.zero_grad)
        stack.enter_context(torch.enable_grad())
        yield


__all__ = ["Losses", "Objective", "OnTrainingStep", "Training", "run_stages", "train_adapter"]
