"""HunyuanVideo, from text and from an image: double-stream blocks, then single-stream ones, over video and text.

Text comes last and is masked: a capture holds only the tokens of the prompt itself. The two-layer token refiner, which
attends over text alone, is not a layer here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from probe.backbones.fetched import fetched, valid_tokens
from probe.backbones.geometry import Size
from probe.families.hunyuan.tokens import HunyuanTokens
from probe.families.registry import register_family
from store.errors import InvalidInputError
from store.wording import Wording


@register_family
class HunyuanVideo(HunyuanTokens):
    """A HunyuanVideo pipeline. Guidance is distilled into the model: one call, with the scale as an input.

    True classifier-free guidance (two calls, the conditional one first) is on when a negative prompt and
    ``conditioning={"true_cfg_scale": ...}`` above 1 are given. Latents are (batch, channel, frame, y, x). From an
    image, the first latent frame is the image's (``token_replace``) or it is in further channels (``latent_concat``;
    that pipeline drops the first four images of what it generates, which the layout counts).
    """

    family = "HunyuanVideo"
    pipelines = ("HunyuanVideoPipeline", "HunyuanVideoImageToVideoPipeline")
    image_pipelines = ("HunyuanVideoImageToVideoPipeline",)
    transformers = ("HunyuanVideoTransformer3DModel",)
    attention_paths = ("transformer_blocks.*.attn", "single_transformer_blocks.*.attn")
    guidance = "calls"
    text_position: ClassVar[Literal["first", "last"] | None] = "last"
    guidance_remedy = Wording(
        "Pass a {negative_prompt} and {conditioning} above 1, or select {branches}.",
        negative_prompt=None,
        conditioning={"true_cfg_scale": ...},
        branches=("cond",),
    )
    fps = 24.0

    def text_tokens(self, prompt: str | None = None) -> int:
        """Return the text tokens of a prompt, or without one the 256 that a prompt is cut to.

        From an image, its tokens are among those of the text, and only the most that there can be is known.
        """
        tokenizer, most = self.pipeline.tokenizer, 256
        template = inspect.signature(type(self.pipeline).__call__).parameters["prompt_template"].default
        if self.takes_image:
            interleaved = 4 if self._replaces_tokens() else 2
            return most + int(template["image_emb_len"]) // interleaved
        if prompt is None or tokenizer is None:
            return most
        ids = tokenizer(template["template"].format(prompt)).input_ids
        return min(most, len(ids) - int(template["crop_start"]))

    def text_tokens_of_call(self, call: Mapping[str, Any]) -> list[int]:
        """Text tokens of each batch element: as many as its mask has, which are the first ones."""
        return list(fetched(call["encoder_attention_mask"], valid_tokens))

    def _replaces_tokens(self) -> bool:
        return bool(self.pipeline.transformer.config.image_condition_type == "token_replace")

    def call_with_latents(self, call: Mapping[str, Any], latents: Tensor) -> dict[str, Any]:
        """Return a call with other latents; a first frame that is the image's stays so."""
        changed = super().call_with_latents(call, latents)
        if self._replaces_tokens():
            given, hidden = call["hidden_states"], changed["hidden_states"]
            changed["hidden_states"] = torch.cat([given[:, :, :1], hidden[:, :, 1:]], dim=2)
        return changed

    def wants_guidance(self, arguments: Mapping[str, Any]) -> bool:
        """Tell whether a pipeline call with these arguments runs both branches (true classifier-free guidance)."""
        pair = ("negative_prompt_embeds", "negative_pooled_prompt_embeds")
        negative = "negative_prompt" in arguments or all(name in arguments for name in pair)
        return negative and float(arguments.get("true_cfg_scale", 1.0)) > 1.0

    def check_run(self, arguments: Mapping[str, Any]) -> None:
        if "negative_prompt" in arguments and not self.wants_guidance(arguments):
            raise InvalidInputError(
                f"{self.name} has its guidance distilled into the model, so a negative prompt alone has no effect.",
                remedy=Wording(
                    "Pass {conditioning} above 1 with it, or leave it out.", conditioning={"true_cfg_scale": ...}
                ),
            )

    def unguided_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {"true_cfg_scale": 1.0}

    def set_timesteps(self, scheduler: Any, steps: int, size: Size) -> None:
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1])

    def scale_latents(self, latents: Tensor) -> Tensor:
        return latents * self.pipeline.vae.config.scaling_factor

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        return latents / self.pipeline.vae.config.scaling_factor
