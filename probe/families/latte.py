"""Latte: factorised self-attention, alternately within each frame and along the frames of each cell; text apart.

Its layers alternate: a spatial one attends among the cells of a frame, with the frames in the batch, and the temporal
one after it among the frames of a cell, with the cells in the batch. The VAE is one of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.families.registry import register_family
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout

_TEMPORAL = "temporal_transformer_blocks."


@register_family
class Latte(Backbone):
    """A Latte pipeline; classifier-free guidance is one call with batch [uncond, cond].

    Latents are (batch, channel, frame, y, x), with a latent frame for each image. A clip has one image or as many as
    the model was trained with. The prediction has the channels of a variance after those of the noise; they are left
    out here, and kept in what the transformer returns.
    """

    family = "Latte"
    pipelines = ("LattePipeline",)
    transformers = ("LatteTransformer3DModel",)
    attention_paths = ("transformer_blocks.*.attn1", f"{_TEMPORAL}*.attn1")
    guidance = "batch"
    text_position: ClassVar[Literal["first", "last"] | None] = None
    factorised = True
    images_at_once = 14
    fps = 8.0

    # Layers and tokens --------------------------------------------------------------------------------------------

    @classmethod
    def find_layers(cls, denoiser: nn.Module) -> list[tuple[str, nn.Module]]:
        """Return the self-attention modules by name: a spatial and a temporal one in turn, as they run."""
        found = super().find_layers(denoiser)
        half = len(found) // 2
        return [layer for pair in zip(found[:half], found[half:], strict=True) for layer in pair]

    def gather_tokens(self, tensor: Tensor, layout: TokenLayout, layer_name: str) -> Tensor:
        """Return what an attention has with a batch of frames or of cells as (clip, head, frame x cell, channel)."""
        frames, cells = layout.frames, layout.height * layout.width
        temporal = layer_name.startswith(_TEMPORAL)
        each, tokens = (cells, frames) if temporal else (frames, cells)
        if len(tensor) % each or tensor.shape[2] != tokens:
            raise UnsupportedBackboneError(
                f"{layer_name} attended over {tensor.shape[2]} tokens in a batch of {len(tensor)}, but {frames} frames "
                f"of {layout.height} x {layout.width} cells are {tokens} tokens in a multiple of {each}. Something "
                "(sequence parallelism, a method that drops tokens) rearranges the tokens; switch it off before "
                "probing."
            )
        clips = tensor.unflatten(0, (-1, each))  # (clip, frame, head, cell, channel) or (clip, cell, head, frame, ...)
        return clips.permute(0, 2, 3, 1, 4).flatten(2, 3) if temporal else clips.transpose(1, 2).flatten(2, 3)

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        return 1, denoiser.config.patch_size, denoiser.config.patch_size

    # Sizes --------------------------------------------------------------------------------------------------------

    @property
    def strides(self) -> tuple[int, int]:
        """Images per latent frame, and pixels per latent cell."""
        return 1, int(self.pipeline.vae_scale_factor)

    @property
    def _trained_images(self) -> int:
        return int(self.pipeline.transformer.config.video_length)

    @property
    def default_size(self) -> Size:
        """The size that the pipeline generates: that of its transformer's configuration."""
        side = int(self.pipeline.transformer.config.sample_size) * self.strides[1]
        return Size(side, side, self._trained_images)

    @property
    def image_step(self) -> int:
        """Images between the two numbers that the model takes."""
        return max(1, self._trained_images - 1)

    def nearest_images(self, images: int) -> int:
        """Return the largest number of images up to ``images`` that the model takes: those it was trained with, or 1.

        Its table of positions along the frames has one length.
        """
        return self._trained_images if images >= self._trained_images else 1

    @property
    def images_rule(self) -> str:
        """Numbers of images that the model takes, in words."""
        return f"1 or {self._trained_images} images"

    # Predictions --------------------------------------------------------------------------------------------------

    @classmethod
    def channels_of(cls, denoiser: Any) -> int | None:
        """Return the channels of the latents, without those of the variance."""
        return int(denoiser.config.in_channels)

    def prediction_of(self, output: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the predicted noise, without the channels of the variance after it."""
        return super().prediction_of(output, call).narrow(1, 0, call["hidden_states"].shape[1])

    def output_with(self, output: Any, prediction: Tensor, call: Mapping[str, Any]) -> Any:
        """Return what the transformer returned with another prediction of the noise in it."""
        after = super().prediction_of(output, call)[:, prediction.shape[1] :]
        return super().output_with(output, torch.cat([prediction, after], dim=1), call)

    # Arguments of the pipeline ------------------------------------------------------------------------------------

    @contextmanager
    def prepared_call(self, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Prepare one pipeline call, which names the number of images otherwise."""
        yield {"video_length" if name == "num_frames" else name: value for name, value in arguments.items()}

    def prompt_arguments(
        self, prompt: str | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the pipeline arguments for a prompt and a negative one.

        Raises
        ------
        InvalidInputError
            When the pipeline cannot read the prompt, or the temporal layers are to be left out.
        """
        if not conditioning.get("enable_temporal_attentions", True):
            raise InvalidInputError(
                f"enable_temporal_attentions=False leaves the temporal layers of {self.name} out of the run. "
                "Leave it at True, and select the layers that you need."
            )
        chosen = super().prompt_arguments(prompt, negative_prompt, conditioning)
        if "negative_prompt_embeds" in conditioning:
            chosen["negative_prompt"] = None  # the pipeline's own default is a text, which excludes embeddings
        if self.embeddings in conditioning:
            chosen["mask_feature"] = False  # given embeddings have no mask, and the pipeline fails to make one
        return chosen

    @torch.no_grad()
    def replay_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of an unguided call, with the embeddings of a guided one.

        The pipeline cuts the negative prompt to the length of the prompt, so the two are read together.
        """
        chosen = super().replay_arguments(arguments)
        if "prompt" in chosen and self.reads_text and "negative_prompt_embeds" not in chosen:
            embeds, negative = self.pipeline.encode_prompt(
                chosen.pop("prompt"),
                True,
                negative_prompt=chosen.get("negative_prompt") or "",
                clean_caption=chosen.get("clean_caption", True),
                mask_feature=chosen.get("mask_feature", True),
            )
            chosen.update(prompt_embeds=embeds, negative_prompt_embeds=negative, negative_prompt=None)
        return {**chosen, "mask_feature": False}

    # VAE ----------------------------------------------------------------------------------------------------------

    def scale_latents(self, latents: Tensor) -> Tensor:
        scaled: Tensor = latents * self.pipeline.vae.config.scaling_factor
        return scaled

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        unscaled: Tensor = latents / self.pipeline.vae.config.scaling_factor
        return unscaled

    def vae_encode(self, video: Tensor) -> Tensor:
        """Return what the VAE makes of a video (1, 3, image, y, x) in -1 to 1, image by image."""
        images = video[0].transpose(0, 1).split(self.images_at_once)
        return torch.cat([self.pipeline.vae.encode(each).latent_dist.mode() for each in images]).transpose(0, 1)[None]

    def vae_decode(self, latents: Tensor) -> Tensor:
        """Return the video (1, 3, image, y, x) in -1 to 1 that the VAE makes of latents, image by image."""
        frames = latents[0].transpose(0, 1).split(self.images_at_once)
        images = [self.pipeline.vae.decode(each, return_dict=False)[0] for each in frames]
        return torch.cat(images).transpose(0, 1)[None]
