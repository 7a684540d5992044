"""Effect of optical flow as pseudo-truth on what a sweep says of layers: ``python -m
benchmarks.correspondence.pseudo_truth``.

Scenes have exact tracks. The same points are swept against these and against chained flow.
"""

from __future__ import annotations

import argparse

import numpy as np
import xarray as xr

from analyses.layers.sweep import sweep
from analyses.selection.defaults import tracking_defaults
from analyses.selection.select import select_layers
from analyses.statistics import bootstrap_mean
from analyses.trackers.pseudo_tracks import with_pseudo_tracks
from benchmarks.mini_quality.accuracy import interval
from probe import Backbone, load_backbone
from store import Clip, Selection, make_scene

FIRST = 1000


def pairs_of(count: int, images: int) -> dict[str, tuple[Clip, Clip]]:
    """Scenes with exact tracks of the centres of 10 x 10 cells, and with those of flow from the same points."""
    scenes = {f"scene {seed}": make_scene(seed, images=images) for seed in range(FIRST, FIRST + count)}
    return {name: (scene, with_pseudo_tracks(scene, grid=10)) for name, scene in scenes.items()}


def flow_report(pairs: dict[str, tuple[Clip, Clip]], cell: float) -> str:
    """Accuracy of the flow itself, as a sentence."""
    near, seen, called = [], [], []
    for scene, flow in pairs.values():
        if scene.tracks is None or scene.visibility is None or flow.tracks is None or flow.visibility is None:
            raise ValueError("a scene has tracks")
        order = [int(np.abs(flow.tracks[0] - point).sum(-1).argmin()) for point in scene.tracks[0]]
        distance = np.linalg.norm(flow.tracks[1:, order] - scene.tracks[1:], axis=-1)
        true, visible = scene.visibility[1:], flow.visibility[1:, order]
        near.append(100 * (distance[visible & true] < cell).mean())
        seen.append(100 * visible[true].mean())
        called.append(100 * (~visible)[~true].mean() if (~true).any() else np.nan)
    names = ("within one cell, of what both call visible", "truly visible and called so", "truly hidden and called so")
    parts = [f"{name} {interval(_over(each))} %" for name, each in zip(names, (near, seen, called), strict=True)]
    return f"Flow against the truth: {'; '.join(parts)}."


def layer_report(backbone: Backbone, pairs: dict[str, tuple[Clip, Clip]]) -> str:
    """Accuracy of every layer against both, and the difference paired by scene, as Markdown."""
    step = tracking_defaults(backbone).step
    both = [
        sweep(
            backbone,
            {name: pair[which] for name, pair in pairs.items()},
            Selection([step], "all"),
            threshold_cells=1.0,
            features=False,
        ).isel(step=0)
        for which in (0, 1)
    ]
    lines = [
        f"`{backbone.name}`, step {step}, within one cell, all visible points / moving ones, %.",
        "",
        "| layer | against truth | against flow | flow minus truth, points | moving points |",
        "|---:|---:|---:|---:|---:|",
    ]
    for layer in both[0]["layer"].values:
        one = [each.sel(layer=layer) for each in both]
        cells = [f"{interval(each['accuracy'])} / {float(each['moving_accuracy'].mean('clip')):.1f}" for each in one]
        for measure in ("accuracy", "moving_accuracy"):
            ahead = one[1][measure] - one[0][measure]
            low, high = bootstrap_mean(ahead)
            cells.append(f"{float(ahead.mean('clip')):+.1f} ({float(low):+.1f} to {float(high):+.1f})")
        lines.append(f"| {int(layer)} | " + " | ".join(cells) + " |")
    ranked = [select_layers(each.expand_dims("step"), 3).layers for each in both]
    lines += ["", f"`select_layers`: {ranked[0]} against the truth, {ranked[1]} against flow."]
    return "\n".join(lines)


def _over(values: list[float]) -> xr.DataArray:
    return xr.DataArray(np.array(values), dims="clip")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"])
    parser.add_argument("--scenes", type=int, default=24)
    given = parser.parse_args()
    for name in given.backbones:
        backbone = load_backbone(name)
        pairs = pairs_of(given.scenes, backbone.default_size.images)
        cell = backbone.layout(*backbone.default_size).cell_size[0]
        print(f"\n{given.scenes} scenes (seeds {FIRST} and up).\n\n{flow_report(pairs, cell)}\n", flush=True)
        print(layer_report(backbone, pairs), flush=True)


if __name__ == "__main__":
    main()
