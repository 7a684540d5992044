"""Do the motion metrics tell clips of the same motion from others? On drawn scenes, where the motion is known.

``python -m benchmarks.flow.motion_metrics`` prints the error of the measured path of an object, and how well each
metric tells a clip with the reference's motion, but another object and background, from one that moves elsewhere.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyses.metrics.end_point import end_point_error
from analyses.metrics.hybrid_fidelity import hybrid_motion_fidelity
from analyses.metrics.motion_fidelity import motion_fidelity
from analyses.scenes.object_motion import ObjectMotion, motion_error, moving_apart, object_motion
from analyses.statistics import bootstrap_mean, draw_clips, interval_levels
from analyses.trackers.optical_flow import FlowTracker
from store import Clip, make_scene
from store.scenes.prompt import DIRECTIONS, SHAPES
from store.scenes.texture import COLOURS, PATTERNS
from store.tracks.queries import grid_queries

GRID = 10
_BACKGROUNDS = tuple(PATTERNS)


@dataclass(frozen=True)
class Measured:
    """A clip and what the metrics need of it."""

    clip: Clip
    motion: ObjectMotion
    tracks: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, seed: int, prompt: str) -> Measured:
        clip = make_scene(seed, prompt=prompt)
        queries = grid_queries(GRID, clip.height, clip.width)
        return cls(clip, object_motion(clip), FlowTracker()(clip.images, queries).tracks, np.asarray(clip.tracks))

    @property
    def box(self) -> np.ndarray:
        """(point,) bool: the points of the grid in the box around what moves by itself in image 0."""
        start = self.known[0][moving_apart(self.known)]
        x, y = grid_queries(GRID, self.clip.height, self.clip.width)[:, 1:].T
        low, high = start.min(0), start.max(0)
        return (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])


def true_path(tracks: np.ndarray) -> np.ndarray:
    """(image, 2): the mean of the tracks of the object, less its start."""
    centre = tracks[:, moving_apart(tracks)].mean(1)
    return np.asarray(centre - centre[0])


def prompts(rng: np.random.Generator, direction: str, pan: bool) -> Iterator[str]:
    """Prompts of one object in the same direction, all else drawn again; two in a row share no colour and no shape."""
    while True:
        colours, shapes = rng.permutation(list(COLOURS)), rng.permutation(SHAPES)
        for turn in range(2):
            background = f"{colours[2 * turn + 1]} {rng.choice(_BACKGROUNDS)}"
            camera = f" while the camera pans {rng.choice(DIRECTIONS)}" if pan else ""
            yield f"a {colours[2 * turn]} {shapes[turn]} moves {direction} over {background}{camera}"


def ceiling_lines(count: int, first: int) -> list[str]:
    """The error of :func:`object_motion` on scenes of one object."""
    lines = [
        "| camera | scenes | object found | error, px | relative, % | 95 % of scenes below, % |",
        "|" + 6 * " --- |",
    ]
    for pan in (False, True):
        rng = np.random.default_rng(first)
        pixels, relative = [], []
        for seed in range(first, first + count):
            clip = make_scene(seed, prompt=next(prompts(rng, rng.choice(DIRECTIONS), pan)), cell=1.0)
            found = object_motion(clip)
            if found.found and clip.tracks is not None:
                error = end_point_error(found.path[:, None], true_path(clip.tracks)[:, None])
                pixels.append(error.pixels)
                relative.append(100 * error.relative)
        cells = [f"{len(pixels)}", with_interval(pixels), with_interval(relative), f"{np.quantile(relative, 0.95):.1f}"]
        lines.append(f"| {'pans' if pan else 'still'} | {count} | " + " | ".join(cells) + " |")
    return lines


def with_interval(values: list[float]) -> str:
    """ "mean (lower-upper)" over clips."""
    array = xr.DataArray(values, dims="clip")
    low, high = bootstrap_mean(array)
    return f"{float(array.mean()):.2f} ({float(low):.2f}-{float(high):.2f})"


def scores(clip: Measured, reference: Measured) -> dict[str, float]:
    """Every metric, the larger the more alike."""
    size = (clip.clip.height, clip.clip.width)
    box = reference.box
    boxed = (clip.tracks[:, box], reference.tracks[:, box])
    return {
        "motion error, relative": -motion_error(clip.motion, reference.motion).relative,
        "motion fidelity, optical flow": motion_fidelity(clip.tracks, reference.tracks),
        "the same, box of the reference's object": motion_fidelity(*boxed) if box.any() else math.nan,
        "the same, preset ditflow": motion_fidelity(clip.tracks, reference.tracks, preset="ditflow"),
        "motion fidelity, true tracks": motion_fidelity(clip.known, reference.known),
        "hybrid, optical flow": hybrid_motion_fidelity(clip.tracks, reference.tracks, size=size),
        "the same, box of the reference's object ": (
            hybrid_motion_fidelity(*boxed, size=size) if box.any() else math.nan
        ),
        "the same, preset det": hybrid_motion_fidelity(clip.tracks, reference.tracks, size=size, preset="det"),
    }


def kinds_of(seed: int, pan: bool) -> dict[str, dict[str, float]]:
    """For one reference, the scores of a clip of its very path, of one of its word, and of one that goes elsewhere."""
    rng = np.random.default_rng(seed)
    number = int(rng.integers(len(DIRECTIONS)))
    same = prompts(rng, DIRECTIONS[number], pan)
    other = DIRECTIONS[(number + int(rng.integers(2, 7))) % len(DIRECTIONS)]  # 90 degrees off, or more
    reference = Measured.of(seed, next(same))
    return {
        "path": scores(Measured.of(seed, next(same)), reference),
        "word": scores(Measured.of(seed + 100_000, next(same)), reference),
        "other": scores(Measured.of(seed + 200_000, next(prompts(rng, other, pan))), reference),
    }


def separation(alike: np.ndarray, other: np.ndarray, resamples: int = 2000) -> tuple[float, float, float]:
    """The area under the ROC curve with a 95 % interval over references; NaN counts as least alike."""
    alike, other = (np.where(np.isfinite(one), one, -np.inf) for one in (alike, other))
    above = (alike[:, None] > other) + 0.5 * (alike[:, None] == other)
    draws = draw_clips(len(alike), resamples, 0) / len(alike)
    resampled = np.einsum("si,ij,sj->s", draws, above, draws)
    low, high = np.quantile(resampled, interval_levels(len(alike)))
    return float(above.mean()), float(low), float(high)


def separation_lines(count: int, first: int, pan: bool) -> list[str]:
    """A row for each metric."""
    found = [kinds_of(seed, pan) for seed in range(first, first + count)]
    lines = [
        "| metric | mean: same path | same word | elsewhere | AUC same path | AUC same word | NaN |",
        "|" + 7 * " --- |",
    ]
    for metric in found[0]["path"]:
        values = {kind: np.array([each[kind][metric] for each in found]) for kind in ("path", "word", "other")}
        means = [f"{np.nanmean(one):.3f}" if np.isfinite(one).any() else "-" for one in values.values()]
        areas = [separation(values[kind], values["other"]) for kind in ("path", "word")]
        missing = sum(int((~np.isfinite(one)).sum()) for one in values.values())
        cells = means + [f"{area:.3f} ({low:.3f}-{high:.3f})" for area, low, high in areas]
        lines.append(f"| {metric.strip()} | " + " | ".join(cells) + f" | {missing} |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=100, help="scenes of the first table")
    parser.add_argument("--references", type=int, default=60, help="references of the second")
    parser.add_argument("--first", type=int, default=500_000, help="first seed")
    given = parser.parse_args()
    started = time.perf_counter()
    print(f"The measured path of the object, seeds from {given.first}\n")
    print("\n".join(ceiling_lines(given.scenes, given.first)), flush=True)
    for pan in (False, True):
        print(f"\n{given.references} references, the camera {'pans at random' if pan else 'stands still'}\n")
        print("\n".join(separation_lines(given.references, given.first, pan)), flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
