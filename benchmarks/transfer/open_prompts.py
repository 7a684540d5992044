"""Clips of the plain backbones for the prompts that motion is transferred to, which leave the motion open.

Such prompts ("a red disc over blue stripes") are outside the grammar that the bundled backbones were trained on, so
every row of the transfer tables, the plain backbone's too, is measured outside the training distribution.
"""

from __future__ import annotations

import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xarray as xr

from analyses.scenes.object_motion import object_motion
from analyses.scenes.prompt_agreement import LEAST_MOTION, angle_to_word, prompt_agreement
from benchmarks.results import one_thread
from benchmarks.tables import against_table, means_table
from benchmarks.transfer.clips import Case
from benchmarks.transfer.runs import STEPS
from probe import Backbone, load_backbone
from probe.mini.family import GUIDANCE_SCALE
from store import make_scene
from store.scenes.prompt import DIRECTIONS, PromptWarning, ScenePrompt

OPEN, CLOSED, DRAWN = "motion left open", "direction in the prompt", "drawn scenes"
METRICS = {
    "motion": ("object moves, px", 1),
    "rest": ("object rests, %", 1),
    "colour": ("colour right, %", 1),
    "background": ("background right, %", 1),
}
FURTHER_NOISE = 100_000
"""Between the seeds of the clips of one prompt; the first is the case's own, that of the other transfer tables."""


@dataclass(frozen=True)
class OpenRun:
    """A clip of the plain backbone for the words of a case, with its direction or without."""

    backbone: str
    case: Case
    seed: int
    left_open: bool

    def measure(self) -> tuple[dict[str, float], str]:
        """The :data:`METRICS`, and which way the object goes: one of eight directions, "rests" or "not seen"."""
        words = self.case.words
        prompt = self.case.new if self.left_open else str(words)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptWarning)
            clip = _backbone(self.backbone).generate(prompt, seed=self.seed, steps=STEPS, guidance_scale=GUIDANCE_SCALE)
        return measured(clip.images, words)


def measured(images: np.ndarray, words: ScenePrompt) -> tuple[dict[str, float], str]:
    """The :data:`METRICS` of a clip, NaN for the motion where no object is seen, and which way the object goes."""
    seen = prompt_agreement(images, words)
    found = object_motion(images, colour=words.objects[0].colour)
    motion = found.path[-1]
    length = float(np.linalg.norm(motion))
    rests = length < LEAST_MOTION * min(found.size)
    way = "not seen" if not found.found else "rests" if rests else _nearest_word((float(motion[0]), float(motion[1])))
    return {
        "motion": length,
        "rest": 100.0 * rests if found.found else np.nan,
        "colour": 100.0 * seen.objects[0].colour_right,
        "background": 100.0 * seen.background_right,
    }, way


def _nearest_word(motion: tuple[float, float]) -> str:
    return min(DIRECTIONS, key=lambda word: angle_to_word(motion, word))


@lru_cache
def _backbone(name: str) -> Backbone:
    return load_backbone(name)


def open_report(backbone: str, cases: list[Case], *, clips: int, workers: int) -> str:
    """Tables of one backbone: clips of open prompts beside those of the same words with a direction.

    Parameters
    ----------
    backbone : name of a bundled backbone
    cases : whose new prompts are taken
    clips : of each prompt, of different noise; their mean counts as one
    workers : processes of one thread each
    """
    rows = {CLOSED: False, OPEN: True}
    runs = {
        label: [
            OpenRun(backbone, case, case.seed + FURTHER_NOISE * number, left_open)
            for case in cases
            for number in range(clips)
        ]
        for label, left_open in rows.items()
    }
    with ProcessPoolExecutor(workers, initializer=one_thread) as pool:
        found = {label: list(pool.map(OpenRun.measure, each, chunksize=4)) for label, each in runs.items()}
    drawn = [measured(make_scene(case.seed, prompt=str(case.words)).images, case.words) for case in cases]
    table = xr.concat(
        [_row(DRAWN, drawn, len(cases)), *(_row(label, each, len(cases)) for label, each in found.items())], "row"
    )
    ways = Counter(way for _, way in found[OPEN])
    counted = ", ".join(f"{way} {ways[way]}" for way in (*DIRECTIONS, "rests", "not seen") if ways[way])
    return "\n\n".join(
        [
            f"{len(cases)} prompts (seeds {cases[0].seed} to {cases[-1].seed}), {clips} clips each, {STEPS} steps, "
            f"guidance {GUIDANCE_SCALE:g}. An object rests that moves by less than {LEAST_MOTION:.0%} of the image.",
            means_table(table, METRICS, missing="prompts with no object seen"),
            against_table(table, CLOSED, METRICS, rows=[OPEN]),
            f"Which way the object goes where the prompt leaves it open, clips: {counted}.",
        ]
    )


def _row(label: str, found: list[tuple[dict[str, float], str]], prompts: int) -> xr.DataArray:
    """(row, clip, metric): the mean over the clips of each prompt, of those in which the metric could be measured."""
    values = np.reshape([list(metrics.values()) for metrics, _ in found], (prompts, -1, len(METRICS)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a prompt none of whose clips shows an object
        means = np.nanmean(values, axis=1)
    return xr.DataArray(means[None], {"row": [label], "metric": list(METRICS)}, ("row", "clip", "metric"))
