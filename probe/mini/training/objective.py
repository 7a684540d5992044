"""Objective of a training step: batches of scenes, and the error of the velocity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, Dataset

from probe.mini.model import MiniConfig
from probe.mini.training.schedule import TrainConfig
from store.scenes.prompt import PARTS
from store.scenes.scene import FIRST_TRAINING_SEED, make_scene

_SCENES_OF_A_SEED = 2**32


class Scenes(Dataset):
    """Batch ``step`` of the training set; scenes never repeat.

    A batch is uint8 images (clip, image, y, x, 3) and a prompt for each clip, of which a share is empty.

    Examples
    --------
    >>> images, prompts = Scenes(MiniConfig(images=2), TrainConfig(batch=3))[0]
    >>> images.shape, len(prompts)
    (torch.Size([3, 2, 24, 24, 3]), 3)
    """

    def __init__(self, mini: MiniConfig, config: TrainConfig) -> None:
        self.mini, self.config = mini, config

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, list[str]]:
        config, stills = self.config, self.config.sees_stills(step)
        count = config.still_batch if stills else config.batch
        # apart by more than any training draws, so that what a step sees does not depend on the number of steps
        largest = max(config.batch, config.still_batch if config.stills or config.stills_later else 0)
        first = FIRST_TRAINING_SEED + config.seed * _SCENES_OF_A_SEED + step * largest
        height, width = config.size(step, self.mini.height, self.mini.width)
        draws = np.random.default_rng([config.seed, step]).random((count, 2 + len(PARTS)))
        # what is new draws from a generator of its own, so that trainings of old settings see the same batches
        more = np.random.default_rng([config.seed, step, 3]).random((count, 2))
        easy, spread = config.ease(step)
        spreads = np.random.default_rng([config.seed, step, 4]).uniform(0, spread, count)
        clips, prompts = [], []
        for index, ((drop, bend, *parts), (ease, everything)) in enumerate(zip(draws, more, strict=True)):
            left_open = [part for part, draw in zip(PARTS, parts, strict=True) if draw < config.left_open]
            clip = make_scene(
                first + index,
                1 if stills else self.mini.images,
                height,
                width,
                leave_open=PARTS if everything < config.all_open else left_open,
                path="any" if bend < config.bent else "straight",
                single=bool(ease < easy),
                spread=float(spreads[index]) if ease < easy else 1.0,
            )
            clips.append(clip.images)
            prompts.append("" if drop < config.prompt_dropout else clip.prompt or "")
        return torch.from_numpy(np.stack(clips)), prompts


def batches(
    mini: MiniConfig, config: TrainConfig, start: int, workers: int
) -> Iterator[tuple[torch.Tensor, list[str]]]:
    """The batches from step ``start`` to the last one, drawn by that number of processes (0: this one)."""
    scenes = Scenes(mini, config)
    loader = DataLoader(scenes, batch_size=None, sampler=range(start, config.steps), num_workers=workers)
    yield from loader


class PlainAttention(TorchFunctionMode):
    """Attention as two bfloat16 products and a softmax instead of the fused kernel, while the context is open.

    With the fused kernel a training step in bfloat16 on a CPU takes 1.4 to 1.5 times as long:
    ``python -m benchmarks.mini_quality.training_attention``.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            q, k, v = (tensor.to(torch.bfloat16) for tensor in args[:3])
            return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), -1) @ v


def velocity_loss(pipeline: Any, batch: tuple[torch.Tensor, list[str]], step: int, config: TrainConfig) -> torch.Tensor:
    """Mean squared error of the predicted velocity at a random timestep per clip, a float32 scalar.

    Timesteps and noise follow from the seed and the step alone. The transformer runs in bfloat16.

    Parameters
    ----------
    pipeline : CogVideoXPipeline
        Of :func:`probe.mini.new_pipeline`; its transformer's positions are set to the size of the step's clips.
    batch : (images, prompts), an item of :class:`Scenes`
    """
    images, prompts = batch
    generator = torch.Generator().manual_seed((config.seed << 32) + step)
    latents = latents_of(pipeline, images)
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = config.timesteps(step, torch.rand(len(latents), generator=generator))
    # the cells of smaller clips are as far apart as makes them fill the final picture (rotary ones always are)
    pipeline.transformer.patch_embed.spatial_interpolation_scale = config.scale(step)
    return velocity_errors(pipeline, latents, prompts, noise, timesteps).mean()


def latents_of(pipeline: Any, images: torch.Tensor) -> torch.Tensor:
    """Scaled latents (clip, frame, channel, y, x) of uint8 images (clip, image, y, x, 3), on the pipeline's device."""
    video = images.to(pipeline.transformer.device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return pipeline.vae.encode(video).latent_dist.mode().transpose(1, 2) * pipeline.vae.config.scaling_factor


def velocity_errors(
    pipeline: Any, latents: torch.Tensor, prompts: list[str], noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of the velocity of each clip, float32 (clip,), with that noise at that timestep."""
    device = pipeline.transformer.device
    noise, timesteps = noise.to(device), timesteps.to(device)
    words = pipeline.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    text = pipeline.text_encoder(words.to(device))[0]
    scheduler = pipeline.scheduler
    target = scheduler.get_velocity(latents, noise, timesteps)
    rotary = None
    if pipeline.transformer.config.use_rotary_positional_embeddings:
        pixels = (length * pipeline.vae_scale_factor_spatial for length in latents.shape[-2:])
        rotary = pipeline._prepare_rotary_positional_embeddings(*pixels, latents.shape[1], device)
    plain = PlainAttention() if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), plain:
        predicted = pipeline.transformer(
            hidden_states=scheduler.add_noise(latents, noise, timesteps),
            encoder_hidden_states=text,
            timestep=timesteps,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
    return (predicted.float() - target).square().flatten(1).mean(1)
