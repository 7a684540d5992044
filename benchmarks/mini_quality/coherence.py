"""Do generated objects stay themselves, do open prompts vary, and are the clips copies of training scenes?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import xarray as xr

from analyses.scenes.coherence import object_coherence
from analyses.scenes.prompt_agreement import PromptAgreement, agreement_dataset, prompt_agreement
from benchmarks.mini_quality.accuracy import interval
from benchmarks.mini_quality.prompts import clips_of, generated, scenes_of
from probe import Backbone
from probe.mini.family import GUIDANCE_SCALE
from store import make_scene
from store.scenes.prompt import PARTS, direction_word, parse_prompt
from store.scenes.scene import FIRST_TRAINING_SEED

_MEASURES = ("outline", "area_drift", "warping_error", "second_copy")


def coherence_row(label: str, clips: Sequence[np.ndarray]) -> str:
    """One row: every measure with its interval over clips, in percent."""
    found = [asdict(object_coherence(clip)) for clip in clips]
    columns = [xr.DataArray([100 * one[name] for one in found], dims="clip") for name in _MEASURES]
    return f"| {label} | " + " | ".join(interval(column.dropna("clip")) for column in columns) + " |"


def coherence_rows(backbone: Backbone, *, first: int, count: int) -> Iterator[str]:
    """A table of prompts of one object, drawn and generated."""
    backbone.pipeline.set_progress_bar_config(disable=True)
    single = scenes_of(first, count, 1)
    yield (
        f"{count} prompts of one object from unseen scenes, guidance {GUIDANCE_SCALE:g}; %, with 95 % intervals over "
        "clips. Higher is better for the outline, lower for the others.\n\n"
        "| clips | outline kept | area drift | warping error | second copy |\n|---|---|---|---|---|"
    )
    yield coherence_row("drawn scenes", [images for _, images in single])
    yield coherence_row(backbone.name, clips_of(backbone, tuple(prompt for prompt, _ in single), GUIDANCE_SCALE))


def open_rows(backbone: Backbone, *, first: int, count: int, draws: int = 4) -> Iterator[str]:
    """Prompts with each part left open alone, and all together: what is said holds, and what is open varies."""
    backbone.pipeline.set_progress_bar_config(disable=True)
    full = [parse_prompt(prompt) for prompt, _ in _moving_cameras(first, count)]
    yield (
        f"{count} prompts of one object and a panning camera with {draws} noises each, guidance {GUIDANCE_SCALE:g}; of "
        "what is said, right clips, %; of what is left open, the mean number of different answers among the noises "
        f"of a prompt, 1 to {draws} (drawn scenes in brackets).\n\n"
        "| left open | colour | shape | direction | background | pattern | camera pan | different answers |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for left in ((), *((part,) for part in PARTS), PARTS):
        prompts = [str(words.leave_open(left)) for words in full for _ in range(draws)]
        clips = list(generated(backbone, prompts, GUIDANCE_SCALE))
        seen = [prompt_agreement(clip, prompt) for clip, prompt in zip(clips, prompts, strict=True)]
        true = [make_scene(seed, prompt=prompt).images for seed, prompt in enumerate(prompts)]
        drawn = [prompt_agreement(clip, prompt) for clip, prompt in zip(true, prompts, strict=True)]
        spread = ", ".join(
            f"{part} {_answers(seen, part, draws):.1f} ({_answers(drawn, part, draws):.1f})" for part in left
        )
        yield f"| {', '.join(left) or 'nothing'} | {_right(seen)} | {spread or 'none'} |"


def _moving_cameras(first: int, count: int) -> list[tuple[str, np.ndarray]]:
    """Scenes of one object whose camera pans."""
    chosen = [pair for pair in scenes_of(first, 4 * count, 1) if parse_prompt(pair[0]).camera.pan]
    return chosen[:count]


def _right(seen: list[PromptAgreement]) -> str:
    found = agreement_dataset(seen)
    cells = []
    for name in ("colour", "shape", "direction", "background", "pattern", "pan"):
        values = 100 * found[name].astype(float).dropna("clip")
        cells.append(interval(values) if values.sizes["clip"] else "open")
    return " | ".join(cells)


def _answers(seen: list[PromptAgreement], part: str, draws: int) -> float:
    """Mean number of different answers to what a prompt leaves open, over prompts."""
    answers = [_answer(one, part) for one in seen]
    return float(np.mean([len({*answers[start : start + draws]}) for start in range(0, len(answers), draws)]))


def _answer(seen: PromptAgreement, part: str) -> str | None:
    if part == "pattern":
        return seen.pattern_seen
    if part == "shape":
        return seen.objects[0].shape_seen
    motion = np.array(seen.pan if part == "camera" else seen.objects[0].motion)
    if not np.isfinite(motion).all() or np.hypot(*motion) < seen.min_motion:
        return None
    return direction_word(motion)


def memory_rows(backbone: Backbone, *, first: int, count: int, training: int, training_seed: int = 0) -> Iterator[str]:
    """Distance of generated clips, and of unseen scenes, to the nearest of many training scenes.

    A model that copies is nearer to what it was trained on than scenes that nobody trained on are.
    """
    backbone.pipeline.set_progress_bar_config(disable=True)
    single = scenes_of(first, count, 1)
    start = FIRST_TRAINING_SEED + training_seed * 2**32
    seen = np.stack([_small(make_scene(start + seed, 1).images[0]) for seed in range(training)])
    clips = clips_of(backbone, tuple(prompt for prompt, _ in single), GUIDANCE_SCALE)
    yield (
        f"First images of {count} clips against those of {training} scenes from seed {start} on: root mean squared "
        "difference to the nearest, grey levels of 255, after averaging 2 x 2 pixels.\n\n"
        "| clips | nearest training scene | smallest |\n|---|---|---|"
    )
    for label, group in (("unseen scenes", [images for _, images in single]), (backbone.name, clips)):
        nearest = np.array([_nearest(_small(clip[0]), seen) for clip in group])
        yield f"| {label} | {interval(xr.DataArray(nearest, dims='clip'))} | {nearest.min():.1f} |"


def _small(image: np.ndarray) -> np.ndarray:
    height, width = (length // 2 for length in image.shape[:2])
    blocks = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
    return blocks.mean((1, 3), dtype=np.float32).ravel()


def _nearest(image: np.ndarray, others: np.ndarray) -> float:
    return float(np.sqrt(np.square(others - image).mean(1).min()))
