"""Layers and heads on the motion that is left inside following crops: ``python -m benchmarks.tracking.closer_layers``.

The crops follow the coarse tracks of one layer, the same for all, so that what differs is the closer look alone, and
precision below a cell of the whole image shows.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import xarray as xr

from analyses.arrays import BUDGET_BYTES
from analyses.metrics.tapvid import tapvid_metrics
from analyses.selection.defaults import tracking_defaults
from analyses.statistics import bootstrap_mean
from analyses.tracking.closer import CloserLook
from analyses.tracking.levels import LeveledTracking, chunk_plans
from analyses.tracking.options import TrackingOptions
from analyses.tracking.tokens import LayerTokens, TrackingRun, chunk_length
from benchmarks.mini_quality.accuracy import interval
from benchmarks.tracking.ablation import FIRST
from benchmarks.tracking.clips import scene_clips
from probe import Backbone, load_backbone
from store import Clip
from store.datasets.tapvid_raster import to_raster

_MATCHED = tuple[int, tuple[int, ...] | None]
"""A layer and its heads, None for all."""


def scores(backbone: Backbone, clip: Clip, matched: list[_MATCHED], crops: int) -> np.ndarray:
    """Position accuracy in percent (matched, 2) on the points of image 0: in whole images, and in following crops."""
    if clip.tracks is None or clip.visibility is None:
        raise ValueError("a scene has tracks")
    known = tracking_defaults(backbone)
    options = TrackingOptions(levels=(1, 2), crops="follow", max_crops=crops)
    size, extent = backbone.default_size[:2], (clip.height, clip.width)
    length = chunk_length(backbone, options, size)
    mine = np.flatnonzero(clip.visibility[0])
    queries = np.column_stack([np.zeros(len(mine)), clip.tracks[0, mine]])
    anchors = np.zeros(len(mine), int)
    asked = to_raster(clip.tracks[0, mine], clip)[:, ::-1]
    asked = np.column_stack([anchors, asked])
    truth, seen = to_raster(clip.tracks[:, mine], clip), clip.visibility[:, mine]

    def accuracy(tracks: np.ndarray) -> float:
        found = tapvid_metrics(asked, truth, seen, to_raster(tracks, clip), np.ones_like(seen))
        return 100 * found["average_pts_within_thresh"]

    def model(layer: int, heads: tuple[int, ...] | None) -> LayerTokens:
        run = TrackingRun("", 50, known.step, layer, heads, 0)
        return LayerTokens(backbone, clip.images, size, options, run)

    def whole(layer: int, heads: tuple[int, ...] | None) -> LeveledTracking:
        once = replace(options, levels=(1,))
        return LeveledTracking(model(layer, heads), once, extent, len(clip), length, BUDGET_BYTES)

    coarse = whole(known.layer, None).track(queries)[0]
    rows = []
    for layer, heads in matched:
        tokens = model(layer, heads)
        look = CloserLook(
            tokens.tokens,
            lambda known: chunk_plans(len(clip), np.unique(known).tolist(), length, options),
            tokens.layout(2),
            backbone.device,
            extent,
            options,
            BUDGET_BYTES,
        )
        closer = look.refine(coarse, anchors, 2, look.crops(coarse, anchors, 2))
        rows.append((accuracy(whole(layer, heads).track(queries)[0].tracks), accuracy(closer.tracks)))
    return np.array([*rows, (accuracy(coarse.tracks),) * 2])


def layer_report(backbone: Backbone, count: int, crops: int) -> str:
    """The table as Markdown: every layer, and every head of the one that is known to track best."""
    known = tracking_defaults(backbone)
    matched: list[_MATCHED] = [(layer, None) for layer in range(len(backbone.layers))]
    matched += [(known.layer, (head,)) for head in range(backbone.layers[known.layer].heads)]
    names = [f"layer {layer}" + (f", head {heads[0]}" if heads else "") for layer, heads in matched]
    found = xr.DataArray(
        np.stack([scores(backbone, clip, matched, crops) for clip in scene_clips(FIRST, count).values()]),
        {"matched": [*names, "no closer look"], "in": ["whole", "crops"]},
        ("clip", "matched", "in"),
    )
    lines = [
        f"{count} tuning scenes (seeds {FIRST} and up), at most {crops} crops, which follow layer {known.layer}; "
        "position accuracy, %.",
        "",
        "| matched | whole images | rank | following crops | rank | gain over the coarse tracks |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    layers = found.isel(matched=slice(0, len(backbone.layers))).mean("clip")
    ranks = 1 + np.argsort(np.argsort(-layers.values, axis=0), axis=0)
    for number, name in enumerate(names):
        here = found.isel(matched=number)
        gain = here.sel({"in": "crops"}) - found.sel({"matched": "no closer look", "in": "crops"})
        low, high = bootstrap_mean(gain.drop_vars(["matched", "in"], errors="ignore"))
        places = [f"{place}" for place in ranks[number]] if number < len(ranks) else ["", ""]
        cells = [interval(here.sel({"in": shown}).drop_vars("in")) for shown in ("whole", "crops")]
        lines.append(
            f"| {name} | {cells[0]} | {places[0]} | {cells[1]} | {places[1]} | {float(gain.mean()):+.1f} "
            f"({float(low):+.1f} to {float(high):+.1f}) |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Print the table of each backbone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"], help="names or folders")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--crops", type=int, default=5)
    given = parser.parse_args(arguments)
    for name in given.backbones:
        print(f"\n## {name}\n\n{layer_report(load_backbone(name), given.scenes, given.crops)}", flush=True)


if __name__ == "__main__":
    main()
