"""EasyAnimate, from text and with parts of a clip given (inpainting): text and video attend together.

Text tokens come first. The family has no text mask: padding tokens of the prompt take part in the attention, so a
capture holds all of them. Conditions are separate arguments, apart from the latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from probe.attention.position_sources import Replaced, RotaryModule
from probe.attention.positions import Positions
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.backbones.rotary import RotaryAxes
from probe.families.registry import register_family
from store.layout import TokenLayout

_ROTARY = RotaryModule("rope_embedding", lambda denoiser, call: (call["hidden_states"],))
_TEXT = 256  # to which the pipelines pad every prompt


@register_family
class EasyAnimate(Backbone):
    """An EasyAnimate pipeline; classifier-free guidance is one call with batch [uncond, cond].

    Latents are (batch, channel, frame, y, x). The inpainting pipeline is given ``video`` and ``mask_video``, tensors
    (1, 3 or 1, image, y, x), as ``conditioning``, and generates from text without them.
    """

    family = "EasyAnimate"
    pipelines = ("EasyAnimatePipeline", "EasyAnimateInpaintPipeline")
    transformers = ("EasyAnimateTransformer3DModel",)
    attention_paths = ("transformer_blocks.*.attn1",)
    guidance = "batch"
    text_position: ClassVar[Literal["first", "last"] | None] = "first"
    fps = 8.0

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        return 1, denoiser.config.patch_size, denoiser.config.patch_size

    @property
    def strides(self) -> tuple[int, int]:
        """Images per latent frame after the first, and pixels per latent cell."""
        pipeline = self.pipeline
        return int(pipeline.vae_temporal_compression_ratio), int(pipeline.vae_spatial_compression_ratio)

    def text_tokens(self, prompt: str | None = None) -> int:
        """All prompts are padded to this many tokens, and the padding takes part in the attention."""
        return _TEXT

    def text_tokens_of_call(self, call: Mapping[str, Any]) -> list[int]:
        """Text tokens of each batch element: all of them, the family has no mask."""
        given = [call["encoder_hidden_states"], call.get("encoder_hidden_states_t5")]
        return [sum(text.shape[1] for text in given if text is not None)] * len(given[0])

    def replay_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of an unguided call from pure noise: the inpainting pipeline takes no latents."""
        strength = {"strength": 1.0} if "strength" in arguments else {}
        return {**arguments, **self.unguided_arguments(arguments), **strength}

    # Positions, schedule, VAE -------------------------------------------------------------------------------------

    @property
    def rotary(self) -> RotaryAxes:
        """A quarter of the channels rotates by frame, three eighths each by row and column, fitted to a base size."""
        eighth = self.pipeline.transformer.config.attention_head_dim // 8
        return RotaryAxes(2 * eighth, 3 * eighth, 3 * eighth)

    def positions(self, denoiser: Any, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
        """Return the rotary tables of the call."""
        return _ROTARY.read(denoiser, call, layout)

    def replaced_positions(
        self, denoiser: nn.Module, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[Replaced]:
        """Return a context in which a call has other positions."""
        return _ROTARY.replace(denoiser, call, positions)

    def set_timesteps(self, scheduler: Any, steps: int, size: Size) -> None:
        """Set a scheduler up as the pipeline does, flow matching with a fixed shift."""
        flows = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
        scheduler.set_timesteps(steps, **({"mu": 1} if flows else {}))

    def scale_latents(self, latents: Tensor) -> Tensor:
        return latents * self.pipeline.vae.config.scaling_factor

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        return latents / self.pipeline.vae.config.scaling_factor
