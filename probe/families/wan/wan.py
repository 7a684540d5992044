"""Wan 2.1 and 2.2, from text and from images: video tokens attend among themselves, text is in a cross-attention.

Wan 2.2 14B has two transformers of the same shape, one for the noisy steps and one for the rest. A layer is then the
same block of whichever of the two denoises at that step, so that every step has every layer; the name of a capture
says which one ran (``blocks.3.attn1`` or ``transformer_2.blocks.3.attn1``).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from probe.attention.position_sources import Replaced, RotaryModule
from probe.attention.positions import Positions
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.backbones.rotary import RotaryAxes
from probe.families.registry import register_family
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout

_ROTARY = RotaryModule("rope", lambda denoiser, call: (call["hidden_states"],))
_STRIDE_OF_5B = 16


def _has_clean_frame(call: Mapping[str, Any]) -> bool:
    """Tell whether the tokens of the first frame are clean ones, as in image-to-video with TI2V-5B."""
    timestep = call["timestep"]
    return timestep.ndim == 2 and bool(timestep[0, 0] == 0) and bool(timestep[0, -1] != 0)


@register_family
class Wan(Backbone):
    """A Wan pipeline; classifier-free guidance is two calls, the conditional one first.

    Latents are (batch, channel, frame, y, x), normalised by channel. Image-to-video (2.1, 2.2, first and last frame)
    has the image in channels after them. TI2V-5B has it in their first frame instead, whose tokens are told that they
    are clean: its timesteps are one a token. Video-to-video begins with a noised clip at a later step (``strength``),
    which keeps the number that it has in a run from pure noise.
    """

    family = "Wan"
    pipelines: ClassVar[tuple[str, ...]] = ("WanPipeline", "WanImageToVideoPipeline", "WanVideoToVideoPipeline")
    clip_arguments: ClassVar[Mapping[str, str]] = {"WanVideoToVideoPipeline": "video"}
    image_pipelines: ClassVar[tuple[str, ...]] = ("WanImageToVideoPipeline",)
    transformers: ClassVar[tuple[str, ...]] = ("WanTransformer3DModel",)
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
        both = (self.pipeline.transformer, getattr(self.pipeline, "transformer_2", None))
        return tuple(transformer for transformer in both if transformer is not None)

    def denoiser_at(self, timestep: float) -> nn.Module:
        """The transformer that denoises at a timestep."""
        ratio = getattr(self.pipeline.config, "boundary_ratio", None)
        if ratio is None or timestep >= ratio * self.pipeline.scheduler.config.num_train_timesteps:
            return self.denoisers[0]
        return self.denoisers[-1]

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        frames, height, width = denoiser.config.patch_size
        return frames, height, width

    @property
    def default_size(self) -> Size:
        """The size that the pipeline generates by default; for TI2V-5B, whose cells are larger, the published one."""
        if self.strides[1] == _STRIDE_OF_5B:
            return Size(704, 1280, 121)
        if self.clip_argument is not None:  # as many images as it is given
            return Size(480, 832, 81)
        return super().default_size

    def timestep_of_call(self, call: Mapping[str, Any], timestep: float) -> Tensor:
        """Return the timestep, for each token where the model takes it so; clean tokens stay at 0."""
        given: Tensor = call["timestep"]
        return (
            torch.where(given == 0, given, torch.full_like(given, timestep))
            if _has_clean_frame(call)
            else (super().timestep_of_call(call, timestep))
        )

    def call_with_latents(self, call: Mapping[str, Any], latents: Tensor) -> dict[str, Any]:
        """Return a call with other latents; a clean first frame stays that of the image."""
        changed = super().call_with_latents(call, latents)
        if _has_clean_frame(call):
            given, hidden = call["hidden_states"], changed["hidden_states"]
            changed["hidden_states"] = torch.cat([given[:, :, :1], hidden[:, :, 1:]], dim=2)
        return changed

    def conditioning_of(self, clip: Clip) -> dict[str, Any]:
        """Return image 0 for image-to-video, and the last image for a model of first and last frames."""
        chosen = super().conditioning_of(clip)
        transformer: Any = self.denoisers[0]
        if chosen and getattr(transformer.config, "pos_embed_seq_len", None) is not None:
            chosen["last_image"] = Image.fromarray(clip.images[-1])
        return chosen

    @property
    def rotary(self) -> RotaryAxes:
        """A third of the channels rotates by row, a third by column, and the rest by frame."""
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
