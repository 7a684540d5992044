"""Memory that a plan of a training states, beside what is counted at a tenth of the tokens and width of a CogVideoX."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

from generators.adapters.det import DeT, DreamBooth, InvertedMotion
from generators.adapters.fitted import TrainedMethod
from generators.adapters.motion_tracks import MotionTracks
from generators.adapters.training.plan import plan_training
from generators.adapters.training.settings import Training
from generators.adapters.training.train import train_adapter
from probe import Backbone, load_backbone
from probe.loading.vae_memory import peak_bytes
from store import Clip

HEIGHT, WIDTH, IMAGES, TEXT, LAYERS = 240, 368, 17, 23, 3
LOOSE = 1.5

pytestmark = pytest.mark.filterwarnings("ignore")


@cache
def small() -> tuple[Backbone, Clip, torch.Tensor]:
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


METHODS: dict[str, Callable[[Training], TrainedMethod]] = {
    "kernel": lambda training: DeT(width=16, training=training),
    "LoRA": lambda training: DreamBooth(rank=8, training=training),
    "embeddings": lambda training: InvertedMotion(training=training),
}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_training_takes_what_its_plan_says(name: str, checkpointing: bool) -> None:
    backbone, clip, text = small()
    training = Training(steps=2, gradient_checkpointing=checkpointing)
    method = METHODS[name](training)
    size = backbone.default_size._replace(height=HEIGHT, width=WIDTH, images=IMAGES)
    plan = plan_training(method, backbone, size)
    start = np.random.default_rng(1).uniform((60, 60), (300, 180), (20, 2))
    tracks = start + np.arange(IMAGES)[:, None, None] * [1.0, 0.5]
    followed = MotionTracks(tracks, np.ones(tracks.shape[:2], bool), "given")
    given: dict[str, Any] = {"tracks": followed, "conditioning": {"prompt_embeds": text}}

    def trained() -> None:
        adapter = method.new_adapter(backbone, size)
        train_adapter(adapter, backbone, clip, method.resolve_training(backbone), **given)

    found = peak_bytes(trained, simulate_fused=False)
    planned = plan.adapter + (plan.checkpointed if checkpointing else plan.activations)
    assert planned / LOOSE <= found <= planned
    assert plan.memory == planned + plan.weights
