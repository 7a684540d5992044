"""What the bundled backbone shows: ``python -m benchmarks.mini_quality``.

Accuracy of query-key matching by layer and step on scenes that nobody trained on, within one cell, beside raw patches
and "nothing moves", with 95 % bootstrap intervals over scenes.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import xarray as xr

from analyses.accuracy import matching_accuracy
from analyses.clips import bootstrap_mean
from analyses.matching import match_features
from analyses.selection import select_layers
from analyses.sweep import sweep
from probe import load_backbone
from store import Clip, Selection, TokenLayout, make_scene

STEPS = (0, 5, 10, 15, 20, 25, 30, 35, 40, 43, 46, 48, 49)


def patch_accuracy(clip: Clip, layout: TokenLayout, threshold: float) -> float:
    """Percent of visible points that matching raw patches of pixels by cosine finds."""
    images, y, x = len(clip), layout.height, layout.width
    pixels = clip.images.astype(np.float64) / 127.5 - 1
    patches = pixels.reshape(images, y, clip.height // y, x, clip.width // x, 3).transpose(0, 1, 3, 2, 4, 5)
    patches = patches.reshape(images, y, x, -1)
    patches /= np.linalg.norm(patches, axis=-1, keepdims=True)
    predicted = match_features(patches, clip.tracks[0], layout)
    return matching_accuracy(predicted[1:], clip.tracks[1:], clip.visibility[1:], threshold)


def _interval(values: xr.DataArray) -> str:
    low, high = bootstrap_mean(values)
    return f"{float(values.mean('clip')):.1f} ({float(low):.1f}-{float(high):.1f})"


def tables(found: xr.Dataset, patches: np.ndarray, threshold_cells: float) -> str:
    """The tables as Markdown."""
    accuracy, moving = (found[name].mean("clip") for name in ("accuracy", "moving_accuracy"))
    steps = found["step"].values
    lines = [f"Within {threshold_cells:g} cell, {found.sizes['clip']} scenes; all visible points / moving ones, %.", ""]
    lines.append("| step (timestep) | " + " | ".join(f"layer {layer}" for layer in found["layer"].values) + " |")
    lines.append("|---|" + "---|" * found.sizes["layer"])
    for number, step in enumerate(steps):
        pairs = zip(accuracy.values[number], moving.values[number], strict=True)
        cells = " | ".join(f"{every:.1f} / {some:.1f}" for every, some in pairs)
        lines.append(f"| {step} ({float(found['timestep'][number]):.0f}) | {cells} |")
    late = accuracy.sel(step=slice(40, None))
    place = late.argmax(...)
    step, layer = int(late["step"][place["step"]]), int(late["layer"][place["layer"]])
    here = found.sel(step=step, layer=layer)
    median = float(accuracy.sel(step=step).median("layer"))
    first = accuracy.sel(step=0)
    baseline = xr.DataArray(patches, dims="clip")
    lines += [
        "",
        f"Best layer {layer} at its best late step {step}: {_interval(here['accuracy'])} %, moving points "
        f"{_interval(here['moving_accuracy'])} %, intermediate features {_interval(here['feature_accuracy'])} %.",
        f"Median layer at that step: {median:.1f} %; best minus median {float(late.max()) - median:.1f} points.",
        f"Best layer of step 0 (pure noise, no clip): layer {int(first.idxmax('layer'))}, {float(first.max()):.1f} %; "
        f"the best late minus that: {float(late.max()) - float(first.max()):.1f} points.",
        f"Raw patches (cosine): {_interval(baseline)} %. Nothing moves: {_interval(found['static_accuracy'])} %.",
    ]
    heads = found["head_accuracy"].sel(step=step).mean("clip")
    lines += [
        "",
        f"Single heads at step {step}, %:",
        "",
        "| layer | " + " | ".join(map(str, heads["head"].values)) + " |",
    ]
    lines.append("|---|" + "---|" * heads.sizes["head"])
    lines += [
        f"| {n} | " + " | ".join(f"{v:.1f}" for v in heads.sel(layer=n).values) + " |" for n in found["layer"].values
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first scene")
    parser.add_argument("--threshold-cells", type=float, default=1.0)
    parser.add_argument("--backbone", default="mini")
    options = parser.parse_args(arguments)
    backbone = load_backbone(options.backbone)
    clips = {f"scene {seed}": make_scene(seed) for seed in range(options.first, options.first + options.scenes)}
    began = time.perf_counter()
    cells = options.threshold_cells
    found = sweep(backbone, clips, Selection(STEPS, "all"), threshold_cells=cells, per_head=True)
    layout = backbone.layout(*backbone.default_size)
    patches = np.array([patch_accuracy(clip, layout, cells * layout.cell_size[0]) for clip in clips.values()])
    print(tables(found, patches, cells))
    print(f"\n{select_layers(found)!r}\n\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
