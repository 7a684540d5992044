"""Effect of cross-attention guidance on clips of the bundled backbones: ``python -m benchmarks.guidance``.

Clips of the same prompts and noise without it, with it in the layers that selection found, and, as a control, in those
that find the fewest moving points.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xarray as xr
from scipy import ndimage

from analyses.layers.sweep import sweep
from analyses.scenes.object_motion import object_motion
from analyses.scenes.prompt_agreement import prompt_agreement
from analyses.scenes.vision import see_scene
from analyses.selection.select import select_layers
from analyses.trackers.optical_flow import FlowTracker
from benchmarks.mini_quality.accuracy import scenes
from benchmarks.mini_quality.prompts import scenes_of
from benchmarks.results import one_thread
from benchmarks.tables import against_table, means_table
from generators.guidance.cross_attention import CrossAttentionGuidance
from generators.sampling.sample import sample
from probe import Backbone, load_backbone
from probe.mini import BUNDLED
from probe.mini.family import GUIDANCE_SCALE
from store import Selection
from store.tracks.queries import grid_queries

STEPS = 25
WITHOUT, DRAWN = "without", "drawn scenes"
RANKED_ON = (1000, 24)
"""First seed and number of the scenes that layers are ranked on."""

METRICS = {
    "warping": ("warping error, levels of 255", 2),
    "drift": ("colour drift of the object, levels", 2),
    "clipped": ("values at an end of the scale, %", 1),
    "area": ("variation of its area, %", 1),
    "colour": ("colour right, %", 1),
    "direction": ("direction right, %", 1),
    "background": ("background right, %", 1),
    "moved": ("object moves, px", 1),
}


@dataclass(frozen=True)
class Guided:
    """Settings of a guided clip: the layers of CAG, none without it, and its scale."""

    layers: tuple[int, ...] = ()
    scale: float = 1.0


def ranking(backbone: Backbone) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """All layers, best first, as layer selection ranks them on scenes of their own; and by moving accuracy.

    The harmonic mean does not order the last ones: in a sweep of one step, each layer that holds the least of one of
    its three measures is 0. So the control is taken from the layers that find the fewest moving points.
    """
    found = sweep(backbone, scenes(*RANKED_ON), Selection(steps=[-1], layers="all"))
    moving = select_layers(found, criterion="accuracy", accuracy="moving")
    return select_layers(found).ranked, moving.ranked


def settings(layers: Sequence[int], by_moving: Sequence[int]) -> dict[str, Guided]:
    """Rows of the table for a ranking of layers, and for one by moving accuracy, whose last ones are the control."""
    best, worst = layers[:2], by_moving[-2:]
    rows = {WITHOUT: Guided()}
    for scale in (0.5, 1.0, 2.0):
        rows[f"layer {best[0]}, scale {scale:g}"] = Guided(best[:1], scale)
    rows[f"layers {best[0]} and {best[1]}"] = Guided(tuple(best))
    for scale in (1.0, 2.0):
        rows[f"control: layer {worst[1]}, scale {scale:g}"] = Guided(worst[1:], scale)
    rows[f"control: layers {worst[0]} and {worst[1]}"] = Guided(tuple(worst))
    return rows


@lru_cache
def _backbone(name: str) -> Backbone:
    return load_backbone(name)


def measured(name: str, prompt: str, seed: int, guided: Guided, guidance: float) -> list[float]:
    """The :data:`METRICS` of one clip."""
    strategy = CrossAttentionGuidance(guided.layers, guided.scale) if guided.layers else ()
    clip = sample(_backbone(name), prompt, strategy, seed=seed, steps=STEPS, guidance_scale=guidance)
    return list(measure(clip.images, prompt).values())


def measure(images: np.ndarray, prompt: str) -> dict[str, float]:
    """Consistency from image to image, and whether the clip shows what its prompt says."""
    seen = prompt_agreement(images, prompt)
    path = object_motion(images, colour=seen.prompt.objects[0].colour)
    drift, area = _steadiness(images)
    return {
        "warping": warping_error(images),
        "drift": drift,
        "clipped": float(100 * np.isin(images, (0, 255)).mean()),
        "area": area,
        "colour": 100.0 * seen.objects[0].colour_right,
        "direction": 100.0 * seen.objects[0].direction_right,
        "background": 100.0 * seen.background_right,
        "moved": float(np.linalg.norm(path.path[-1])),
    }


def warping_error(images: np.ndarray) -> float:
    """Mean absolute difference between each image and the next one at the places that optical flow leads to.

    In levels of 0 to 255, over a grid of points that the flow does not lose (Lai et al., ECCV 2018, with DIS flow).
    """
    height, width = images.shape[1:3]
    differences = []
    for first in range(len(images) - 1):
        pair = images[first : first + 2].astype(float)
        points = grid_queries(min(height, width), height, width)
        found = FlowTracker()(images[first : first + 2], points)
        here, there = (_at(pair[number], found.tracks[number]) for number in (0, 1))
        differences.append(np.abs(here - there)[found.visibility[1]])
    return float(np.concatenate(differences).mean())


def _at(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(point, 3): colours at (x, y) in pixels, where the centre of the first pixel is at 0.5."""
    x, y = points.T - 0.5
    return np.stack([ndimage.map_coordinates(image[..., one], (y, x), order=1, mode="nearest") for one in range(3)], -1)


def _steadiness(images: np.ndarray) -> tuple[float, float]:
    """Deviation of the object's mean colour from its mean in time, and the variation of its area."""
    objects = see_scene(images).objects
    if not objects:
        return float("nan"), float("nan")
    mask = objects[0].mask
    shown = [number for number in range(len(images)) if mask[number].any()]
    colours = np.array([images[number][mask[number]].mean(0) for number in shown])
    areas = mask.sum((1, 2)).astype(float)
    return float(np.abs(colours - colours.mean(0)).mean()), float(100 * areas.std() / areas.mean())


def report(name: str, *, first: int, count: int, guidance: float, workers: int) -> str:
    """The tables of one backbone as Markdown."""
    layers, by_moving = ranking(load_backbone(name))
    shown = scenes_of(first, count, 1)
    rows = settings(layers, by_moving)
    tasks = [
        (name, prompt, seed, guided, guidance) for guided in rows.values() for seed, (prompt, _) in enumerate(shown)
    ]
    with ProcessPoolExecutor(workers, initializer=one_thread) as pool:
        values = list(pool.map(measured, *zip(*tasks, strict=True)))
    drawn = [list(measure(images, prompt).values()) for prompt, images in shown]
    coords = {"row": [DRAWN, *rows], "metric": list(METRICS)}
    shape = (len(rows) + 1, count, len(METRICS))
    found = xr.DataArray(np.reshape(drawn + values, shape), coords, ("row", "clip", "metric"))
    ranked, moving = (", ".join(map(str, order)) for order in (layers, by_moving))
    about = (
        f"{count} prompts of one object, {STEPS} steps, guidance {guidance:g}. Layers, best first: {ranked}; by "
        f"accuracy on moving points: {moving}."
    )
    tables = means_table(found, METRICS, missing="not measured"), against_table(found, WITHOUT, METRICS, rows=rows)
    return "\n\n".join([about, *tables])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini"], choices=list(BUNDLED))
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--first", type=int, default=5000, help="seed of the first scene whose prompt is taken")
    parser.add_argument("--guidance", type=float, default=GUIDANCE_SCALE, help="classifier-free guidance")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    given = parser.parse_args()
    began = time.perf_counter()
    what = {"first": given.first, "count": given.prompts, "guidance": given.guidance, "workers": given.workers}
    for name in given.backbones:
        print(f"\n## {name}\n\n{report(name, **what)}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
