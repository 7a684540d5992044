"""Effect of the words of a prompt: ``python -m benchmarks.mini_quality.words --backbones mini mini-rope``.

The *swap test*: by how much the training loss of an unseen scene grows when one word of its prompt is replaced by
another of its kind, with everything else (noise, timestep, scene) the same. At 0 the model does not read the word. The
scenes are clips of one object as they are and, in the rows "alike", clips whose words alone decide where everything is
(``spread=0`` of :func:`store.make_scene`). Means over scenes with 95 % intervals.
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
from probe.mini import load_mini
from probe.mini.training.objective import latents_of, velocity_errors
from store import make_scene
from store.scenes.prompt import DIRECTIONS, SHAPES, parse_prompt
from store.scenes.texture import COLOURS, PATTERNS

KINDS = ("colour", "shape", "direction", "pattern", "pan")
TIMESTEPS = (700, 800, 900, 960)
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


def word_rows(name: str, *, first: int, count: int) -> Iterator[str]:
    """A table of one backbone, a row for each kind of word, line by line."""
    pipeline = load_mini(name)
    yield f"| `{name}` | " + " | ".join(map(str, TIMESTEPS)) + " |\n|---|" + "---|" * len(TIMESTEPS)
    for label, spread in (("", 1.0), (", alike", 0.0)):
        scenes = [make_scene(seed, single=True, spread=spread) for seed in range(first, first + count)]
        prompts, clips = [str(scene.prompt) for scene in scenes], [scene.images for scene in scenes]
        right = {at: errors(pipeline, clips, prompts, at) for at in TIMESTEPS}
        rng = np.random.default_rng(first)
        for kind in KINDS:
            changed = [swapped(prompt, kind, rng) for prompt in prompts]
            kept = [number for number, prompt in enumerate(changed) if prompt is not None]
            wrong_prompts = [str(changed[number]) for number in kept]
            cells = []
            for at in TIMESTEPS:
                wrong = errors(pipeline, [clips[number] for number in kept], wrong_prompts, at)
                cells.append(interval(xr.DataArray(wrong - right[at][kept], dims="clip"), 4))
            yield f"| {kind}{label} | " + " | ".join(cells) + " |"


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"], help="names or folders")
    parser.add_argument("--scenes", type=int, default=96)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first scene")
    options = parser.parse_args(arguments)
    for name in options.backbones:
        for row in word_rows(name, first=options.first, count=options.scenes):
            print(row, flush=True)
        print()


if __name__ == "__main__":
    main()
