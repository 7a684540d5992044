"""The mini backbone's codec: each 2x2 block of pixels becomes one latent cell, and back, exactly."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class _PointMass:
    """A latent distribution without spread, with the interface that pipelines expect of a VAE."""

    def __init__(self, latents: torch.Tensor) -> None:
        self.latents = latents

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        return self.latents

    def mode(self) -> torch.Tensor:
        return self.latents


class PixelCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]  # both bases of diffusers define config_name
    """A lossless stand-in for a video VAE: pixel-unshuffle in space, nothing in time.

    It has the interface of ``AutoencoderKLCogVideoX``: images (batch, 3, image, y, x) in -1 to 1, latents
    (batch, 12, image, y / 2, x / 2), so every latent frame is exactly one image.

    Examples
    --------
    >>> codec = PixelCodec()
    >>> images = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    >>> latents = codec.encode(images).latent_dist.mode()
    >>> latents.shape, torch.equal(codec.decode(latents).sample, images)
    (torch.Size([1, 12, 5, 16, 16]), True)
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (12, 12),
        latent_channels: int = 12,
        temporal_compression_ratio: int = 1,
        scaling_factor: float = 2.0,
        invert_scale_latents: bool = False,
    ) -> None:
        super().__init__()
        # A module without tensors has no dtype, no device and no file of weights; pipelines ask for all three.
        self.register_buffer("anchor", torch.zeros(()))

    @property
    def dtype(self) -> torch.dtype:
        return self.anchor.dtype

    @property
    def device(self) -> torch.device:
        return self.anchor.device

    def encode(self, images: torch.Tensor, return_dict: bool = True) -> AutoencoderKLOutput:
        """(batch, 3, image, y, x) in -1 to 1 to latents."""
        latents = pixel_unshuffle(images.transpose(1, 2), 2).transpose(1, 2)
        return AutoencoderKLOutput(latent_dist=_PointMass(latents))

    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> DecoderOutput:
        """Latents to (batch, 3, image, y, x) in -1 to 1."""
        return DecoderOutput(sample=pixel_shuffle(latents.transpose(1, 2), 2).transpose(1, 2))

    def enable_slicing(self) -> None:
        """Nothing to slice: the codec needs no memory of its own."""

    def enable_tiling(self) -> None:
        """Nothing to tile: the codec needs no memory of its own."""
