"""CogVideoX 2B (additive positions), 5B (rotary), 1.5 (patches of two latent frames), from text, images and clips.

Text and video tokens attend together, text first. The family has no text mask: padding tokens of the prompt take
part in the attention like any other, so a capture holds all of them (226 in the released models).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from probe.attention.position_sources import PatchTable, PositionSource, Replaced, RotaryArgument
from probe.attention.positions import Positions
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.backbones.rotary import RotaryAxes
from probe.families.registry import register_family
from store.errors import UnsupportedBackboneError
from store.layout import TokenLayout


@register_family
class CogVideoX(Backbone):
    """A CogVideoX pipeline; classifier-free guidance is one call with batch [uncond, cond].

    Latents are (batch, frame, channel, y, x). CogVideoX 1.5 joins two latent frames in a token and pads an odd number
    of them at the front, so its frame 0 covers image 0 alone and every later frame twice the usual images.

    Video-to-video begins with a noised clip at a later step (``strength``); its steps keep the numbers that they have
    in a run from pure noise. FunControl has the latents of a control video in channels after those of the latents.
    """

    family = "CogVideoX"
    pipelines: ClassVar[tuple[str, ...]] = (
        "CogVideoXPipeline",
        "CogVideoXImageToVideoPipeline",
        "CogVideoXVideoToVideoPipeline",
        "CogVideoXFunControlPipeline",
    )
    image_pipelines: ClassVar[tuple[str, ...]] = ("CogVideoXImageToVideoPipeline",)
    clip_arguments: ClassVar[Mapping[str, str]] = {
        "CogVideoXVideoToVideoPipeline": "video",
        "CogVideoXFunControlPipeline": "control_video",
    }
    transformers = ("CogVideoXTransformer3DModel",)
    attention_paths = ("transformer_blocks.*.attn1",)
    guidance = "batch"
    text_position: ClassVar[Literal["first", "last"] | None] = "first"
    frame_axis = 1
    fps = 8.0

    def __init__(self, pipeline: Any, *, name: str | None = None, revision: str | None = None) -> None:
        super().__init__(pipeline, name=name, revision=revision)
        if self.clip_argument is not None and self.patch[0] > 1:
            raise UnsupportedBackboneError(
                f"{type(pipeline).__name__} takes no odd number of latent frames where tokens join {self.patch[0]} of "
                "them, and pads none, so its clips are not those of CogVideoX 1.5. Use CogVideoXPipeline.from_pipe."
            )

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        config = denoiser.config
        return config.patch_size_t or 1, config.patch_size, config.patch_size

    @property
    def rotary(self) -> RotaryAxes | None:
        """A quarter of the channels rotates by frame, three eighths each by row and by column; none in 2B."""
        config = self.pipeline.transformer.config
        if not config.use_rotary_positional_embeddings:
            return None
        eighth = config.attention_head_dim // 8
        return RotaryAxes(2 * eighth, 3 * eighth, 3 * eighth)

    @property
    def image_step(self) -> int:
        """Twice the stride: from an even number of latent frames the VAE decodes more images than it encoded."""
        stride = self.strides[0]
        return stride if stride == 1 else 2 * stride

    @property
    def pixel_steps(self) -> tuple[int, int]:
        """Whole cells; the pipeline also rejects what 8 does not divide, which matters where cells are smaller."""
        rows, columns = super().pixel_steps
        return math.lcm(rows, 8), math.lcm(columns, 8)

    @property
    def default_size(self) -> Size:
        """The size that the model was trained for, from its configuration."""
        config, spatial = self.pipeline.transformer.config, self.strides[1]
        height, width = config.sample_height * spatial, config.sample_width * spatial
        if config.patch_size_t is not None:  # 1.5 states the extent of its position table, 300 x 300 latent cells
            height, width = min(height, 768), min(width, 1360)
        return Size(height, width, config.sample_frames)

    def text_tokens(self, prompt: str | None = None) -> int:
        """All prompts are padded to this many tokens, and the padding takes part in the attention."""
        return int(self.pipeline.transformer.config.max_text_seq_length)

    def token_names(self, prompt: str | None) -> tuple[str, ...] | None:
        """The text tokens of a prompt by name, padding included; None if the pipeline has no tokenizer."""
        tokenizer = getattr(self.pipeline, "tokenizer", None)
        if tokenizer is None or prompt is None:
            return None
        count = self.text_tokens()
        found = tokenizer(prompt, padding="max_length", max_length=count, truncation=True, add_special_tokens=True)
        return tuple(map(str, tokenizer.convert_ids_to_tokens(found["input_ids"])))

    def text_tokens_of_call(self, call: Mapping[str, Any]) -> list[int]:
        """Text tokens of each batch element: all of them, the family has no mask."""
        batch, tokens = call["encoder_hidden_states"].shape[:2]
        return [tokens] * batch

    def positions(self, denoiser: Any, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
        """Return the rotary tables of the call, or the table that the patch embedding adds."""
        return self._source(call).read(denoiser, call, layout)

    def replaced_positions(
        self, denoiser: Any, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[Replaced]:
        """Return a context in which a call has other positions."""
        return self._source(call).replace(denoiser, call, positions)

    def _source(self, call: Mapping[str, Any]) -> PositionSource:
        return PatchTable() if call.get("image_rotary_emb") is None else RotaryArgument("image_rotary_emb")

    def prompt_arguments(
        self, prompt: str | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        chosen = super().prompt_arguments(prompt, negative_prompt, conditioning)
        # the pipeline's own default is the released models' 226, whatever this transformer was built with
        return {**chosen, "max_sequence_length": self.text_tokens()}

    def scale_latents(self, latents: Tensor) -> Tensor:
        latents = latents.permute(0, 2, 1, 3, 4) * self.pipeline.vae_scaling_factor_image
        padding = -latents.shape[1] % self.patch[0]
        return torch.cat([latents[:, :1]] * padding + [latents], dim=1)

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        frames = (images - 1) // self.strides[0] + 1
        return latents[:, -frames:].permute(0, 2, 1, 3, 4) / self.pipeline.vae_scaling_factor_image
