"""Mochi: text and video attend together, text last, with a separate attention call for each batch element.

Timesteps count upwards: at 0 there is noise alone, at 1000 the clip. The model predicts the velocity towards the clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
from torch import Tensor

from probe.attention.position_sources import Replaced, RotaryModule
from probe.attention.positions import Positions
from probe.backbones.backbone import Backbone
from probe.backbones.fetched import fetched, valid_tokens
from probe.backbones.geometry import Size
from probe.families.registry import register_family
from store.layout import TokenLayout


def _rotary_arguments(denoiser: Any, call: Mapping[str, Any]) -> tuple[Any, ...]:
    *_, frames, height, width = call["hidden_states"].shape
    patch = denoiser.config.patch_size
    grid = (frames, height // patch, width // patch)
    return denoiser.pos_frequencies, *grid, call["hidden_states"].device, torch.float32


# a table (token, head, pair), which every channel of a pair is turned by
_ROTARY = RotaryModule("rope", _rotary_arguments, lambda table: table.repeat_interleave(2, dim=-1).flatten(1))


@register_family
class Mochi(Backbone):
    """A Mochi pipeline; classifier-free guidance is one call with batch [uncond, cond].

    Latents are (batch, channel, frame, y, x), normalised by channel. Only the tokens of the prompt itself take part in
    the attention, so a capture holds no padding.
    """

    family = "Mochi"
    pipelines = ("MochiPipeline",)
    transformers = ("MochiTransformer3DModel",)
    attention_paths = ("transformer_blocks.*.attn1",)
    guidance = "batch"
    text_position: ClassVar[Literal["first", "last"] | None] = "last"
    fps = 30.0

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        return 1, denoiser.config.patch_size, denoiser.config.patch_size

    @property
    def strides(self) -> tuple[int, int]:
        """Images per latent frame after the first, and pixels per latent cell."""
        return int(self.pipeline.vae_temporal_scale_factor), int(self.pipeline.vae_spatial_scale_factor)

    @property
    def default_size(self) -> Size:
        """The size that the pipeline generates when none is asked for."""
        return Size(int(self.pipeline.default_height), int(self.pipeline.default_width), 19)

    def text_tokens(self, prompt: str | None = None) -> int:
        """Return the text tokens of a prompt, or without one the 256 that a prompt is cut to."""
        tokenizer, most = self.pipeline.tokenizer, 256
        return most if prompt is None or tokenizer is None else min(most, len(tokenizer(prompt).input_ids))

    def text_tokens_of_call(self, call: Mapping[str, Any]) -> list[int]:
        """Return the text tokens of each batch element: those that its mask keeps."""
        return list(fetched(call["encoder_attention_mask"], valid_tokens))

    def positions(self, denoiser: Any, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
        """Return the rotary tables of the call, whose channels are those of all heads together."""
        return _ROTARY.read(denoiser, call, layout)

    def replaced_positions(
        self, denoiser: Any, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[Replaced]:
        """Return a context in which a call has other positions."""
        return _ROTARY.replace(denoiser, call, positions)

    def set_timesteps(self, scheduler: Any, steps: int, size: Size) -> None:
        """Set a scheduler up as the pipeline does: linear at first, then quadratic."""
        scheduler.set_timesteps(sigmas=np.array(linear_quadratic_schedule(steps, 0.025)))

    def scale_latents(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        return (latents - mean) * self.pipeline.vae.config.scaling_factor / deviation

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        mean, deviation = self._statistics(latents)
        return latents * deviation / self.pipeline.vae.config.scaling_factor + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.pipeline.vae.config
        if config.latents_mean is None or config.latents_std is None:
            return torch.zeros(1).to(like), torch.ones(1).to(like)
        mean, deviation = (torch.tensor(values).to(like) for values in (config.latents_mean, config.latents_std))
        return mean.view(1, -1, 1, 1, 1), deviation.view(1, -1, 1, 1, 1)
