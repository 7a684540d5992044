"""Error of attention motion flow on unseen scenes: ``python -m benchmarks.flow.accuracy``.

The flow from frame 0 to every later frame at the cells whose centre is visible in both, against the true displacement
of that centre; end-point error in cells, averaged over the cells of a scene, then over scenes, with 95 % bootstrap
intervals over scenes. Beside it stands the error of zero flow, and everything again for the cells that move by more
than one cell. Clean latents, empty prompt.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import xarray as xr

from analyses.flow.reference_flow import reference_flow
from analyses.statistics import bootstrap_mean
from benchmarks.mini_quality.accuracy import scenes
from probe import Backbone, load_backbone
from store import Clip, TokenLayout

STEPS: tuple[int | None, ...] = (None, 46, 25)
FIRST, COUNT = 2000, 30


def true_flow(clip: Clip, layout: TokenLayout) -> tuple[np.ndarray, np.ndarray]:
    """(frame - 1, cell, 2) true displacement from frame 0 in cells, and (frame - 1, cell) whether it is known."""
    if clip.tracks is None or clip.visibility is None:
        raise ValueError("a clip without tracks has no true flow")
    images = np.floor(layout.frame_centres).astype(int)
    places = layout.to_cells(clip.tracks[images].astype(np.float64))
    centres = np.stack(np.meshgrid(np.arange(layout.width), np.arange(layout.height)), -1).reshape(-1, 2)
    if not np.allclose(places[0], centres, atol=1e-6):
        raise ValueError("the points of the scene are not the cell centres of the backbone")
    seen = clip.visibility[images]
    return places[1:] - places[0], seen[1:] & seen[0]


def errors(flow: np.ndarray, truth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(all, moving) mean end-point error in cells of the known vectors."""
    distance = np.hypot(*np.moveaxis(flow - truth, -1, 0))
    moving = known & (np.hypot(*np.moveaxis(truth, -1, 0)) > 1)
    return np.array([distance[mask].mean() if mask.any() else np.nan for mask in (known, moving)])


def measured(backbone: Backbone, clips: dict[str, Clip], *, layer: int, step: int | None, hard: bool) -> xr.DataArray:
    """(clip, 2) errors of the flow of one layer."""
    found = []
    layout = backbone.layout(*backbone.default_size)
    for clip in clips.values():
        truth, known = true_flow(clip, layout)
        # the preset decides the timestep where no step is named: 0
        flow = reference_flow(backbone, clip, layer=layer, step=step, preset="ditflow", hard=hard).values[0, 1:]
        found.append(errors(flow.reshape(truth.shape), truth, known))
    return xr.DataArray(np.array(found), dims=("clip", "kind"))


def interval(values: xr.DataArray) -> str:
    """ "mean (lower-upper)" over clips that have a value."""
    low, high = bootstrap_mean(values)
    return f"{float(values.mean('clip')):.2f} ({float(low):.2f} to {float(high):.2f})"


def _at(step: int | None) -> str:
    return "timestep 0" if step is None else f"step {step}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mini")
    parser.add_argument("--first", type=int, default=FIRST, help="seed of the first scene")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--layers", type=int, nargs="*", help="all by default")
    given = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load_backbone(given.backbone, device="cpu")
    height, width, _ = backbone.default_size
    clips = scenes(given.first, given.count, height=height, width=width)
    layout = backbone.layout(*backbone.default_size)
    still = [errors(np.zeros(1), *true_flow(clip, layout)) for clip in clips.values()]
    zero = xr.DataArray(np.array(still), dims=("clip", "kind"))
    print(f"{given.count} unseen scenes from seed {given.first} on; end-point error in cells, all / moving cells.\n")
    print("| layer | clip shown at | hard, all | hard, moving | soft, all | soft, moving |\n|---|---|---|---|---|---|")
    print(f"| zero flow | | {interval(zero[:, 0])} | {interval(zero[:, 1])} | | |")
    hard: dict[tuple[int, int | None], xr.DataArray] = {}
    for layer in given.layers if given.layers else range(len(backbone.layers)):
        for step in STEPS:
            values = [measured(backbone, clips, layer=layer, step=step, hard=kind) for kind in (True, False)]
            cells = " | ".join(interval(value[:, kind]) for value in values for kind in (0, 1))
            print(f"| {layer} | {_at(step)} | {cells} |", flush=True)
            hard[layer, step] = values[0]
    layer, step = min(hard, key=lambda choice: float(hard[choice][:, 0].mean()))
    best = hard[layer, step]
    print(f"\nHard, all / moving cells, differences scene by scene: layer {layer} at {_at(step)} minus")
    print(f"  zero flow: {interval((best - zero)[:, 0])} / {interval((best - zero)[:, 1])}")
    for other in STEPS:
        if other != step:
            less = best - hard[layer, other]
            print(f"  itself at {_at(other)}: {interval(less[:, 0])} / {interval(less[:, 1])}")


if __name__ == "__main__":
    main()
