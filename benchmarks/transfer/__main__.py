"""Is motion transferred? DiTFlow, its baselines and the plain backbone in tables: ``python -m benchmarks.transfer``.

References are scenes of one object under a static camera, prompts name another object over another
background. Prompts that leave the motion open are outside the grammar that the backbones were trained on; the part
"open" measures what the plain backbones make of them. ``--parts`` chooses some of the tables; clips that were measured
are kept in ``--results``, but for those of that part.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import xarray as xr

from analyses.flow.reference_flow import default_layer
from benchmarks.results import Results
from benchmarks.tables import against_table, means_table
from benchmarks.transfer.clips import WITHOUT, Case, Prompts, cases
from benchmarks.transfer.cost import cost_report
from benchmarks.transfer.methods import (
    DEFAULT,
    GENTLE,
    LATENTS,
    PLAIN,
    POSITIONS,
    RATE_OF,
    RESTING,
    TUNED_ON,
    candidates,
    rated,
    tuned_methods,
)
from benchmarks.transfer.open_prompts import open_report
from benchmarks.transfer.runs import STEPS, Run, measured
from generators.transfer.ditflow import DiTFlow
from generators.transfer.method import PlainBackbone, TransferMethod
from generators.transfer.optimised import OptimisedMethod
from probe import load_backbone
from probe.mini import BUNDLED

PARTS = ("tune", "table", "across", "layers", "iterations", "share", "open", "cost")
TITLES = {
    "motion_error": ("motion error", 2),
    "motion_fidelity": ("motion fidelity, box", 3),
    "motion_fidelity_all": ("motion fidelity, image", 3),
    "same_way": ("reference's direction, %", 1),
    "agreement": ("prompt agreement, %", 1),
}
ACROSS = (PLAIN, "MotionClone", LATENTS, DEFAULT, RESTING, POSITIONS)
"""Rows of the table of prompts that say another direction."""
FIRST = 4000
"""Seed of the first reference; those that methods were tuned on are lower, and those of training higher."""


class Experiment:
    """The tables of one backbone."""

    def __init__(self, backbone: str, results: Results) -> None:
        self._backbone, self._results = backbone, results

    def measured(self, methods: Mapping[str, TransferMethod], clips: Sequence[Case]) -> xr.DataArray:
        """(row, clip, metric); labels that end in "injected" take the embedding of another prompt."""
        rows = {
            label: [Run(self._backbone, case, method, label.endswith("injected")) for case in clips]
            for label, method in methods.items()
        }
        return measured(self._results, rows)

    def report(self, title: str, methods: Mapping[str, TransferMethod], clips: Sequence[Case]) -> str:
        """Means, and differences to the plain backbone."""
        return _tables(title, self.measured(methods, clips), clips, PLAIN)

    def tune(self, count: int) -> str:
        """Every optimised method at every rate, and injection in every layer, on scenes of their own."""
        clips = cases(TUNED_ON, count, WITHOUT)
        return self.report("Tuning", candidates(), clips)

    def table(self, prompts: Prompts, first: int, count: int) -> str:
        """The methods side by side, each as it was tuned."""
        methods = tuned_methods(self._backbone)
        if prompts == "across":
            methods = {label: methods[label] for label in ACROSS if label in methods}
        methods["DiTFlow, positions of another prompt, injected"] = methods[POSITIONS]
        return self.report(f"Prompts {prompts}", methods, cases(first, count, prompts))

    def layers(self, first: int, count: int) -> str:
        """DiTFlow on latents, guided by each layer; a layer at random is the mean of all."""
        clips = cases(first, count, WITHOUT)
        methods = {f"layer {layer}": replace(self._ditflow, layers=(layer,)) for layer in range(6)}
        found = self.measured({PLAIN: PlainBackbone(), **methods}, clips)
        random = found.sel(row=list(methods)).mean("row").expand_dims(row=["a layer at random"])
        chosen = f"layer {default_layer(load_backbone(self._backbone))}"
        return _tables("Guided by", xr.concat([found, random], "row"), clips, PLAIN, chosen)

    def iterations(self, first: int, count: int) -> str:
        """DiTFlow on latents with more and fewer iterations at each step."""
        methods = {f"iterations: {number}": replace(self._ditflow, iterations=number) for number in (1, 5, 10)}
        return self._ablation("Iterations at each step", methods, first, count)

    def share(self, first: int, count: int) -> str:
        """DiTFlow on latents at more and fewer of the steps, at the default rate and as it was tuned."""
        methods = {
            f"{share:.0%} of the steps, rate {rate}": rated(DiTFlow(fraction=share), rate)
            for rate in sorted({GENTLE, RATE_OF[self._backbone][LATENTS]})
            for share in (0.1, 0.2, 0.4)
        }
        return self._ablation("Share of the steps", methods, first, count)

    @property
    def _ditflow(self) -> OptimisedMethod:
        return rated(DiTFlow(), RATE_OF[self._backbone][LATENTS])

    def _ablation(self, title: str, methods: Mapping[str, TransferMethod], first: int, count: int) -> str:
        clips = cases(first, count, WITHOUT)
        return self.report(title, {PLAIN: PlainBackbone(), **methods}, clips)


def _tables(title: str, found: xr.DataArray, clips: Sequence[Case], *bases: str) -> str:
    """Means, and differences to each of some rows."""
    about = f"{title}. {len(clips)} references (seeds {clips[0].seed} to {clips[-1].seed}), {STEPS} steps."
    against = [against_table(found, base, TITLES) for base in bases]
    return "\n\n".join([about, means_table(found, TITLES, missing="no object seen"), *against])


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"], choices=list(BUNDLED))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--references", type=int, default=40)
    parser.add_argument("--tuned-on", type=int, default=12, help="references of the part 'tune'")
    parser.add_argument("--first", type=int, default=FIRST, help="seed of the first reference")
    parser.add_argument("--clips", type=int, default=2, help="clips of each prompt in the part 'open'")
    parser.add_argument("--results", type=Path, default=Path("runs/transfer.jsonl"))
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    given = parser.parse_args(arguments)
    began = time.perf_counter()
    results = Results(given.results, given.workers)
    for name in given.backbones:
        experiment, which = Experiment(name, results), (given.first, given.references)
        parts = {
            "tune": lambda: experiment.tune(given.tuned_on),  # noqa: B023
            "table": lambda: experiment.table(WITHOUT, *which),  # noqa: B023
            "across": lambda: experiment.table("across", *which),  # noqa: B023
            "layers": lambda: experiment.layers(*which),  # noqa: B023
            "iterations": lambda: experiment.iterations(*which),  # noqa: B023
            "share": lambda: experiment.share(*which),  # noqa: B023
            "open": lambda: open_report(name, cases(*which, WITHOUT), clips=given.clips, workers=given.workers),  # noqa: B023
            "cost": lambda: cost_report(name),  # noqa: B023
        }
        for part in given.parts:
            print(f"\n## {name}: {part}\n\n{parts[part]()}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
