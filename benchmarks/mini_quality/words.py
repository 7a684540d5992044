"""Effect of the words of a prompt: ``python -m benchmarks.mini_quality.words --backbones mini mini-rope``.

The *swap test*: by how much the training loss of an unseen scene of one object grows when one word of its prompt is
replaced by another of its kind, with everything else (scene, noise, timestep) the same; at 0 the model does not read
the word. Beside it, the share of clips generated from these prompts that show the word, by plain computer vision.
Means over scenes with 95 % intervals. ``--images 1`` does the same with single images, which show no motion.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from benchmarks.mini_quality.accuracy import interval
from benchmarks.mini_quality.prompts import generated, measured
from probe import load_backbone
from probe.mini.family import GUIDANCE_SCALE
from probe.mini.training.objective import latents_of, velocity_errors
from store import make_scene
from store.scenes.prompt import DIRECTIONS, SHAPES, parse_prompt
from store.scenes.texture import COLOURS, PATTERNS

KINDS = ("colour", "shape", "direction", "pattern", "pan")
STILL_KINDS = ("colour", "shape", "pattern")
TIMESTEPS = (650, 700, 750, 800, 850, 900)
_BATCH = 16


def swapped(prompt: str, kind: str, rng: np.random.Generator) -> str | None:
    """The prompt with one word of that kind replaced by another, or None where it has none."""
    words = parse_prompt(prompt)
    thing = words.objects[0]
    if kind == "pattern":
        return str(replace(words, background_pattern=_other(PATTERNS, words.background_pattern, rng)))
    if kind == "pan":
        if words.camera.pan is None:
            return None
        return str(replace(words, camera=replace(words.camera, pan=_opposite(words.camera.pan))))
    changed = {
        "colour": lambda: replace(thing, colour=_other(COLOURS, thing.colour, rng, words.background_colour)),
        "shape": lambda: replace(thing, shape=_other(SHAPES, thing.shape, rng)),
        "direction": lambda: replace(thing, direction=_opposite(str(thing.direction))),
    }[kind]()
    return str(replace(words, objects=(changed, *words.objects[1:])))


def _other(options: Iterable[str], now: str | None, rng: np.random.Generator, *also: str) -> str:
    left = [word for word in options if word not in (now, *also)]
    return str(left[rng.integers(len(left))])


def _opposite(direction: str) -> str:
    return DIRECTIONS[(DIRECTIONS.index(direction) + 4) % len(DIRECTIONS)]


@torch.no_grad()
def errors(pipeline: Any, clips: list[np.ndarray], prompts: list[str], timestep: int) -> np.ndarray:
    """Error of each clip at a timestep; the noise of a clip is its number."""
    found = []
    for start in range(0, len(clips), _BATCH):
        latents = latents_of(pipeline, torch.from_numpy(np.stack(clips[start : start + _BATCH])))
        noise = torch.stack(
            [
                torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(start + number))
                for number in range(len(latents))
            ]
        )
        at = torch.full((len(latents),), timestep)
        found.append(velocity_errors(pipeline, latents, prompts[start : start + _BATCH], noise, at).numpy())
    return np.concatenate(found)


def word_rows(name: str, *, first: int, count: int, images: int) -> Iterator[str]:
    """A table of one backbone, a row for each kind of word, line by line."""
    backbone = load_backbone(name)
    backbone.pipeline.set_progress_bar_config(disable=True)
    scenes = [make_scene(seed, images, single=True) for seed in range(first, first + count)]
    prompts, clips = [str(scene.prompt) for scene in scenes], [scene.images for scene in scenes]
    right = {at: errors(backbone.pipeline, clips, prompts, at) for at in TIMESTEPS}
    shown = measured(list(generated(backbone, prompts, GUIDANCE_SCALE, images)), prompts)
    yield (
        f"| `{name}` | " + " | ".join(map(str, TIMESTEPS)) + " | generated, % |\n|---|" + "---|" * (1 + len(TIMESTEPS))
    )
    rng = np.random.default_rng(first)
    for kind in KINDS if images > 1 else STILL_KINDS:
        changed = [swapped(prompt, kind, rng) for prompt in prompts]
        kept = [number for number, prompt in enumerate(changed) if prompt is not None]
        wrong_prompts = [str(changed[number]) for number in kept]
        cells = []
        for at in TIMESTEPS:
            wrong = errors(backbone.pipeline, [clips[number] for number in kept], wrong_prompts, at)
            cells.append(interval(xr.DataArray(wrong - right[at][kept], dims="clip"), 4))
        cells.append(interval(100 * shown[kind].astype(float).dropna("clip")))
        yield f"| {kind} | " + " | ".join(cells) + " |"


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"], help="names or folders")
    parser.add_argument("--scenes", type=int, default=96)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first scene")
    parser.add_argument("--images", type=int, default=6)
    options = parser.parse_args(arguments)
    for name in options.backbones:
        for row in word_rows(name, first=options.first, count=options.scenes, images=options.images):
            print(row, flush=True)
        print()


if __name__ == "__main__":
    main()
