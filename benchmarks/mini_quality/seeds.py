"""Does the same depth win in every training? ``python -m benchmarks.mini_quality.seeds RUN [RUN ...]``.

Each RUN is the folder of a training (``python -m probe.mini.training --out RUN --seed N``). The profile of each is
written to ``benchmarks/mini_quality/seeds.csv``, which ``benchmarks.mini_quality`` prints, because those weights are
not bundled.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch

from analyses.layers.sweep import sweep
from analyses.statistics import bootstrap_mean
from benchmarks.mini_quality.accuracy import STEPS, best_late, scenes
from probe import load_backbone
from store import Selection

RESULTS = Path(__file__).with_suffix(".csv")
_FIELDS = ("seed", "training_steps", "scenes", "step", "layer", "accuracy", "lower", "upper", "moving_accuracy")


def profile(run: Path, *, first: int, count: int) -> list[dict[str, object]]:
    """One row a layer, at the late step where the best layer of this training is best."""
    settings = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["settings"]
    found = sweep(
        load_backbone(run / "weights"),
        scenes(first, count),
        Selection([step for step in STEPS if step >= 40], "all"),
        threshold_cells=1.0,
        features=False,
    )
    _, step = best_late(found)
    here = found.sel(step=step)
    low, high = bootstrap_mean(here["accuracy"])
    means = {name: here[name].mean("clip").values for name in ("accuracy", "moving_accuracy")}
    return [
        {
            "seed": settings["seed"],
            "training_steps": settings["steps"],
            "scenes": count,
            "step": step,
            "layer": int(layer),
            "accuracy": f"{means['accuracy'][number]:.1f}",
            "lower": f"{low.values[number]:.1f}",
            "upper": f"{high.values[number]:.1f}",
            "moving_accuracy": f"{means['moving_accuracy'][number]:.1f}",
        }
        for number, layer in enumerate(found["layer"].values)
    ]


def seeds_report(path: Path = RESULTS) -> str:
    """The stored profiles as a Markdown table, which states where nothing was measured."""
    if not path.is_file():
        return "No profiles over training seeds are stored: run python -m benchmarks.mini_quality.seeds RUN [RUN ...]."
    with path.open() as file:
        rows = list(csv.DictReader(file))
    layers = sorted({int(row["layer"]) for row in rows})
    lines = [
        f"{rows[0]['scenes']} unseen scenes, within one cell, all visible points / moving ones, %; each at its best "
        "late step; 95 % intervals over scenes. Stored figures: those weights are not bundled.",
        "",
        "| training seed (steps) | step | " + " | ".join(f"layer {layer}" for layer in layers) + " | best |",
        "|---|---|" + "---|" * (len(layers) + 1),
    ]
    for seed in sorted({row["seed"] for row in rows}, key=int):
        own = sorted((row for row in rows if row["seed"] == seed), key=lambda row: int(row["layer"]))
        cells = [f"{r['accuracy']} ({r['lower']}-{r['upper']}) / {r['moving_accuracy']}" for r in own]
        best = max(own, key=lambda row: float(row["accuracy"]))["layer"]
        lines.append(f"| {seed} ({own[0]['training_steps']}) | {own[0]['step']} | {' | '.join(cells)} | {best} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, store and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first scene")
    options = parser.parse_args(arguments)
    rows = [row for run in options.runs for row in profile(run, first=options.first, count=options.scenes)]
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, _FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    print(seeds_report())


if __name__ == "__main__":
    main()
