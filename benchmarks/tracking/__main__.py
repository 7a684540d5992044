"""Point tracking beside its baselines, in tables: ``python -m benchmarks.tracking``.

Unseen scenes and real clips, what each part is worth, time and memory. ``--parts`` chooses some of them. With
``--results FILE`` the scenes and the controls go on where they were ended, and ``--made`` prints what is in the file;
scores that were measured with other weights are left alone. Minutes of one core for one backbone: about 25 for 100
scenes, 9 for the controls on 20, 1 each for real, closer-real and visibility. Runs with other ``--first`` may share a
file.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from analyses.trackers.backbone import BackboneTracker
from analyses.trackers.optical_flow import FlowTracker
from analyses.trackers.patches import PatchTracker
from analyses.trackers.static import StaticTracker
from analyses.tracking.track import PUBLISHED
from benchmarks.mini_quality.real import SIZE, data_folder, every, left_out
from benchmarks.tracking.ablation import OURS, ablation_report, layer_of, real_ablation_report
from benchmarks.tracking.clips import IMAGES, measure_all, real_clips, scene_clips
from benchmarks.tracking.closer import (
    CLOSEST,
    FINEST,
    FOLLOWING,
    closer_trackers,
    control_report,
    real_closer_report,
)
from benchmarks.tracking.cost import cost_report
from benchmarks.tracking.kept import KeptScores, weights_of
from benchmarks.tracking.speed import speed_report
from benchmarks.tracking.tables import clip_table, difference_table, main_table, threshold_table
from benchmarks.tracking.visibility import visibility_report
from probe import Backbone, load_backbone
from store.tracks.point_tracks import Tracker

PARTS = ("scenes", "real", "controls", "closer-real", "visibility", "ablation", "ablation-real", "cost", "speed")
STRIDES = (1, 4)
LENGTHS = (6, 100, 1000)
_EXACT = "published, exact geometry"
_BESIDE = ("published", _EXACT, "raw patches", "optical flow, chained")


def trackers_of(
    backbone: Backbone, layer: int | None, step: int | None, size: tuple[int, int] | None = None
) -> dict[str, Tracker]:
    """The baselines, the published procedure at its own step (the last one), and ours."""
    rows, columns = size or backbone.default_size[:2]
    published = BackboneTracker(backbone, layer_of(backbone, layer), -1, options=PUBLISHED, size=size)
    return {
        "nothing moves": StaticTracker(),
        "raw patches": PatchTracker.on_grid(backbone.layout(rows, columns, backbone.default_size.images)),
        "optical flow, chained": FlowTracker(),
        "published": published,
        _EXACT: replace(published, options=replace(PUBLISHED, geometry="exact")),
        OURS: BackboneTracker(backbone, layer, step, size=size),
    }


def scene_report(
    backbone: Backbone, layer: int | None, step: int | None, first: int, count: int, kept: KeptScores, made: bool
) -> str:
    """The tables on scenes as Markdown."""
    trackers = {**trackers_of(backbone, layer, step), **closer_trackers(backbone, layer, step)}
    clips = scene_clips(first, count)
    found = measure_all(trackers, clips, kept=kept, backbone=weights_of(backbone), made=made)
    lines = [
        f"{found.sizes['clip']} of {count} unseen scenes (seeds {first} to {first + count - 1}) of {IMAGES} images, "
        "mode first.",
        main_table(found),
        threshold_table(found),
        difference_table(found, FINEST, [*_BESIDE, OURS, FOLLOWING, CLOSEST]),
        difference_table(found, CLOSEST, [*_BESIDE, OURS, FOLLOWING]),
        difference_table(found, FOLLOWING, [*_BESIDE, OURS]),
    ]
    return "\n\n".join(lines)


def real_report(backbone: Backbone, layer: int | None, step: int | None) -> str:
    """The tables on real clips as Markdown."""
    if not real_clips(1):
        return f"No real clips: {data_folder()} is absent. Set DITPROBE_DATA."
    parts = [left_out()]
    for stride in STRIDES:
        clips = real_clips(stride)
        found = measure_all(trackers_of(backbone, layer, step, SIZE), clips, image_0_only=True)
        length = "; ".join(f"{name}: {len(clip)} images" for name, clip in clips.items())
        parts.append(f"{every(stride).capitalize()} ({length}), {SIZE[1]} x {SIZE[0]} px, points of image 0.")
        parts += [clip_table(found), difference_table(found, OURS, _BESIDE)]
    return "\n\n".join(parts)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"], help="names or folders")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--first", type=int, default=3000, help="seed of the first test scene")
    parser.add_argument("--layer", type=int, help="by default what is known of the backbone")
    parser.add_argument("--step", type=int)
    parser.add_argument("--results", type=Path, help="a file that keeps what was measured on scenes, to go on from it")
    parser.add_argument("--made", action="store_true", help="only print what is in --results")
    given = parser.parse_args(arguments)
    kept = KeptScores(given.results)
    began = time.perf_counter()
    for name in given.backbones:
        backbone, how = load_backbone(name), (given.layer, given.step)
        reports = {
            "scenes": lambda: scene_report(backbone, *how, given.first, given.scenes, kept, given.made),  # noqa: B023
            "real": lambda: real_report(backbone, *how),  # noqa: B023
            "controls": lambda: control_report(backbone, *how, given.scenes, kept, given.made),  # noqa: B023
            "closer-real": lambda: real_closer_report(backbone, *how),  # noqa: B023
            "ablation": lambda: ablation_report(backbone, *how, count=given.scenes),  # noqa: B023
            "ablation-real": lambda: real_ablation_report(backbone, *how),  # noqa: B023
            "visibility": lambda: visibility_report(backbone, *how),  # noqa: B023
            "cost": lambda: cost_report(name, *how, LENGTHS),  # noqa: B023
            "speed": lambda: speed_report(backbone, *how),  # noqa: B023
        }
        for part in given.parts:
            print(f"\n## {name}: {part}\n\n{reports[part]()}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
