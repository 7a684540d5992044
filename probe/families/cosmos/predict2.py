"""Cosmos Predict 2 from an image or a clip: a rectified flow, sampled at noise levels of any size.

The sampler's latents are x = clean + sigma noise; the transformer is given x / (1 + sigma) and t = sigma / (1 +
sigma), so that what latents are here is (1 - t) clean + t noise, and the prediction is a flow's velocity.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probe.backbones.geometry import Size
from probe.backbones.schedule import Schedule
from probe.families.cosmos.shared import Cosmos, current_sigma
from probe.families.registry import register_family


@register_family
class Cosmos2(Cosmos):
    """A Cosmos Predict 2 pipeline that makes clips."""

    family = "Cosmos 2"
    pipelines = ("Cosmos2VideoToWorldPipeline",)
    image_pipelines = ("Cosmos2VideoToWorldPipeline",)
    fps = 16.0

    def set_timesteps(self, scheduler: Any, steps: int, size: Size) -> None:
        """Set a scheduler up as the pipeline does, whose last noise level is the smallest one."""
        scheduler.set_timesteps(sigmas=torch.linspace(0, 1, steps, dtype=torch.float64))
        if scheduler.config.final_sigmas_type == "sigma_min":
            scheduler.sigmas[-1] = scheduler.sigmas[-2]

    def schedule_of(self, scheduler: Any) -> Schedule:
        """Return the noise levels of what the transformer is shown, and the timesteps it is given."""
        sigmas = scheduler.sigmas.double()
        noise = tuple(float(share) for share in sigmas / (sigmas + 1))
        timesteps = tuple(float(timestep) for timestep in scheduler.timesteps)
        return Schedule(timesteps, tuple(1 - share for share in noise), noise, "flow", timestep_inputs=noise[:-1])

    def in_sampler_layout(self, latents: Tensor, sampled: Tensor) -> Tensor:
        """Return latents as the scheduler steps them."""
        return latents.to(sampled.dtype) * (1 + current_sigma(self.pipeline.scheduler))

    def prediction_for_sampler(self, prediction: Tensor, shown: Tensor, edited: Tensor) -> Tensor:
        """Return the velocity for edited latents plus their change, as the pipeline adds it to those that it had."""
        return prediction + (edited - shown) * (1 + current_sigma(self.pipeline.scheduler))
