"""A CogVideoX with a tenth of the released tokens, on which memory is counted: shared by the tests of plans."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

from probe import Backbone, load_backbone
from store import Clip

HEIGHT, WIDTH, IMAGES, TEXT, LAYERS = 240, 368, 17, 23, 3


@cache
def small_cogvideox() -> tuple[Backbone, Clip, torch.Tensor]:
    """5 frames of 15 x 23 cells, 3 heads x 64; the VAE is not run."""
    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=3, attention_head_dim=64, num_layers=LAYERS, text_embed_dim=32, time_embed_dim=64,
        max_text_seq_length=TEXT, sample_height=HEIGHT // 8, sample_width=WIDTH // 8, sample_frames=IMAGES,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
    )
    parts: dict[str, Any] = {"vae": vae, "transformer": transformer, "scheduler": CogVideoXDDIMScheduler()}
    backbone = load_backbone(CogVideoXPipeline(tokenizer=None, text_encoder=None, **parts), device="cpu")
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 5, 16, HEIGHT // 8, WIDTH // 8, generator=generator)
    backbone.encode = lambda clip: latents  # type: ignore[method-assign]
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, HEIGHT, WIDTH, 3), np.uint8)
    return backbone, Clip(images, fps=8), torch.randn(1, TEXT, 32, generator=generator)
