"""Quality of the bundled backbones, in tables: ``python -m benchmarks.mini_quality``.

Correspondence on unseen scenes, agreement of generated clips with their prompts, coherence of their objects, open
prompts, distance to training scenes, real clips, the codec, and the stored profiles over training seeds. ``--parts``
chooses some of them.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

from benchmarks.mini_quality.accuracy import accuracy_report
from benchmarks.mini_quality.coherence import coherence_rows, memory_rows, open_rows
from benchmarks.mini_quality.prompts import SCALES, prompt_rows
from benchmarks.mini_quality.real import SIZE, data_folder, real_report, tracked_clips
from benchmarks.mini_quality.seeds import seeds_report
from probe import Backbone, load_backbone

PARTS = ("accuracy", "prompts", "coherence", "open", "memory", "real", "codec", "seeds")


def codec_report(backbone: Backbone) -> str:
    """Error of a real clip after encode and decode."""
    clips = tracked_clips()
    if not clips:
        return f"No real clips: {data_folder()} is absent. Set DITPROBE_DATA."
    lines = []
    for name, clip in clips.items():
        part = clip.window(0, backbone.default_size.images).resized(*SIZE)
        back = backbone.decode(backbone.encode(part))
        error = np.mean((back.images.astype(np.float64) - part.images) ** 2)
        ratio = "without loss" if error == 0 else f"{10 * math.log10(255**2 / error):.1f} dB"
        lines.append(f"{name} at {SIZE[1]} x {SIZE[0]} px: {ratio}")
    return "; ".join(lines) + "."


def report(
    backbone: Backbone,
    parts: list[str],
    *,
    first: int,
    scenes: int,
    prompts: int,
    scales: list[float],
    cells: float,
    seed: int,
) -> None:
    """Print the tables of one backbone as they are finished."""
    print(f"\n## {backbone.name}\n\n{backbone!r}", flush=True)
    if "accuracy" in parts or "real" in parts:
        found, layer, step = accuracy_report(backbone, first=first, count=scenes, threshold_cells=cells)
        print(f"\n### Correspondence\n\n{found}", flush=True)
        if "real" in parts:
            print(f"\n### Real clips\n\n{real_report(backbone, layer, step, cells)}", flush=True)
    if "codec" in parts:
        print(f"\n### Codec\n\nEncoded and decoded: {codec_report(backbone)}", flush=True)
    if "prompts" in parts:
        print("\n### Prompts\n", flush=True)
        for row in prompt_rows(backbone, first=first, count=prompts, scales=scales):
            print(row, flush=True)
    tables = {
        "coherence": ("Coherence", coherence_rows(backbone, first=first, count=prompts)),
        "open": ("Open prompts", open_rows(backbone, first=first, count=max(1, prompts // 5))),
        "memory": (
            "Distance to training scenes",
            memory_rows(backbone, first=first, count=prompts, training=20_000, training_seed=seed),
        ),
    }
    for part, (title, rows) in tables.items():
        if part in parts:
            print(f"\n### {title}\n", flush=True)
            for row in rows:
                print(row, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"], help="names or folders")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--guidance", type=float, nargs="+", default=list(SCALES), help="scales for the prompts")
    parser.add_argument("--first", type=int, default=1000, help="seed of the first scene")
    parser.add_argument("--training-seed", type=int, default=7, help="whose scenes the part 'memory' compares to")
    parser.add_argument("--threshold-cells", type=float, default=1.0)
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    for name in options.backbones:
        report(
            load_backbone(name),
            options.parts,
            first=options.first,
            scenes=options.scenes,
            prompts=options.prompts,
            scales=options.guidance,
            cells=options.threshold_cells,
            seed=options.training_seed,
        )
    if "seeds" in options.parts:
        print(f"\n## Three trainings of mini\n\n{seeds_report()}")
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
