"""Wan 2.1 and 2.2 text-to-video: video tokens attend among themselves, text in a cross-attention of its own.

Wan 2.2 14B has two transformers of the same shape, one for the noisy steps and one for the rest. A layer is then the
same block of whichever of the two denoises at that step, so that every step has every layer; the name of a capture
says which one ran (``blocks.3.attn1`` or ``transformer_2.blocks.3.attn1``).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from probe.attention.position_sources import Replaced, RotaryModule
from probe.attention.positions import Positions
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.backbones.rotary import RotaryAxes
from probe.families.registry import register_family
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout

_ROTARY = RotaryModule("rope", lambda call: (call["hidden_states"],))


@register_family
class Wan(Backbone):
    """A Wan pipeline; classifier-free guidance is two calls, the conditional one first.

    Latents are (batch, channel, frame, y, x), normalised by channel.
    """

    family = "Wan"
    pipelines = ("WanPipeline",)
    transformers = ("WanTransformer3DModel",)
    attention_paths = ("blocks.*.attn1",)
    guidance = "calls"
    text_position: ClassVar[Literal["first", "last"] | None] = None
    fps = 16.0

    def __init__(self, pipeline: Any, *, name: str | None = None, revision: str | None = None) -> None:
        super().__init__(pipeline, name=name, revision=revision)
        counts = [len(modules) for modules in self.modules]
        if len(set(counts)) > 1:
            raise UnsupportedBackboneError(
                f"{self.name} has two transformers of {counts[0]} and {counts[1]} layers, so a layer number would mean "
                "different things at different steps. Only two transformers of the same depth can be probed."
            )

    @property
    def denoisers(self) -> tuple[nn.Module, ...]:
        """The transformer for most noise and, in Wan 2.2 14B, the one for little noise."""
        both = (self.pipeline.transformer, self.pipeline.transformer_2)
        return tuple(transformer for transformer in both if transformer is not None)

    def denoiser_at(self, timestep: float) -> nn.Module:
        """The transformer that denoises at a timestep."""
        ratio = self.pipeline.config.boundary_ratio
        if ratio is None or timestep >= ratio * self.pipeline.scheduler.config.num_train_timesteps:
            return self.denoisers[0]
        return self.denoisers[-1]

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        frames, height, width = denoiser.config.patch_size
        return frames, height, width

    @property
    def rotary(self) -> RotaryAxes:
        """A third of the channels turns by row, a third by column, and what is left by frame."""
        transformer: Any = self.denoisers[0]
        channels = transformer.config.attention_head_dim
        third = 2 * (channels // 6)
        return RotaryAxes(channels - 2 * third, third, third)

    def positions(self, denoiser: Any, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
        """Return the rotary tables of the call."""
        return _ROTARY.read(denoiser, call, layout)

    def replaced_positions(
        self, denoiser: Any, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[Replaced]:
        """Return a context in which a call has other positions."""
        return _ROTARY.replace(denoiser, call, positions)

    def check_size(self, height: int, width: int, images: int) -> None:
        """Raise for a size that the model does not take, or whose cells its table of rotary positions does not reach.

        Raises
        ------
        InvalidInputError
        """
        super().check_size(height, width, images)
        transformer: Any = self.denoisers[0]
        most, layout = transformer.config.rope_max_seq_len, self.geometry.layout(height, width, images, 0)
        if max(layout.frames, layout.height, layout.width) > most:
            rows, columns = self.pixel_steps
            raise InvalidInputError(
                f"{self.name} does not take {Size(height, width, images)}: its rotary positions (rope_max_seq_len) end "
                f"at {most} frames and {most} x {most} cells; these are {layout.frames} frames of {layout.height} x "
                f"{layout.width} cells. Pass a size of at most {most * rows} x {most * columns} px."
            )

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.pipeline.vae.config
        mean, deviation = (torch.tensor(values).to(like) for values in (config.latents_mean, config.latents_std))
        return mean.view(1, -1, 1, 1, 1), deviation.view(1, -1, 1, 1, 1)

    def scale_latents(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        return (latents - mean) / deviation

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        mean, deviation = self._statistics(latents)
        return latents * deviation + mean
