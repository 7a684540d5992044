"""Cosmos Predict 1, from text and from an image or a clip: noise levels as of Karras et al. (EDM, NeurIPS 2022).

The sampler's latents x have the clean ones at a standard deviation d = ``sigma_data`` and noise of any size on top; the
transformer is shown x / sqrt(sigma^2 + d^2). That is what latents are here: signal d / sqrt(sigma^2 + d^2) and noise
sigma / sqrt(sigma^2 + d^2), for which EDM's preconditioned prediction is a v-prediction or its negative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from probe.backbones.geometry import Size
from probe.backbones.schedule import Schedule
from probe.families.cosmos.shared import Cosmos, current_sigma
from probe.families.registry import register_family
from store.errors import InvalidInputError


@register_family
class Cosmos1(Cosmos):
    """A Cosmos Predict 1 pipeline."""

    family = "Cosmos 1"
    pipelines = ("CosmosTextToWorldPipeline", "CosmosVideoToWorldPipeline")
    transformers = ("CosmosTransformer3DModel",)
    image_pipelines = ("CosmosVideoToWorldPipeline",)
    fps = 30.0

    def check_size(self, height: int, width: int, images: int) -> None:
        """Raise for a size that the model does not take, or that its tables do not reach: positions, means of latents.

        Raises
        ------
        InvalidInputError
        """
        super().check_size(height, width, images)
        config: Any = self.denoisers[0].config
        layout, most = self.geometry.layout(height, width, images, 0), [math.inf] * 3
        if config.extra_pos_embed_type:
            most = [size // patch for size, patch in zip(config.max_size, config.patch_size, strict=True)]
        means = self.pipeline.vae.config.latents_mean
        if means is not None:
            most[0] = min(most[0], float(len(means) // config.out_channels))
        cells = (layout.frames, layout.height, layout.width)
        if any(count > end for count, end in zip(cells, most, strict=True)):
            raise InvalidInputError(
                f"{self.name} does not take {Size(height, width, images)}: its learned positions (max_size) and the "
                f"means of its latents end at {most[0]:g} frames of {most[1]:g} x {most[2]:g} cells; these are "
                f"{layout.frames} frames of {layout.height} x {layout.width} cells. Pass a smaller size."
            )

    @property
    def _sigma_data(self) -> float:
        return float(self.pipeline.scheduler.config.sigma_data)

    def schedule_of(self, scheduler: Any) -> Schedule:
        """Return the noise levels of what the transformer is shown, and its timesteps: their logarithms."""
        data, least = self._sigma_data, float(scheduler.config.sigma_min)
        sigmas = [float(sigma) for sigma in scheduler.sigmas]
        sizes = [math.hypot(sigma, data) for sigma in sigmas]
        return Schedule(
            tuple(float(timestep) for timestep in scheduler.timesteps),
            tuple(data / size for size in sizes),
            tuple(sigma / size for sigma, size in zip(sigmas, sizes, strict=True)),
            "v_prediction",
            clean_timestep=0.25 * math.log(least),
        )

    @property
    def _sign(self) -> int:
        return 1 if self.pipeline.scheduler.config.prediction_type == "v_prediction" else -1

    def prediction_of(self, output: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the prediction as v."""
        return self._sign * super().prediction_of(output, call)

    def output_with(self, output: Any, prediction: Tensor, call: Mapping[str, Any]) -> Any:
        """Return what a transformer returned with another v in it."""
        return super().output_with(output, self._sign * prediction, call)

    def in_sampler_layout(self, latents: Tensor, sampled: Tensor) -> Tensor:
        """Return latents as the scheduler steps them: at the size of the noise, for both branches together."""
        size = math.hypot(current_sigma(self.pipeline.scheduler), self._sigma_data)
        return (latents.to(sampled.dtype) * size).expand_as(sampled)
