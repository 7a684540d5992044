"""LTX-Video, from text, from an image and from conditions: latents are packed as tokens of one latent cell each.

The noise levels of a run are shifted by the number of tokens, so a schedule belongs to a size. From an image, the first
latent frame is clean, and from conditions (images or videos at any frame) their tokens come before those of the video;
both tell the transformer a timestep for each token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule
from torch import Tensor

from probe.attention.position_sources import Replaced, RotaryModule
from probe.attention.positions import Positions
from probe.attention.token_order import TokenOrder
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.families.registry import register_family
from store.errors import UnsupportedBackboneError
from store.layout import TokenLayout

_ROTARY = RotaryModule(
    "rope",
    lambda denoiser, call: (
        call["hidden_states"],
        call.get("num_frames"),
        call.get("height"),
        call.get("width"),
        call.get("rope_interpolation_scale"),
        call.get("video_coords"),
    ),
    lambda table: table[0],  # the same for the whole batch
)


@register_family
class LTXVideo(Backbone):
    """An LTX-Video pipeline; classifier-free guidance is one call with batch [uncond, cond].

    Latents here are (batch, channel, frame, y, x); the pipeline holds them packed, (batch, token, channel).
    """

    family = "LTX-Video"
    pipelines: ClassVar[tuple[str, ...]] = ("LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline")
    image_pipelines: ClassVar[tuple[str, ...]] = ("LTXImageToVideoPipeline",)
    transformers: ClassVar[tuple[str, ...]] = ("LTXVideoTransformer3DModel",)
    attention_paths = ("transformer_blocks.*.attn1",)
    guidance = "batch"
    text_position: ClassVar[Literal["first", "last"] | None] = None
    shifts_by_size = True
    fps = 25.0

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        config = denoiser.config
        return config.patch_size_t, config.patch_size, config.patch_size

    @property
    def strides(self) -> tuple[int, int]:
        """Images per latent frame after the first, and pixels per latent cell."""
        pipeline = self.pipeline
        return int(pipeline.vae_temporal_compression_ratio), int(pipeline.vae_spatial_compression_ratio)

    @property
    def pixel_steps(self) -> tuple[int, int]:
        """Whole cells, and the multiples of 32 that the pipeline takes."""
        rows, columns = self.geometry.cell_pixels
        return math.lcm(rows, 32), math.lcm(columns, 32)

    @classmethod
    def grid_of_call(cls, denoiser: Any, call: Mapping[str, Any]) -> tuple[int, int, int]:
        """Return the frames, rows and columns of the video tokens of a transformer call."""
        if call.get("video_coords") is not None:
            return _grid_of_coordinates(call["video_coords"][0])
        sizes = (call["num_frames"], call["height"], call["width"])
        frames, rows, columns = (size // n for size, n in zip(sizes, cls.patch_of(denoiser), strict=True))
        return frames, rows, columns

    def order_of_tokens(self, call: Mapping[str, Any], layout: TokenLayout, tokens: int, layer_name: str) -> TokenOrder:
        """Return the place of the video tokens: after those of conditions."""
        before = self._condition_tokens(call)
        joint = super().order_of_tokens(call, layout, tokens - before, layer_name)
        return TokenOrder(slice(before, before + joint.video.stop))

    def _condition_tokens(self, call: Mapping[str, Any]) -> int:
        frames, rows, columns = self.grid_of_call(self.denoisers[0], call)
        return int(call["hidden_states"].shape[1]) - frames * rows * columns

    # Packed latents -----------------------------------------------------------------------------------------------

    def _unpacked(self, tokens: Tensor, call: Mapping[str, Any]) -> Tensor:
        patch = self.patch
        sizes = [n * p for n, p in zip(self.grid_of_call(self.denoisers[0], call), patch, strict=True)]
        latents: Tensor = self.pipeline._unpack_latents(
            tokens[:, self._condition_tokens(call) :], *sizes, *patch[1::-1]
        )
        return latents

    def _packed(self, latents: Tensor) -> Tensor:
        tokens: Tensor = self.pipeline._pack_latents(latents, *self.patch[1::-1])
        return tokens

    def latents_of_call(self, denoiser: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the latents in a transformer call, unpacked, without the tokens of conditions."""
        return self._unpacked(call["hidden_states"], call)

    def call_with_latents(self, call: Mapping[str, Any], latents: Tensor) -> dict[str, Any]:
        """Return a transformer call with other latents; tokens of conditions stay as they are."""
        hidden, before = call["hidden_states"], self._condition_tokens(call)
        packed = self._packed(latents).to(hidden.device, hidden.dtype)
        tokens = torch.cat([hidden[:, :before], packed.expand(len(hidden), -1, -1)], dim=1)
        timestep = call["timestep"]
        if timestep.ndim == 2 and timestep.shape[1] > 1:
            tokens = torch.where((timestep < timestep.amax())[..., None], hidden, tokens)
        return {**call, "hidden_states": tokens}

    def timestep_of_call(self, call: Mapping[str, Any], timestep: float) -> Tensor:
        """Return the timestep; tokens that a condition holds at less noise keep theirs."""
        given: Tensor = call["timestep"]
        return torch.where(given < given.amax(), given.clamp(max=timestep), torch.full_like(given, timestep))

    def prediction_of(self, output: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the prediction, unpacked, without the tokens of conditions."""
        return self._unpacked(super().prediction_of(output, call), call)

    def output_with(self, output: Any, prediction: Tensor, call: Mapping[str, Any]) -> Any:
        """Return what a transformer returned with another prediction in it."""
        before = super().prediction_of(output, call)[:, : self._condition_tokens(call)]
        return super().output_with(output, torch.cat([before, self._packed(prediction)], dim=1), call)

    def in_sampler_layout(self, latents: Tensor, sampled: Tensor) -> Tensor:
        """Return latents as the scheduler has them: packed, or without the frame of the image."""
        if sampled.ndim == latents.ndim:
            return super().in_sampler_layout(latents, sampled)
        packed = self._packed(latents)
        if packed.shape[1] != sampled.shape[1]:
            raise UnsupportedBackboneError("latents cannot be edited while tokens of conditions precede them.")
        return packed

    # Positions, schedule, VAE -------------------------------------------------------------------------------------

    def positions(self, denoiser: Any, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
        """Return the rotary tables of the call, whose channels are those of all heads together."""
        self._check_no_conditions(call)
        return _ROTARY.read(denoiser, call, layout)

    def replaced_positions(
        self, denoiser: Any, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[Replaced]:
        """Return a context in which a call has other positions."""
        self._check_no_conditions(call)
        return _ROTARY.replace(denoiser, call, positions)

    def _check_no_conditions(self, call: Mapping[str, Any]) -> None:
        if self._condition_tokens(call):
            raise UnsupportedBackboneError(
                "positions cannot be replaced while tokens of conditions precede those of the video."
            )

    def set_timesteps(self, scheduler: Any, steps: int, size: Size) -> None:
        """Set a scheduler up as the pipeline does: shifted by the number of tokens, or linear, then quadratic."""
        if any(kind.__name__ == "LTXConditionPipeline" for kind in type(self.pipeline).__mro__):
            scheduler.set_timesteps(timesteps=[float(sigma) * 1000 for sigma in linear_quadratic_schedule(steps)])
            return
        config, (temporal, spatial) = scheduler.config, self.strides
        cells = ((size.images - 1) // temporal + 1) * (size.height // spatial) * (size.width // spatial)
        names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        limits = (config.get(name, value) for name, value in zip(names, (256, 4096, 0.5, 1.15), strict=True))
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=calculate_shift(cells, *limits))

    def scale_latents(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        scaled: Tensor = self.pipeline._normalize_latents(
            latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        return scaled

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        vae = self.pipeline.vae
        unscaled: Tensor = self.pipeline._denormalize_latents(
            latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        return unscaled

    def vae_decode(self, latents: Tensor) -> Tensor:
        """Return the video that the VAE makes of latents; some versions are given the remaining noise level, 0."""
        vae = self.pipeline.vae
        timestep = torch.zeros(len(latents)).to(latents) if vae.config.timestep_conditioning else None
        video: Tensor = vae.decode(latents, timestep, return_dict=False)[0]
        return video


def _grid_of_coordinates(coordinates: Tensor) -> tuple[int, int, int]:
    """Frames, rows and columns of the video tokens from the coordinates (axis, token) of all, theirs being the last."""
    rows, columns = (len(coordinates[axis].unique()) for axis in (1, 2))
    starts = coordinates[0, :: rows * columns]
    first = int((starts == 0).nonzero()[-1])  # where the video begins, after the conditions
    return len(starts) - first, rows, columns
