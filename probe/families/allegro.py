"""Allegro text-to-video: self-attention of the video tokens, and a separate cross-attention for the text.

Its VAE works in tiles alone and blends them where they overlap, so the sizes that it takes are those that whole tiles
cover, and each latent frame stands for four images from the first on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from torch import Tensor

from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.backbones.rotary import RotaryAxes
from probe.families.registry import register_family
from store.clips.clip import Clip
from store.errors import InvalidInputError


@register_family
class Allegro(Backbone):
    """An Allegro pipeline; classifier-free guidance is one call with batch [uncond, cond].

    Latents are (batch, channel, frame, y, x). Positions are rotary, but made of separate frequencies and grids whose
    channels the attention joins, so they cannot be replaced.
    """

    family = "Allegro"
    pipelines = ("AllegroPipeline",)
    transformers = ("AllegroTransformer3DModel",)
    attention_paths = ("transformer_blocks.*.attn1",)
    guidance = "batch"
    text_position: ClassVar[Literal["first", "last"] | None] = None
    fps = 15.0

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        config = denoiser.config
        return config.patch_size_t, config.patch_size, config.patch_size

    @property
    def rotary(self) -> RotaryAxes | None:
        """A third of the channels each rotates by frame, by row and by column."""
        third = self.pipeline.transformer.config.attention_head_dim // 3
        return RotaryAxes(third, third, third)

    @property
    def default_size(self) -> Size:
        """The size that the pipeline generates: of its transformer's configuration."""
        config, (temporal, spatial) = self.pipeline.transformer.config, self.strides
        return Size(config.sample_height * spatial, config.sample_width * spatial, config.sample_frames * temporal)

    @property
    def image_step(self) -> int:
        """Images between two numbers that whole tiles cover."""
        return int(self.pipeline.vae.stride[0])

    def nearest_images(self, images: int) -> int:
        """Return the largest number of images up to ``images`` that whole tiles cover, at least one tile."""
        tile, step = int(self.pipeline.vae.kernel[0]), self.image_step
        return tile + max(0, images - tile) // step * step

    @property
    def images_rule(self) -> str:
        """Numbers of images that the model takes, in words."""
        return f"{self.pipeline.vae.kernel[0]} + {self.image_step} n images"

    def check_size(self, height: int, width: int, images: int) -> None:
        """Raise for a size that the model does not take: its VAE leaves out what whole tiles do not cover.

        Raises
        ------
        InvalidInputError
            States what fits.
        """
        super().check_size(height, width, images)
        vae = self.pipeline.vae
        for name, length, tile, step in (
            ("heights", height, vae.kernel[1], vae.stride[1]),
            ("widths", width, vae.kernel[2], vae.stride[2]),
        ):
            if length < tile or (length - tile) % step:
                raise InvalidInputError(
                    f"{self.name} does not take {height} x {width} px (height x width): the tiles of its VAE cover "
                    f"{name} of {tile} + {step} n px. Its default is {self.default_size}."
                )

    def images_of_latents(self, latent_frames: int) -> int:
        """Return the images of a clip with this many latent frames."""
        return latent_frames * self.strides[0]

    def frame_spans(self, images: int) -> tuple[range, ...]:
        """Return the images that each frame of tokens covers: as many for the first as for the others."""
        each = self.strides[0] * self.patch[0]
        return tuple(range(start, start + each) for start in range(0, images, each))

    def prompt_arguments(
        self, prompt: str | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        chosen = super().prompt_arguments(prompt, negative_prompt, conditioning)
        if "negative_prompt_embeds" in conditioning:
            chosen["negative_prompt"] = None  # the pipeline's own default is a text, which excludes embeddings
        return chosen

    def scale_latents(self, latents: Tensor) -> Tensor:
        scaled: Tensor = latents * self.pipeline.vae.config.scaling_factor
        return scaled

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        unscaled: Tensor = latents / self.pipeline.vae.config.scaling_factor
        return unscaled

    def generate(self, *arguments: Any, **options: Any) -> Clip:
        """Generate a clip, as of any backbone; the pipeline decodes it in tiles."""
        with self._in_tiles():
            return super().generate(*arguments, **options)

    def vae_encode(self, video: Tensor) -> Tensor:
        with self._in_tiles():
            return super().vae_encode(video)

    def vae_decode(self, latents: Tensor) -> Tensor:
        """Return the video (1, 3, image, y, x) in -1 to 1; this VAE puts images before channels."""
        with self._in_tiles():
            return super().vae_decode(latents).transpose(1, 2)

    @contextmanager
    def _in_tiles(self) -> Iterator[None]:
        """Tiling on while the VAE runs, which fails without it."""
        vae = self.pipeline.vae
        before, vae.use_tiling = vae.use_tiling, True
        try:
            yield
        finally:
            vae.use_tiling = before
