"""Tiny random Cosmos pipelines; the safety checker lets everything through, as theirs would these clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import tiny_pipelines as tiny
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel
from PIL import Image

IMAGE = Image.fromarray(np.random.default_rng(4).integers(0, 255, (80, 112, 3), np.uint8))

FRAMES = 32
"""The latent frames that the tables of a VAE and a transformer reach."""


class Unchecked:
    """In place of the safety checker, which is a package and a download of its own."""

    def to(self, device: Any) -> Unchecked:
        return self

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


def transformer(channels: int, **overrides: Any) -> CosmosTransformer3DModel:
    config: dict[str, Any] = {
        "in_channels": channels,
        "out_channels": channels,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "mlp_ratio": 2,
        "text_embed_dim": 32,
        "adaln_lora_dim": 4,
        "max_size": (FRAMES, 32, 32),
        "patch_size": (1, 2, 2),
        "rope_scale": (2.0, 1.0, 1.0),
        "concat_padding_mask": False,
        **overrides,
    }
    made = CosmosTransformer3DModel(**config)
    tiny.randomise(made, 21)
    return made.eval()


def vae() -> AutoencoderKLCosmos:
    generator = torch.Generator().manual_seed(5)
    made = AutoencoderKLCosmos(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
        patch_size=4,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
        latents_mean=torch.randn(4 * FRAMES, generator=generator).tolist(),
        latents_std=(0.5 + torch.rand(4 * FRAMES, generator=generator)).tolist(),
    )
    tiny.randomise(made, 22)
    return made.eval()


def embeddings(prompts: tuple[int, ...], *, negative: bool) -> dict[str, Any]:
    chosen = {"prompt_embeds": torch.cat([tiny.embeds(7, 32, n) for n in prompts])}
    if negative:
        chosen["negative_prompt_embeds"] = tiny.embeds(7, 32, 9).expand(len(prompts), -1, -1)
    return chosen
