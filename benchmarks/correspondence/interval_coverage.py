"""Coverage of the 95 % intervals: ``python -m benchmarks.correspondence.interval_coverage``.

A sweep of 300 scenes by a bundled backbone is the population. Samples of it are drawn with replacement, as from a
population without end, and their intervals are compared with the value of the population. Drawn without replacement, a
sample of 48 would already hold a sixth of the population, and its intervals would look better than they are. Over 300
repeats the error of a percentage is 1 to 3 points.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import xarray as xr

from analyses.layers.sweep import sweep
from analyses.selection.select import select_layers
from analyses.statistics import bootstrap_mean
from probe import load_backbone
from probe.mini import BUNDLED
from store import Selection, make_scene

FIRST, LATE = 2000, 49
SIZES = (3, 5, 8, 16, 24, 48)


def drawn_clips(population: xr.Dataset, clips: int, rng: np.random.Generator) -> xr.Dataset:
    """Clips drawn with replacement; a clip that is drawn twice counts as two.

    Parameters
    ----------
    population : Dataset of :func:`analyses.layers.sweep.sweep`, one window for each clip
    clips : how many
    rng : numpy.random.Generator
    """
    drawn = population.isel(clip=rng.integers(population.sizes["clip"], size=clips))
    names = [f"draw {number}" for number in range(clips)]
    return drawn.assign_coords(clip=names, source=("clip", names))


def coverage(population: xr.Dataset, clips: int, repeats: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Fraction of intervals that hold the truth: accuracy of the best layer; its harmonic mean; the other layers'."""
    truth = select_layers(population, 1, samples=1)
    best = int(truth.scores["mean"].idxmax("layer"))
    accuracy = population["accuracy"].sel(layer=best, step=LATE).mean()
    held: list[list[float]] = []
    for _ in range(repeats):
        sample = drawn_clips(population, clips, rng)
        low, high = bootstrap_mean(sample["accuracy"].sel(layer=best, step=LATE), resamples=1000)
        scores = select_layers(sample, 1, samples=500).scores
        inside = (scores["low"] <= truth.scores["mean"]) & (truth.scores["mean"] <= scores["high"])
        held.append(
            [
                float(low <= accuracy <= high),
                float(inside.sel(layer=best)),
                float(inside.drop_sel(layer=best).mean()),
            ]
        )
    found = np.mean(held, axis=0)
    return float(found[0]), float(found[1]), float(found[2])


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="mini", choices=list(BUNDLED))
    parser.add_argument("--scenes", type=int, default=300, help="size of the population")
    parser.add_argument("--first", type=int, default=FIRST, help="seed of its first scene")
    parser.add_argument("--repeats", type=int, default=300, help="samples of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="clips of a sample")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.perf_counter()
    clips = {f"scene {seed}": make_scene(seed) for seed in range(given.first, given.first + given.scenes)}
    steps = Selection([0, 20, LATE], "all")
    population = sweep(load_backbone(given.backbone), clips, steps, threshold_cells=1.0, features=False)
    rng = np.random.default_rng(0)
    print(f"{given.scenes} scenes, {given.repeats} samples of each size, drawn with replacement.\n")
    print("| clips | accuracy of the best layer | its harmonic mean | other layers' harmonic mean |")
    print("|---:|---:|---:|---:|", flush=True)
    for count in given.sizes:
        found = coverage(population, count, given.repeats, rng)
        print(f"| {count} | " + " | ".join(f"{100 * fraction:.0f} %" for fraction in found) + " |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
