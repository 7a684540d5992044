"""Extension points of a backbone: everything that one family of video transformers states about itself.

A new family subclasses :class:`probe.Backbone`, overrides what differs here, and is made known with
:func:`probe.families.register_family`. All other code asks these members and nothing else about a family.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from probe.backbones.family_calls import FamilyCalls
from probe.backbones.family_pipeline import FamilyPipeline
from probe.backbones.geometry import Size
from probe.backbones.schedule import Schedule


class Family(FamilyCalls, FamilyPipeline):
    """Statements of a family. Members without a default are abstract or class variables without a value.

    Layers and tokens are in :class:`probe.backbones.family_tokens.FamilyTokens`, calls of the transformer in
    :class:`probe.backbones.family_calls.FamilyCalls`, calls of the pipeline in
    :class:`probe.backbones.family_pipeline.FamilyPipeline`; the scheduler and the VAE are here.

    Names. A *call* is the mapping of keyword arguments of one call of the transformer. *Latents* are those of
    :meth:`probe.Backbone.encode`: five axes, channels on ``geometry.channel_axis``, scaled as the sampler has them.
    """

    fps: float = 16.0
    """Images per second of what the model was trained on."""
    images_at_once: ClassVar[int | None] = None
    """Images that a VAE of images decodes at a time; None for one of clips."""
    shifts_by_size: ClassVar[bool] = False
    """Tell whether the noise levels of a run depend on the size of the clip."""

    def set_timesteps(self, scheduler: Any, steps: int, size: Size) -> None:
        """Set a scheduler up for a run as the pipeline does; some shift the noise levels by the number of tokens."""
        scheduler.set_timesteps(steps)

    def schedule_of(self, scheduler: Any) -> Schedule:
        """Return the noise levels of latents as the transformer is shown them, from a scheduler that is set up.

        Override it where they are not those that the scheduler steps.

        Raises
        ------
        UnsupportedBackboneError
            When the noise levels are unknown.
        """
        return Schedule.of(scheduler)

    @abstractmethod
    def scale_latents(self, latents: Tensor) -> Tensor:
        """Return the sampler's latents for what the VAE encodes, (batch, channel, frame, y, x)."""

    @abstractmethod
    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        """Return what the VAE decodes, (batch, channel, frame, y, x), for the sampler's latents."""

    @property
    def vae_dtype(self) -> torch.dtype:
        """Data type of the VAE."""
        return self.pipeline.vae.dtype

    def vae_encode(self, video: Tensor) -> Tensor:
        """Return what the VAE makes of a video (1, 3, image, y, x) in -1 to 1: the mode of its posterior."""
        latents: Tensor = self.pipeline.vae.encode(video).latent_dist.mode()
        return latents

    def vae_decode(self, latents: Tensor) -> Tensor:
        """Return the video (1, 3, image, y, x) in -1 to 1 that the VAE makes of latents."""
        video: Tensor = self.pipeline.vae.decode(latents, return_dict=False)[0]
        return video
