"""HunyuanVideo 1.5, from text and from an image: double-stream blocks over video, then image and text tokens.

Guidance is that of the pipeline's guider, so a guidance scale is given to the guider for the time of a run. From an
image, the pipeline chooses the size by the image's aspect, from a list for the model's target size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
from diffusers.pipelines.hunyuan_video1_5.image_processor import generate_crop_size_list
from torch import Tensor

from probe.backbones.fetched import fetched, is_blank, valid_tokens
from probe.backbones.geometry import Size
from probe.families.hunyuan.tokens import HunyuanTokens
from probe.families.registry import register_family
from store.errors import InvalidInputError, UnsupportedBackboneError


@register_family
class HunyuanVideo15(HunyuanTokens):
    """A HunyuanVideo 1.5 pipeline; classifier-free guidance is two calls, the conditional one first.

    Latents are (batch, channel, frame, y, x); condition channels and a mask follow them. The text of a capture is what
    the attention has of it: tokens of the image, of glyphs (ByT5), and of the prompt, without padding.
    """

    family = "HunyuanVideo 1.5"
    pipelines = ("HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline")
    image_pipelines = ("HunyuanVideo15ImageToVideoPipeline",)
    transformers = ("HunyuanVideo15Transformer3DModel",)
    attention_paths = ("transformer_blocks.*.attn",)
    guidance = "calls"
    text_position: ClassVar[Literal["first", "last"] | None] = "last"
    further_arguments = ("guidance_scale",)
    fps = 24.0

    # Sizes --------------------------------------------------------------------------------------------------------

    @property
    def default_size(self) -> Size:
        """The size of the model's target resolution at 16 : 9."""
        return Size(*self.nearest_sides(*self._by_aspect(9, 16)), 121)

    def nearest_sides(self, height: int, width: int) -> tuple[int, int]:
        """Return the nearest height and width; from an image, the one of the nearest aspect in the model's list."""
        if not self.takes_image:
            return super().nearest_sides(height, width)
        patch, target = self.pipeline.video_processor.config.vae_scale_factor, self.pipeline.target_size
        known = {tuple(map(int, sides)) for sides in generate_crop_size_list(target, patch)}
        reached = sorted(sides for sides in known if self._by_aspect(*sides) == sides)
        return min(reached, key=lambda sides: abs(np.log(sides[0] / sides[1] / (height / width))))

    def _by_aspect(self, height: int, width: int) -> tuple[int, int]:
        pipeline = self.pipeline
        found = pipeline.video_processor.calculate_default_height_width(height, width, pipeline.target_size)
        return int(found[0]), int(found[1])

    # Text and guidance --------------------------------------------------------------------------------------------

    def text_tokens(self, prompt: str | None = None) -> int:
        """Return the most image, glyph and text tokens that there can be."""
        pipeline = self.pipeline
        image = int(pipeline.vision_num_semantic_tokens) if self.takes_image else 0
        return image + int(pipeline.tokenizer_max_length) + int(pipeline.tokenizer_2_max_length)

    def text_tokens_of_call(self, call: Mapping[str, Any]) -> list[int]:
        """Return the tokens of each batch element that are not padding: image, glyphs and text."""
        image = call["image_embeds"]
        shown = 0 if fetched(image, is_blank) else image.shape[1]
        masks = (call["encoder_attention_mask"], call["encoder_attention_mask_2"])
        counts = zip(*(fetched(mask, valid_tokens) for mask in masks), strict=True)
        return [shown + text + glyphs for text, glyphs in counts]

    def is_guided(self, call: Mapping[str, Any]) -> bool:
        """Return whether the guider of the pipeline asks for both branches."""
        return bool(self.pipeline.guider.num_conditions > 1)

    def guidance_of(self, arguments: Mapping[str, Any]) -> float:
        """Return the guidance scale of a run, by default the guider's."""
        return float(arguments.get("guidance_scale", self.pipeline.guider.guidance_scale))

    @contextmanager
    def prepared_call(self, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Give a guidance scale to the guider, and from an image the size to the image."""
        call, guider = dict(arguments), self.pipeline.guider
        scale = call.pop("guidance_scale", None)
        if self.takes_image:
            height, width = call.pop("height"), call.pop("width")
            if self._by_aspect(height, width) != (height, width):
                raise InvalidInputError(f"{self.name} does not generate {height} x {width} px from an image.")
            call["image"] = call["image"].resize((width, height))
        try:
            if scale is not None:
                self.pipeline.guider = guider.new(guidance_scale=scale)
            yield call
        finally:
            self.pipeline.guider = guider

    def timestep_of_call(self, call: Mapping[str, Any], timestep: float) -> Tensor:
        """Return the timestep in the shape of the call's.

        Raises
        ------
        UnsupportedBackboneError
            For a distilled model that is also given the end of the step.
        """
        if call.get("timestep_r") is not None:
            raise UnsupportedBackboneError(
                f"{self.name} is also given the timestep at which a step ends (use_meanflow), so it cannot be run at "
                "single timesteps. Probe it while it samples a prompt."
            )
        return super().timestep_of_call(call, timestep)

    # Positions and VAE --------------------------------------------------------------------------------------------

    def set_timesteps(self, scheduler: Any, steps: int, size: Size) -> None:
        """Set a scheduler up as the pipeline does."""
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1])

    def scale_latents(self, latents: Tensor) -> Tensor:
        return latents * self.pipeline.vae.config.scaling_factor

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        return latents / self.pipeline.vae.config.scaling_factor
