"""Objectives of the two groups of heads: single images of a clip, and a few of its frames at their places in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from generators.adapters.decoupled.losses import MotionLossPreset, implied_motion, motion_loss, training_weight
from generators.adapters.training.losses import denoising_loss
from generators.adapters.training.settings import Training
from generators.adapters.training.stages import PlainlyShown
from probe.attention.frame_positions import positions_at
from probe.attention.positions import AddedPositions, Positions
from probe.backbones.backbone import Backbone
from probe.run.forward import ForwardPass
from store.checks import integer, one_of
from store.clips.clip import Clip
from store.errors import ClipError, InvalidInputError, UnsupportedBackboneError

PositionsOf = Literal["adaptive", "plain", "random"]
MotionOf = Literal["prediction", "clean"]


class ImageObjective(PlainlyShown):
    """Denoising loss of one image of a clip, another at each step, shown as a separate clip (stage 2 of the paper).

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
    training : Training
    prompt : str or None
    conditioning : mapping, optional
    preset : "exact", "paper" or "code"
        Preset of the weight of a noise level.

    Raises
    ------
    InvalidInputError
        When the backbone takes no clip of one image.
    """

    second: ClassVar[Literal["tracking", "motion"]] = "motion"

    def __init__(
        self,
        backbone: Backbone,
        clip: Clip,
        training: Training,
        *,
        prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
        preset: MotionLossPreset = "exact",
    ) -> None:
        check_sizes(backbone)
        backbone.check_size(clip.height, clip.width, 1)
        self.backbone, self.training, self.preset = backbone, training, preset
        images = [images_of(clip, [number]) for number in range(len(clip))]
        self.clean = [backbone.encode(image) for image in images]
        shown = images if backbone.takes_image else images[:1]  # a model that animates an image is given each
        self._forwards = [forward_pass(backbone, image, prompt, conditioning) for image in shown]
        self.schedule = self._forwards[0].schedule

    def draw(self, step: int) -> tuple[int, int, Tensor]:
        """The image, the noise level and the noise of a training step: they depend on the seed and the step alone."""
        generator = torch.Generator().manual_seed((self.training.seed << 32) + step)
        level = int(torch.randint(len(self.schedule), (), generator=generator))
        image = int(torch.randint(len(self.clean), (), generator=generator))
        return image, level, torch.randn(self.clean[0].shape, generator=generator).to(self.clean[0])

    def losses(self, step: int) -> tuple[Tensor, Tensor, float]:
        """The denoising loss, nothing, and the scheduler's value, of a training step."""
        image, level, noise = self.draw(step)
        clean, forward = self.clean[image], self._forwards[image % len(self._forwards)]
        noised = self.schedule.noised(clean, noise, level)
        prediction = forward.predict(noised, level, branches=("cond",), capture=False)["cond"].float()
        weight = training_weight(self.schedule, level, self.preset)
        loss = weight * denoising_loss(self.schedule, clean, noise, prediction, level)
        return loss, torch.zeros_like(loss), self.schedule.timesteps[level]


@dataclass(frozen=True, kw_only=True)
class SparseSettings:
    """Frames that a :class:`SparseObjective` shows, and its motion loss.

    Parameters
    ----------
    sampled : int
        Number of latent frames that are shown, spread evenly over the clip.
    positions : "adaptive", "plain" or "random"
        Frame positions of the shown frames among the F of the clip: "adaptive" i F / ``sampled``, "plain" 0, 1, 2 and
        so on, "random" ascending positions anywhere in the clip, drawn again at each step.
    ends : bool
        Whether "adaptive" reaches the last frame: i (F - 1) / (``sampled`` - 1).
    motion_weight : float
        Weight of the motion loss.
    motion_of : "prediction" or "clean"
        Change over frames that the loss compares: that of the model's prediction and its target, or that of the clean
        latents that the prediction implies and the true ones. The target of a noisy state changes mostly by its noise.
    preset : "exact", "paper" or "code"
        Preset of the motion loss and the weight of a noise level.

    Raises
    ------
    InvalidInputError
        For an unknown value of ``positions``.
    """

    sampled: int
    positions: PositionsOf = "adaptive"
    ends: bool = False
    motion_weight: float = 1.0
    motion_of: MotionOf = "prediction"
    preset: MotionLossPreset = "exact"

    def __post_init__(self) -> None:
        one_of(self.positions, ("adaptive", "plain", "random"), "positions")


class SparseObjective:
    """Denoising and motion loss of a few frames of a clip at their places in time (stage 3 of the paper).

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
    training : Training
    settings : SparseSettings
    prompt, conditioning
        As of :class:`ImageObjective`.

    Raises
    ------
    InvalidInputError
        For more frames than the clip has, fewer than two, or a number that the backbone does not take.
    UnsupportedBackboneError
        If the rates at which positions rotate are not known, or a learned table holds for one size only.
    """

    second: ClassVar[Literal["tracking", "motion"]] = "motion"

    def __init__(
        self,
        backbone: Backbone,
        clip: Clip,
        training: Training,
        settings: SparseSettings,
        *,
        prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
    ) -> None:
        self.backbone, self.training, self.settings = backbone, training, settings
        self.frames = backbone.layout(clip.height, clip.width, len(clip)).frames
        part = images_of(clip, sampled_images(backbone, clip, settings.sampled))
        self.clean = backbone.encode(part)
        self._forward = forward_pass(backbone, part, prompt, conditioning)
        self.schedule = self._forward.schedule
        self._whole: Positions | None = None
        if settings.positions != "plain" and settings.sampled < self.frames:
            check_sizes(backbone)
            self._whole = forward_pass(backbone, clip, prompt, conditioning).positions()
            if backbone.rotary is None and not isinstance(self._whole, AddedPositions):
                raise UnsupportedBackboneError(
                    f"the rates at which positions of the {backbone.family} family turn are not known, so frames "
                    "cannot lie between two others. Choose positions='plain'."
                )

    def places(self, step: int) -> tuple[float, ...]:
        """The frame positions that are shown in a training step."""
        if self.settings.positions == "random":
            rng = np.random.default_rng([self.training.seed, step, self.settings.sampled])
            return tuple(np.sort(rng.uniform(0, self.frames - 1, self.settings.sampled)).tolist())
        if self.settings.positions == "plain":
            return tuple(float(number) for number in range(self.settings.sampled))
        return adaptive_positions(self.frames, self.settings.sampled, ends=self.settings.ends)

    def shown(self, step: int) -> AbstractContextManager[None]:
        """Return the context in which the model sees these positions."""
        if self._whole is None:
            return PlainlyShown().shown(step)
        return self._forward.at_positions(positions_at(self._whole, self.places(step)))

    def draw(self, step: int) -> tuple[int, Tensor]:
        """The noise level and the noise of a training step: they depend on the seed and the step alone."""
        generator = torch.Generator().manual_seed((self.training.seed << 32) + step)
        level = int(torch.randint(len(self.schedule), (), generator=generator))
        return level, torch.randn(self.clean.shape, generator=generator).to(self.clean)

    def losses(self, step: int) -> tuple[Tensor, Tensor, float]:
        """The denoising loss, the weighted motion loss, and the scheduler's value, of a training step."""
        level, noise = self.draw(step)
        noised = self.schedule.noised(self.clean, noise, level)
        prediction = self._forward.predict(noised, level, branches=("cond",), capture=False)["cond"].float()
        weight = training_weight(self.schedule, level, self.settings.preset)
        denoising = weight * denoising_loss(self.schedule, self.clean, noise, prediction, level)
        timestep = self.schedule.timesteps[level]
        if not self.settings.motion_weight:
            return denoising, torch.zeros_like(denoising), timestep
        pair = prediction, self.schedule.target(self.clean, noise, level)
        if self.settings.motion_of == "clean":
            pair = implied_motion(self.schedule, self.clean, noise, prediction, level)
        motion = motion_loss(*pair, frame_axis=self.backbone.frame_axis, preset=self.settings.preset)
        return denoising, self.settings.motion_weight * weight * motion, timestep


def adaptive_positions(frames: int, sampled: int, *, ends: bool = False) -> tuple[float, ...]:
    """Return the frame positions of Follow-Your-Motion's adaptive RoPE: F/2 + F/Fs (i - Fs/2), i = 0 to Fs - 1.

    Parameters
    ----------
    frames : int
        F, of the clip.
    sampled : int
        Fs, at most F.
    ends : bool
        Reach the last frame, which the published positions do not: even from 0 to F - 1.

    Raises
    ------
    InvalidInputError
        For more sampled frames than there are, or none.

    Examples
    --------
    >>> [round(position, 2) for position in adaptive_positions(21, 5)]
    [0.0, 4.2, 8.4, 12.6, 16.8]
    >>> adaptive_positions(21, 5, ends=True)
    (0.0, 5.0, 10.0, 15.0, 20.0)
    """
    check_sampled(sampled, frames, min_frames=1)
    if ends:
        return tuple(np.linspace(0, frames - 1, sampled).tolist())
    return tuple(frames / 2 + frames / sampled * (number - sampled / 2) for number in range(sampled))


def check_sampled(sampled: int, frames: int, *, min_frames: int = 2) -> None:
    """Raise for more sampled frames than there are, or too few.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_sampled(9, 6)
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: 9 frames cannot be sampled of the 6 latent frames of the clip. Choose 2 to 6.
    """
    integer(sampled, "sampled", min_value=min_frames)
    if sampled > frames:
        raise InvalidInputError(
            f"{sampled} frames cannot be sampled of the {frames} latent frames of the clip. Choose {min_frames} to "
            f"{frames}."
        )


def default_sampled(backbone: Backbone, frames: int) -> int:
    """Return how many latent frames are sampled by default: 5 of 21, at least 3, a number that the model takes.

    Examples
    --------
    >>> from probe import load_backbone
    >>> default_sampled(load_backbone("mini"), 6)
    3
    """
    wanted = max(3, round(frames * 5 / 21))
    for count in range(min(wanted, frames), frames + 1):
        images = _images_for(backbone, count)
        if images == backbone.nearest_images(images):
            return count
    return frames


def sampled_images(backbone: Backbone, clip: Clip, sampled: int) -> list[int]:
    """Return the images of a clip that make a number of latent frames, evenly from the first to the last.

    Raises
    ------
    InvalidInputError
        As :func:`check_sampled`, and for a number of frames that the backbone does not take.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store import make_scene
    >>> sampled_images(load_backbone("mini"), make_scene(3), 3)
    [0, 2, 5]
    """
    frames = backbone.layout(clip.height, clip.width, len(clip)).frames
    check_sampled(sampled, frames)
    if sampled == frames:
        return list(range(len(clip)))
    images = _images_for(backbone, sampled)
    if images != backbone.nearest_images(images) or images < 2:
        raise InvalidInputError(
            f"{backbone.name} does not take a clip of {sampled} latent frames, which are {images} images: it takes "
            f"{backbone.images_rule}. Sample {default_sampled(backbone, frames)} frames."
        )
    return np.linspace(0, len(clip) - 1, images).round().astype(int).tolist()


def _images_for(backbone: Backbone, frames: int) -> int:
    return backbone.images_of_latents(frames * backbone.patch[0])


def images_of(clip: Clip, numbers: Sequence[int]) -> Clip:
    """Return some images of a clip as a clip without tracks.

    Raises
    ------
    ClipError
        For an image that it does not have.
    """
    if not all(0 <= number < len(clip) for number in numbers):
        raise ClipError(f"the clip has images 0 to {len(clip) - 1}; got {list(numbers)}.")
    return replace(clip, images=clip.images[list(numbers)], tracks=None, visibility=None, masks=None)


def forward_pass(
    backbone: Backbone, clip: Clip, prompt: str | None, conditioning: Mapping[str, Any] | None
) -> ForwardPass:
    """Return a pass of a clip at any training step."""
    given = {**backbone.conditioning_of(clip), **(conditioning or {})}
    steps = int(backbone.pipeline.scheduler.config.num_train_timesteps)
    size: dict[str, Any] = {"height": clip.height, "width": clip.width, "images": len(clip)}
    return ForwardPass(backbone, prompt, steps=steps, conditioning=given, **size)


def check_sizes(backbone: Backbone) -> None:
    """Raise for a backbone whose positions are a learned table of one size.

    Raises
    ------
    UnsupportedBackboneError
    """
    for denoiser in backbone.denoisers:
        if getattr(denoiser.config, "use_learned_positional_embeddings", False):
            raise UnsupportedBackboneError(
                f"{backbone.name} has a learned table of positions for clips of one length, so it can be shown neither "
                "single images nor sampled frames. Choose another method, such as DeT."
            )
