"""Time and peak memory of tracking a clip, each length in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable

import numpy as np

from analyses.tracking.track import track_points
from benchmarks.memory import forget_peak, memory
from probe import load_backbone
from store import make_scene


def cost_report(backbone: str, layer: int | None, step: int | None, lengths: Iterable[int]) -> str:
    """A table by number of images as Markdown."""
    lines = [
        "| images | seconds | processor seconds | processor ms an image | share in the backbone | chunks | "
        "more memory than before, MB |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for images in lengths:
        found = _in_a_process(backbone, layer, step, images)
        share = 100 * found["seconds_in_model"] / found["seconds"]
        lines.append(
            f"| {images} | {found['seconds']:.1f} | {found['processor_seconds']:.1f} | "
            f"{1000 * found['processor_seconds'] / images:.0f} | {share:.0f} % | "
            f"{found['chunks']} | {found['megabytes']:.0f} |"
        )
    return "\n".join(lines)


def _in_a_process(backbone: str, layer: int | None, step: int | None, images: int) -> dict[str, float]:
    call = [sys.executable, "-m", "benchmarks.tracking.cost", backbone, str(images)]
    for name, value in (("--layer", layer), ("--step", step)):
        call += [] if value is None else [name, str(value)]
    found: dict[str, float] = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    """Track one clip and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbone")
    parser.add_argument("images", type=int)
    parser.add_argument("--layer", type=int)
    parser.add_argument("--step", type=int)
    given = parser.parse_args()
    backbone = load_backbone(given.backbone)
    scene = make_scene(3000, images=given.images)
    if scene.tracks is None:
        raise ValueError("a scene has tracks")
    queries = np.column_stack([np.zeros(scene.tracks.shape[1]), scene.tracks[0]])
    track_points(scene.images[:2], queries, backbone, layer=given.layer, step=given.step)  # what loads once
    forget_peak()
    before, began = memory("VmRSS"), time.process_time()
    details = track_points(scene.images, queries, backbone, layer=given.layer, step=given.step).details
    found = {name: details[name] for name in ("seconds", "seconds_in_model", "chunks")}
    found |= {"processor_seconds": time.process_time() - began, "megabytes": memory("VmHWM") - before}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
