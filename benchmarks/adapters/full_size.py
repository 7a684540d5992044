"""DeT's training at the width of CogVideoX-2B, and plans of it for published models.

``python -m benchmarks.adapters.full_size`` trains a temporal kernel for a few steps on a transformer of the released
width (30 heads x 64 channels, feed-forward of 7,680) with a few layers and random weights, on all tokens of a clip of
480 x 720 px. Latents, text and tracks are random: costs do not depend on them. Seconds are processor time, and memory
is that of the process above what it holds before. ``--plans`` prints plans alone, from configurations.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from datetime import date
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

from benchmarks.memory import forget_peak, memory
from generators.adapters.det import DeT
from generators.adapters.motion_tracks import MotionTracks
from generators.adapters.training.plan import TrainingPlan, plan_training
from generators.adapters.training.settings import Losses, Training
from generators.adapters.training.train import train_adapter
from probe import Backbone, load_backbone
from probe.families.published import find_card
from probe.loading.released import plan_released
from store import Clip
from store.plan import format_bytes

NAME, HEIGHT, WIDTH = "THUDM/CogVideoX-2b", 480, 720
PLANNED = (
    NAME,
    "THUDM/CogVideoX-5b",
    "hunyuanvideo-community/HunyuanVideo",
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "Wan-AI/Wan2.1-T2V-14B-Diffusers",
)
STEP_VIDEO = {"layers": 48, "channels": 48 * 128, "weights": 30 * 10**9 * 2, "width": 256, "kernel": 5}
"""Step-Video-T2V as its report (arXiv:2502.10248) and DeT have it: 30 billion parameters in bfloat16, 48 layers of 48
heads x 128 channels; its VAE makes 3 latent frames of 17 images and a cell of 16 x 16 px, each of which is a token;
text goes by cross-attention."""
STEP_VIDEO_CLIP = (51, 512, 768)
"""Images, height and width: DeT's 49 images, as many as the model takes."""


def of_width(layers: int) -> Backbone:
    """CogVideoX-2B with few layers of random weights, without a text encoder and with a VAE that is not run."""
    card = find_card(NAME)
    assert card is not None
    assert card.released is not None
    config = {**card.architecture, **dict(card.released.transformer), "num_layers": layers}
    config.pop("class")
    torch.manual_seed(0)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
    )
    scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing")
    parts: dict[str, Any] = {"vae": vae, "transformer": CogVideoXTransformer3DModel(**config), "scheduler": scheduler}
    return load_backbone(CogVideoXPipeline(tokenizer=None, text_encoder=None, **parts))


def trained(layers: int, images: int, training: Training) -> tuple[float, float, TrainingPlan]:
    """Least processor seconds of a step, most megabytes above the weights, and what the plan says."""
    backbone = of_width(layers)
    size = backbone.default_size._replace(height=HEIGHT, width=WIDTH, images=images)
    layout = backbone.layout(*size)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    clip = Clip(rng.integers(0, 256, (images, HEIGHT, WIDTH, 3), np.uint8), fps=8)
    latents = torch.randn(1, layout.frames, 16, HEIGHT // 8, WIDTH // 8, generator=generator)
    backbone.encode = lambda clip: latents  # type: ignore[method-assign]
    start = rng.uniform((100, 100), (620, 380), (100, 2))
    tracks = start + np.arange(images)[:, None, None] * rng.uniform(-1, 1, (100, 2))
    followed = MotionTracks(tracks, np.ones(tracks.shape[:2], bool), "random")
    text = {"prompt_embeds": torch.randn(1, 226, 4096, generator=generator)}
    method = DeT(width=128, kernel=3, training=training)
    adapter = method.new_adapter(backbone, size)
    plan = plan_training(method, backbone, size)
    ends = [time.process_time()]

    def on_step(losses: Losses) -> None:
        ends.append(time.process_time())

    before = memory("VmRSS")
    forget_peak()
    train_adapter(adapter, backbone, clip, training, tracks=followed, conditioning=text, on_step=on_step)
    return float(np.diff(ends).min()), memory("VmHWM") - before, plan


def measured(layers: int, images: int, steps: int, *, checkpointing: bool) -> str:
    """A row of the table."""
    training = Training(steps=steps, gradient_checkpointing=checkpointing)
    seconds, megabytes, plan = trained(layers, images, training)
    planned = plan.adapter + (plan.checkpointed if checkpointing else plan.activations)
    return (
        f"| {layers} | {images} | {'with' if checkpointing else 'without'} | {seconds:.0f} | "
        f"{format_bytes(round(megabytes * 2**20))} | {format_bytes(planned)} |"
    )


def plans() -> str:
    """A table of DeT's training on published models at their usual size, in bfloat16."""
    lines = [
        "| model | layers | tokens | parameters of the kernel | weights | memory with checkpointing | without |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in PLANNED:
        backbone = plan_released(name)
        layout = backbone.layout(*backbone.default_size)
        tokens = layout.video_tokens + layout.text_tokens
        plan = plan_training(DeT(preset="paper"), backbone)
        lines.append(_planned(name, len(backbone.layers), tokens, plan))
    images, height, width = STEP_VIDEO_CLIP
    tokens = images // 17 * 3 * (height // 16) * (width // 16)
    sizes = {name: STEP_VIDEO[name] for name in ("layers", "channels", "weights")}
    parameters = 2 * STEP_VIDEO["layers"] * STEP_VIDEO["channels"] * STEP_VIDEO["width"] * STEP_VIDEO["kernel"]
    plan = TrainingPlan.of_sizes(parameters=parameters, tokens=tokens, steps=500, passes=1500.0, **sizes)
    return "\n".join([*lines, _planned("Step-Video-T2V", STEP_VIDEO["layers"], tokens, plan)])


def _planned(name: str, layers: int, tokens: int, plan: TrainingPlan) -> str:
    with_it, without = (format_bytes(plan.memory_with(each)) for each in (plan.checkpointed, plan.activations))
    return (
        f"| {name} | {layers} | {tokens:,} | {plan.parameters:,} | {format_bytes(plan.weights)} | {with_it} | "
        f"{without} |"
    )


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=17, help="49 is the full size, at four times the time")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--checkpointing", nargs="+", default=["without", "with"], choices=["without", "with"])
    parser.add_argument("--plans", action="store_true", help="print the plans alone")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if not given.plans:
        print(f"{date.today()}, {platform.machine()}, torch {torch.__version__}, float32, one thread\n")
        print("| layers | images | gradient checkpointing | CPU s a step | memory above the weights | planned |")
        print("|---:|---:|---|---:|---:|---:|")
        for layers in given.layers:
            for how in given.checkpointing:
                print(measured(layers, given.images, given.steps, checkpointing=how == "with"), flush=True)
        print()
    print(plans())


if __name__ == "__main__":
    main()
