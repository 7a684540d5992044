"""Clips to latents and back, by the VAE of a backbone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from probe.backbones.family import Family
from probe.backbones.finite import check_values
from store.clips.clip import Clip
from store.errors import NotFiniteError
from store.wording import Wording

VAE_REMEDY = Wording(
    "Check that the weights of the VAE are finite, or load the model with {dtype} or {}.",
    repr("bfloat16"),
    dtype="float32",
)


def encode_images(family: Family, images: np.ndarray, device: torch.device) -> Tensor:
    """Latents (1, ...) float32 of images uint8 (image, y, x, 3), as the sampler has them.

    Raises
    ------
    InvalidInputError
        For a size that the model does not take.
    NotFiniteError
        When the VAE makes numbers that are not finite.
    """
    family.check_size(images.shape[1], images.shape[2], images.shape[0])
    video = torch.from_numpy(np.ascontiguousarray(images)).permute(3, 0, 1, 2)[None]
    video = (video.float() / 127.5 - 1.0).to(device, family.vae_dtype)
    latents = family.scale_latents(family.vae_encode(video).float())
    check_values(latents, f"the latents that the VAE of {family.name} made of a clip", remedy=VAE_REMEDY)
    return latents


def decode_latents(family: Family, latents: Tensor, device: torch.device, images: int | None) -> Clip:
    """Clip of latents (1, ...); ``images`` where latent frames alone leave their number open.

    Raises
    ------
    NotFiniteError
        When the images are not finite.
    """
    images = images or family.geometry.images_of(latents.shape[family.frame_axis])
    values = family.unscale_latents(latents.to(device).float(), images).to(family.vae_dtype)
    video = family.vae_decode(values)[0].float().permute(1, 2, 3, 0)
    return Clip(to_uint8((video / 2 + 0.5).cpu().numpy(), family.name), family.fps)


def to_uint8(images: np.ndarray, name: str) -> np.ndarray:
    """(image, y, x, 3) in 0 to 1 as uint8."""
    bad = images.size - int(np.count_nonzero(np.isfinite(images)))
    if bad:
        raise NotFiniteError(
            f"the images that the VAE of {name} decoded are not finite in {bad} of {images.size} places.",
            remedy=VAE_REMEDY,
        )
    return np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)
