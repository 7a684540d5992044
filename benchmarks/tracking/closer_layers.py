"""Layers and heads on the motion that is left inside following crops: ``python -m benchmarks.tracking.closer_layers``.

:func:`analyses.layers.sweep_closer.sweep_closer` on tuning scenes, with heads of the layer that is known to track best.
"""

from __future__ import annotations

import argparse

import xarray as xr

from analyses.layers.closer_ranks import closer_ranks
from analyses.layers.sweep_closer import sweep_closer
from analyses.statistics import bootstrap_mean
from benchmarks.mini_quality.accuracy import interval
from benchmarks.tracking.ablation import FIRST
from benchmarks.tracking.clips import scene_clips
from probe import Backbone, load_backbone


def layer_report(backbone: Backbone, count: int, crops: int) -> str:
    """The table as Markdown: every layer, and every head of the one that is known to track best."""
    found = sweep_closer(backbone, scene_clips(FIRST, count), max_crops=crops, per_head=True, progress=False)
    ranks, best = closer_ranks(found), int(found.attrs["follow"])
    layers = [int(layer) for layer in found["layer"].values]
    lines = [
        f"{count} tuning scenes (seeds {FIRST} and up) in windows of {backbone.default_size.images} images, at most "
        f"{crops} crops, which follow layer {best}; position accuracy, %.",
        "",
        "| matched | whole images | rank | following crops | rank | gain over the coarse tracks |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for layer in layers:
        here, rank = found.sel(layer=layer), ranks.sel(layer=layer)
        places = [f"{int(rank[name])}" for name in ("rank", "closer_rank")]
        lines.append(_row(f"layer {layer}", found, here["accuracy"], here["closer_accuracy"], places))
    for head in found["head"].values:
        here = found.sel(layer=best, head=head)
        whole, crop = here["head_accuracy"], here["head_closer_accuracy"]
        lines.append(_row(f"layer {best}, head {head}", found, whole, crop, ["", ""]))
    lines.append(f"| no closer look | {interval(found['coarse_accuracy'])} | | | | |")
    return "\n".join(lines)


def _row(name: str, found: xr.Dataset, whole: xr.DataArray, crops: xr.DataArray, places: list[str]) -> str:
    whole, crops = (values.drop_vars(["layer", "layer_name", "head"], errors="ignore") for values in (whole, crops))
    gain = crops - found["coarse_accuracy"]
    low, high = bootstrap_mean(gain)
    gained = f"{float(gain.mean()):+.1f} ({float(low):+.1f} to {float(high):+.1f})"
    return f"| {name} | {interval(whole)} | {places[0]} | {interval(crops)} | {places[1]} | {gained} |"


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
