"""Is motion learnt and transferred? DeT and its trained baselines in tables: ``python -m benchmarks.adapters``.

References are those of ``benchmarks.transfer``: scenes of one object under a static camera. Each trained
method learns a reference under a caption that leaves its motion open, and generates two prompts of other objects over
other backgrounds that leave it open too.

A fit is kept in ``--results`` as soon as it was measured, by everything that decides it, the digest of the backbone's
weights among it: the same command goes on where it was stopped, and other weights are measured again. ``--made``
prints what is there and makes no more; ``--dry-run`` tells how long the rest takes.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.adapters.arms import (
    ALL,
    DET,
    FYM,
    PLAIN,
    Arm,
    ablations,
    arms,
    candidates,
    is_trained,
    shortened,
    splits,
    weights,
)
from benchmarks.adapters.cost import TUNED_ON, Costs, estimate
from benchmarks.adapters.measures import NEW, OTHER, mean_of_known
from benchmarks.adapters.runs import Fit
from benchmarks.results import Results, weights_digest
from benchmarks.tables import against_table, means_table
from benchmarks.transfer.clips import Case, cases
from benchmarks.transfer.runs import STEPS
from probe.mini import BUNDLED
from store.scenes.prompt import PromptWarning

TITLES = {
    "motion_error": ("motion error", 2),
    "motion_fidelity": ("motion fidelity, box", 3),
    "motion_fidelity_all": ("motion fidelity, image", 3),
    "hybrid": ("hybrid fidelity", 3),
    "same_way": ("reference's direction, %", 1),
    "agreement": ("prompt agreement, %", 1),
    "object_leak": ("object towards the reference's colour, %", 1),
    "background_leak": ("background towards the reference's colour, %", 1),
}
FITS = {
    "before": ("loss before", 3),
    "after": ("loss after", 3),
    "source": ("motion error, own caption", 2),
    "training": ("training, s", 0),
    "seconds": ("a clip, s", 1),
}
FIRST = 4000
REFERENCES = {"table": 24, "kept": 24, "ablation": 12, "split": 12}
"""Of each part; a reference of both ablations takes nearly five times as long as one of the table."""
TUNING = ("tune", "weight")
PARTS = (*TUNING, *REFERENCES)

Row = tuple[Arm, tuple[int, ...], tuple[str, ...]]
"""An arm, the layers that are kept, and the prompts that count."""


class Experiment:
    """The tables of one backbone."""

    def __init__(self, backbone: str, results: Results, given: argparse.Namespace) -> None:
        self._backbone, self._results, self._given = backbone, results, given
        self._costs: Costs | None = None
        self.missing: dict[str, Fit] = {}

    def report(self, part: str) -> str:
        """The tables of a part; its fits are made first, but for a dry run or what was made alone."""
        title, base, rows = self._rows(part)
        given = self._given
        if part in TUNING:
            first, count = TUNED_ON, given.tuned_on
        else:
            first, count = given.first, given.references or REFERENCES[part]
        clips = cases(first, count, "without a direction")
        fits = [self._fit(case, arm) for case in clips for arm, _, _ in rows.values()]
        if given.dry_run:
            self._costs = self._costs or Costs(self._backbone)
            missing = [fit for fit in self._results.missing(fits) if isinstance(fit, Fit)]
            self.missing |= {fit.key: fit for fit in missing}
            return f"{title}: {len(rows)} rows on {len(clips)} references; {estimate(missing, self._costs)}."
        if not given.made:
            self._results.make(fits, on_made=_told)
        return self._tables(title, base, rows, clips)

    def total(self) -> str:
        """Return how long all missing fits of the reported parts take, in words."""
        return estimate(list(self.missing.values()), self._costs or Costs(self._backbone))

    def _rows(self, part: str) -> tuple[str, str, dict[str, Row]]:
        """Title, the row that others are compared with, and the rows of a part."""
        made = arms(self._backbone)
        both = (NEW, OTHER)
        if part == "kept":
            rows: dict[str, Row] = {f"first {n} of 6 layers": (made[DET], tuple(range(n)), (NEW,)) for n in range(1, 7)}
            return "Layers of DeT kept at inference, one prompt a reference", "first 6 of 6 layers", self._cut(rows)
        title, base, chosen = {
            "tune": ("Rates, on tuning scenes", PLAIN, candidates(self._backbone)),
            "weight": (
                "Follow-Your-Motion and the weight of its motion loss, on tuning scenes",
                PLAIN,
                weights(self._backbone),
            ),
            "table": ("Two prompts a reference", PLAIN, made),
            "ablation": ("DeT, one thing changed", DET, {DET: made[DET], **ablations(self._backbone)}),
            "split": ("Follow-Your-Motion, one thing changed", FYM, {FYM: made[FYM], **splits(self._backbone)}),
        }[part]
        rows = {name: (arm, ALL, both) for name, arm in chosen.items()}
        if part == "table":
            rows[f"{DET}, first 2 layers kept"] = (made[DET], (0, 1), both)
        return title, base, self._cut({name: row for name, row in rows.items() if self._is_chosen(name, base)})

    def _is_chosen(self, name: str, base: str) -> bool:
        return self._given.arms is None or name in (*self._given.arms, base)

    def _cut(self, rows: dict[str, Row]) -> dict[str, Row]:
        steps = self._given.training_steps
        return rows if steps is None else {name: (shortened(arm, steps), *rest) for name, (arm, *rest) in rows.items()}  # type: ignore[misc]

    def _fit(self, case: Case, arm: Arm) -> Fit:
        return Fit(self._backbone, case, arm, self._given.sampling_steps)

    def _tables(self, title: str, base: str, rows: dict[str, Row], clips: list[Case]) -> str:
        found = {
            name: {case: self._results.get(self._fit(case, row[0])) for case in clips} for name, row in rows.items()
        }
        refused = [
            f"{name} was refused on seed {case.seed}: {fit['refused']}"
            for name, fits in found.items()
            for case, fit in fits.items()
            if fit is not None and "refused" in fit
        ]
        there = {
            name: {case: fit for case, fit in fits.items() if fit is not None and "refused" not in fit}
            for name, fits in found.items()
        }
        rows = {name: row for name, row in rows.items() if there[name]}
        shared = [case for case in clips if all(case in there[name] for name in rows)]
        if base not in rows or len(shared) < 2:
            return "\n\n".join([f"{title}: fewer than two references were measured in every row.", *refused])
        values = [[_values(there[name][case], *row[1:]) for case in shared] for name, row in rows.items()]
        coords = {"row": list(rows), "clip": [case.seed for case in shared], "metric": [*TITLES, *FITS]}
        table = xr.DataArray(values, coords, ("row", "clip", "metric"))
        trained = [name for name, (arm, _, _) in rows.items() if is_trained(arm)]
        steps = self._given.training_steps
        about = (
            f"{title}. {len(shared)} references (seeds {shared[0].seed} to {shared[-1].seed}), weights "
            f"{weights_digest(self._backbone)[:12]}, {self._given.sampling_steps} steps a clip."
            + ("" if steps is None else f" Trainings were cut to {steps} steps.")
        )
        parts = [about, means_table(table, TITLES, missing="no object seen"), against_table(table, base, TITLES)]
        if trained:
            parts.append(means_table(table.sel(row=trained), FITS, missing="not fitted"))
        return "\n\n".join([*parts, *refused])


def _values(fit: dict[str, Any], layers: tuple[int, ...], prompts: tuple[str, ...]) -> list[float]:
    clips = [fit["clips"][f"{which} first {len(layers)}"] for which in prompts]
    return [mean_of_known([clip[name] for clip in clips]) for name in TITLES] + [fit.get(name, np.nan) for name in FITS]


def _told(made: int, of: int) -> None:
    print(f"\r{made} of {of} fits", end="\n" if made == of else "", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"], choices=list(BUNDLED))
    parser.add_argument("--parts", nargs="+", default=["table", "kept"], choices=PARTS)
    parser.add_argument("--references", type=int, help="by default 24, of the ablations 12")
    parser.add_argument("--first", type=int, default=FIRST, help="seed of the first reference")
    parser.add_argument("--results", type=Path, default=Path("runs/adapters.jsonl"))
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--tuned-on", type=int, default=3, help="references of the parts 'tune' and 'weight'")
    parser.add_argument("--arms", nargs="+", help="rows by name; all by default")
    parser.add_argument("--training-steps", type=int, help="cut every training to so many, to see that it runs")
    parser.add_argument("--sampling-steps", type=int, default=STEPS, help="of a clip; fewer to see that it runs")
    parser.add_argument("--dry-run", action="store_true", help="tell how long the missing fits take, and make none")
    parser.add_argument("--made", action="store_true", help="print what was measured, and make no more")
    given = parser.parse_args(arguments)
    began = time.perf_counter()
    results = Results(given.results, given.workers)
    warnings.simplefilter("ignore", PromptWarning)
    for name in given.backbones:
        experiment = Experiment(name, results, given)
        for part in given.parts:
            print(f"\n## {name}: {part}\n\n{experiment.report(part)}", flush=True)
        if given.dry_run:
            print(f"\n{name}, each fit once: {experiment.total()}.", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
