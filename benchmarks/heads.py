"""Heads of the bundled backbones: classes, stability, correspondence, choice of heads: ``python -m benchmarks.heads``.

Classes are of test scenes. Heads are chosen on tuning scenes and judged on the test scenes, once, beside all heads of
the same layer and beside heads drawn at random.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import xarray as xr

from analyses.heads.classify import classify_heads
from analyses.heads.decide import decide_heads, head_log_ratio, head_rank_correlation, head_stability
from analyses.heads.sweep import sweep_heads
from analyses.layers.sweep import sweep
from analyses.statistics import bootstrap_mean
from analyses.trackers.backbone import BackboneTracker
from benchmarks.mini_quality.accuracy import interval, scenes
from benchmarks.tables import against_table, means_table
from benchmarks.tracking.clips import measure_all, scene_clips
from probe import Backbone, load_backbone, run_clip
from store import Clip, Selection

TUNING, TEST, STEP = 2_000, 0, 46
STEPS = (0, 20, 40, 46, 49)
MAIN = {"mini": 5, "mini-rope": 5, "mini@1": 5, "mini-rope@1": 5}
"""The layer that tracks best on each backbone, as the model card has it."""

_LETTER = {"temporal": "T", "spatial": "S", "undecided": "?"}


def classes_report(backbone: Backbone, clips: dict[str, Clip]) -> tuple[str, xr.Dataset]:
    """Class of every head at the late step, and how the classes change with the step, the noise and the rule."""
    masses = sweep_heads(backbone, clips, Selection(STEPS, "all"), draws=2, progress=False)
    decided = decide_heads(masses, step=STEP)
    lines = [
        f"Step {STEP}, {len(clips)} scenes, 2 draws of the noise; T temporal, S spatial, ? undecided; temporal over "
        f"spatial density with its 95 % interval over scenes.\n",
        _head("layer", [f"head {head}" for head in decided["head"].values]),
    ]
    for layer in decided["layer"].values:
        row = decided.sel(layer=layer)
        cells = [
            f"{_LETTER[str(row['class'].values[head])]} {np.exp(row['log_ratio'].values[head]):.2f} "
            f"({np.exp(row['lower'].values[head]):.2f}-{np.exp(row['upper'].values[head]):.2f})"
            for head in range(row.sizes["head"])
        ]
        lines.append(f"| {layer} | " + " | ".join(cells) + " |")
    stable = head_stability(masses)
    lines.append("\n" + _head("step", [*map(str, stable["kind"].values), f"rank correlation with step {STEP}"]))
    for step in stable["step"].values:
        counts = [str(int(count)) for count in stable["count"].sel(step=step).values]
        correlation = float(stable["step_correlation"].sel(step=step, other_step=STEP))
        lines.append(f"| {step} | " + " | ".join([*counts, f"{correlation:.2f}"]) + " |")
    between = float(stable["draw_correlation"].isel(draw=0, other_draw=1))
    lines.append(f"\nRank correlation of the two draws of the noise at step {STEPS[-1]}: {between:.3f}.")
    lines.append(_published_rules(backbone, next(iter(clips.values())), decided))
    return "\n".join(lines), masses


def _published_rules(backbone: Backbone, clip: Clip, decided: xr.Dataset) -> str:
    """Findings of the published rules on one clip, beside the exact one."""
    found: dict[str, list[str]] = {"exact": [], "paper": []}

    def sink(capture: object) -> None:
        for preset, kinds in found.items():
            text = capture.text_key if preset == "exact" else None  # type: ignore[attr-defined]
            query, key, layout = capture.query, capture.key, capture.layout  # type: ignore[attr-defined]
            kinds += classify_heads(query, key, layout, text, preset=preset)["class"].values.tolist()

    run_clip(backbone, clip, Selection([STEP], "all"), sink, noise="forward")
    temporal = {preset: kinds.count("temporal") for preset, kinds in found.items()}
    over_clips = int((decided["class"] == "temporal").sum())
    one, every = temporal, len(found["exact"])
    return (
        f"\nOn one scene the exact rule calls {one['exact']} of {every} heads temporal, the rule of the paper "
        f"{one['paper']}; {over_clips} are temporal over all scenes. The rule of the released code needs 128 "
        f"cells in a frame."
    )


def relation_report(backbone: Backbone, clips: dict[str, Clip], masses: xr.Dataset) -> str:
    """Rank correlations over heads of what they attend to and what they match."""
    found = sweep(
        backbone, clips, Selection([STEP], "all"), per_head=True, threshold_cells=1, features=False, progress=False
    )
    accuracy = found["head_moving_accuracy"].sel(step=STEP, drop=True)
    at_step = masses.sel(step=STEP)
    measures = {
        "temporal over spatial density": head_log_ratio(masses).sel(step=STEP, drop=True),
        "mass along the motion": at_step["mass"].sel(target="motion", drop=True),
        "mass along the motion less mass where the point was": at_step["mass"].sel(target="motion", drop=True)
        - at_step["mass"].sel(target="still", drop=True),
        "mass on the own frame": at_step["mass"].sel(target="own_frame", drop=True),
        "mass on text": at_step["mass"].sel(target="text", drop=True),
    }
    lines = [_head("rank correlation over heads with the accuracy on moving points", ["all 24 heads"])]
    for name, values in measures.items():
        value, low, high = head_rank_correlation(values.drop_vars("step", errors="ignore"), accuracy)
        lines.append(f"| {name} | {value:+.2f} ({low:+.2f} to {high:+.2f}) |")
    return "\n".join(lines)


def chosen_heads(backbone: Backbone, layer: int, clips: dict[str, Clip]) -> tuple[int, ...]:
    """The heads of a layer whose mean matches best on the tuning scenes: the best alone, best two, ..., or all."""
    alone = sweep(
        backbone, clips, Selection([STEP], [layer]), per_head=True, threshold_cells=1, features=False, progress=False
    )
    order = np.argsort(-alone["head_accuracy"].mean(("clip", "step", "layer")).values)
    best, score = (), -1.0
    for count in range(1, len(order) + 1):
        heads = tuple(sorted(int(head) for head in order[:count]))
        accuracy = _accuracy(backbone, layer, heads, clips).mean().item()
        if accuracy > score:
            best, score = heads, accuracy
    return best


def _accuracy(backbone: Backbone, layer: int, heads: tuple[int, ...], clips: dict[str, Clip]) -> xr.DataArray:
    selection = Selection([STEP], [layer], heads=heads)
    found = sweep(backbone, clips, selection, threshold_cells=1, features=False, progress=False)
    return found["accuracy"].isel(step=0, layer=0)


def choice_report(backbone: Backbone, layer: int, tuning: dict[str, Clip], tested: dict[str, Clip]) -> str:
    """Chosen heads, temporal heads and random heads of one layer beside all of its heads."""
    heads = backbone.layers[layer].heads
    everything = tuple(range(heads))
    best = chosen_heads(backbone, layer, tuning)
    masses = sweep_heads(backbone, tuning, Selection([STEP], [layer]), progress=False)
    kinds = decide_heads(masses)["class"].values[0]
    temporal = tuple(int(head) for head in np.flatnonzero(kinds == "temporal"))
    rng = np.random.default_rng(0)
    drawn = tuple(sorted(rng.choice(heads, max(1, min(len(best), heads - 1)), replace=False).tolist()))
    sets = {"all heads": everything, "best on tuning scenes": best, "temporal": temporal, "random": drawn}
    lines = [_head(f"layer {layer}, step {STEP}", ["heads", "within one cell, %", "less all heads"])]
    base = _accuracy(backbone, layer, everything, tested)
    for name, chosen in sets.items():
        if not chosen:
            lines.append(f"| {name} | none | | |")
            continue
        values = base if chosen == everything else _accuracy(backbone, layer, chosen, tested)
        low, high = (float(end) for end in bootstrap_mean(values - base))
        ahead = "" if chosen == everything else f"{float((values - base).mean()):+.1f} ({low:+.1f} to {high:+.1f})"
        lines.append(f"| {name} | {', '.join(map(str, chosen))} | {interval(values)} | {ahead} |")
    return "\n".join(lines)


def tracking_report(backbone: Backbone, layer: int, tuning: dict[str, Clip], first: int, count: int) -> str:
    """Tracks by the chosen heads beside those by all heads of the layer."""
    best = chosen_heads(backbone, layer, tuning)
    trackers = {
        "all heads": BackboneTracker(backbone, layer=layer, step=STEP),
        f"heads {', '.join(map(str, best))}": BackboneTracker(backbone, layer=layer, step=STEP, heads=best),
    }
    found = measure_all(trackers, scene_clips(first, count)).rename(tracker="row")
    titles = {"average_pts_within_thresh": ("position accuracy", 1), "within_cell": ("within one cell", 1)}
    titles = {name: title for name, title in titles.items() if name in found["metric"].values}
    return means_table(found, titles, missing="without") + "\n\n" + against_table(found, "all heads", titles)


def _head(first: str, titles: list[str]) -> str:
    return f"| {first} | " + " | ".join(titles) + " |\n|---|" + "---|" * len(titles)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"])
    parser.add_argument("--scenes", type=int, default=48, help="test scenes")
    parser.add_argument("--tuning", type=int, default=24, help="tuning scenes")
    parser.add_argument("--tracked", type=int, default=24, help="test scenes that are tracked")
    options = parser.parse_args()
    torch.manual_seed(0)
    tuning, tested = scenes(TUNING, options.tuning), scenes(TEST, options.scenes)
    for name in options.backbones:
        backbone = load_backbone(name)
        report, masses = classes_report(backbone, tested)
        print(f"\n### {name}\n\n{report}\n", flush=True)
        print(relation_report(backbone, tested, masses) + "\n", flush=True)
        for layer in (MAIN[name], MAIN[name] - 1):
            print(choice_report(backbone, layer, tuning, tested) + "\n", flush=True)
        print(tracking_report(backbone, MAIN[name], tuning, TEST, options.tracked) + "\n", flush=True)


if __name__ == "__main__":
    main()
