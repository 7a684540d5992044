"""Do generated clips show what their prompts say? Right colour, shape and direction by plain computer vision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
import xarray as xr

from analyses.scenes.prompt_agreement import agreement_dataset, prompt_agreement
from benchmarks.mini_quality.accuracy import interval
from probe import Backbone
from probe.mini.family import GUIDANCE_SCALE
from store import make_scene

SCALES = (1.0, 2.0, 4.0, 6.0, 8.0)
STEPS = 25
_BATCH = 20
_NAMES = ("colour", "shape", "direction", "background", "pattern", "pan")


def scenes_of(first: int, count: int, objects: int | None = None) -> list[tuple[str, np.ndarray]]:
    """Prompts and images of unseen scenes, all or those with that number of objects."""
    found: list[tuple[str, np.ndarray]] = []
    seed = first
    while len(found) < count:
        clip = make_scene(seed)
        prompt = clip.prompt or ""
        if objects is None or prompt.count(" moves ") == objects:
            found.append((prompt, clip.images))
        seed += 1
    return found


def generated(
    backbone: Backbone, prompts: Sequence[str], scale: float, images: int | None = None
) -> Iterator[np.ndarray]:
    """uint8 (image, y, x, 3) for each prompt, a batch at a time through the pipeline itself."""
    pipeline = backbone.pipeline
    height, width, usual = backbone.default_size
    for start in range(0, len(prompts), _BATCH):
        video = pipeline(
            prompt=list(prompts[start : start + _BATCH]),
            height=height,
            width=width,
            num_frames=images or usual,
            num_inference_steps=STEPS,
            guidance_scale=scale,
            generator=torch.Generator().manual_seed(start),
            output_type="np",
        ).frames
        yield from np.round(np.asarray(video) * 255).astype(np.uint8)


@lru_cache(maxsize=2)
def clips_of(backbone: Backbone, prompts: tuple[str, ...], scale: float) -> list[np.ndarray]:
    """:func:`generated` as a list, made once for all the tables of one run."""
    return list(generated(backbone, prompts, scale))


def _row(label: str, found: xr.Dataset) -> str:
    return f"| {label} | " + " | ".join(interval(100 * found[name].astype(float)) for name in _NAMES) + " |"


def measured(clips: Sequence[np.ndarray], prompts: Sequence[str]) -> xr.Dataset:
    return agreement_dataset([prompt_agreement(clip, prompt) for clip, prompt in zip(clips, prompts, strict=True)])


def prompt_rows(backbone: Backbone, *, first: int, count: int, scales: Sequence[float] = SCALES) -> Iterator[str]:
    """A table over guidance scales, line by line, with what the measurement finds in true and in wrong clips."""
    backbone.pipeline.set_progress_bar_config(disable=True)
    yield (
        f"{count} prompts of one object from unseen scenes, {STEPS} steps; right of all, %, with 95 % intervals over "
        "prompts. A direction is right within 45 degrees; one in four is right by chance, one colour in ten.\n\n"
        "| clips | colour | shape | direction | background | pattern | camera pan |\n|---|---|---|---|---|---|---|"
    )
    single = scenes_of(first, count, 1)
    prompts, drawn = [prompt for prompt, _ in single], [images for _, images in single]
    yield _row("drawn scenes (how good the measurement is)", measured(drawn, prompts))
    yield _row("drawn scenes, prompts of others (chance)", measured(drawn, prompts[1:] + prompts[:1]))
    for scale in scales:
        yield _row(f"guidance {scale:g}", measured(clips_of(backbone, tuple(prompts), scale), prompts))
    several = scenes_of(first, count)
    mixed = [prompt for prompt, _ in several]
    yield _row("one to three objects, drawn scenes", measured([images for _, images in several], mixed))
    clips = list(generated(backbone, mixed, GUIDANCE_SCALE))
    yield _row(f"one to three objects, guidance {GUIDANCE_SCALE:g}", measured(clips, mixed))
