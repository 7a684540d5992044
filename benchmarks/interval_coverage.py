"""How often the 95 % intervals hold the truth: ``python -m benchmarks.interval_coverage``.

A sweep of 300 scenes by the bundled backbone is the population. Small samples of it are drawn without replacement, 300
times each, and their intervals are compared with the value of the population. The error of a share is about 1 to 3
points.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyses.clips import bootstrap_mean
from analyses.selection import select_layers
from analyses.sweep import sweep
from probe import load_backbone
from store import Selection, make_scene

FIRST, SCENES, REPEATS = 2000, 300, 300
SIZES = (3, 5, 8, 16, 24, 48)
LATE = 49


def coverage(population: xr.Dataset, clips: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Share of intervals that hold the truth: accuracy of the best layer; its harmonic mean; the other layers'."""
    truth = select_layers(population, 1, samples=1)
    best = truth.layers[0]
    accuracy = population["accuracy"].sel(layer=best, step=LATE)
    held: list[list[bool]] = []
    for _ in range(REPEATS):
        drawn = rng.choice(SCENES, clips, replace=False)
        low, high = bootstrap_mean(accuracy.isel(clip=drawn), resamples=1000)
        scores = select_layers(population.isel(clip=drawn), 1, samples=500).scores
        inside = (scores["low"] <= truth.scores["mean"]) & (truth.scores["mean"] <= scores["high"])
        winner = bool(inside.sel(layer=best))
        others = float(inside.drop_sel(layer=best).mean())
        held.append([bool(low <= accuracy.mean() <= high), winner, others])
    return tuple(np.mean(held, axis=0).tolist())


def main() -> None:
    """Print the table."""
    clips = {f"scene {seed}": make_scene(seed) for seed in range(FIRST, FIRST + SCENES)}
    steps = Selection([0, 20, LATE], "all")
    population = sweep(load_backbone("mini"), clips, steps, threshold_cells=1.0, features=False)
    rng = np.random.default_rng(0)
    print("| clips | accuracy of the best layer | its harmonic mean | other layers' harmonic mean |")
    print("|---:|---:|---:|---:|")
    for count in SIZES:
        print(f"| {count} | " + " | ".join(f"{100 * share:.0f} %" for share in coverage(population, count, rng)) + " |")


if __name__ == "__main__":
    main()
