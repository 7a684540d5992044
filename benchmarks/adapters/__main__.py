"""Is motion learnt and transferred? DeT and its trained baselines in tables: ``python -m benchmarks.adapters``.

References are those of ``benchmarks.transfer``: scenes of one object under a static camera. Each trained
method learns a reference under a caption that leaves its motion open, and generates two prompts of other objects over
other backgrounds that leave it open too. Fits that were measured are kept in ``--results``; ``--made`` prints what
is there and makes no more.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import xarray as xr

from benchmarks.adapters.arms import ALL, DET, FYM, PLAIN, Arm, ablations, arms, is_trained, shortened, splits
from benchmarks.adapters.measures import NEW, OTHER, mean_of_known
from benchmarks.adapters.runs import Fit
from benchmarks.results import Results
from benchmarks.tables import against_table, means_table
from benchmarks.transfer.clips import cases

TITLES = {
    "motion_error": ("motion error", 2),
    "motion_fidelity": ("motion fidelity, box", 3),
    "motion_fidelity_all": ("motion fidelity, image", 3),
    "hybrid": ("hybrid fidelity", 3),
    "same_way": ("reference's way, %", 1),
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
PARTS = ("table", "kept", "ablation", "split")


class Experiment:
    """The tables of one backbone."""

    def __init__(self, backbone: str, results: Results, given: argparse.Namespace) -> None:
        self._backbone, self._results, self._made, self._steps = backbone, results, given.made, given.training_steps
        self._chosen = given.arms
        first, references = given.first, given.references
        self._cases = cases(first, references, "without a direction")

    def table(self) -> str:
        """Every arm, and DeT with the adapter kept in fewer layers."""
        rows = {name: (arm, ALL, (NEW, OTHER)) for name, arm in arms(self._backbone).items()}
        det = arms(self._backbone)[DET]
        rows[f"{DET}, first 2 layers kept"] = (det, (0, 1), (NEW, OTHER))
        return self._tables("Two prompts a reference", rows, PLAIN)

    def kept(self) -> str:
        """DeT with the adapter kept in more and fewer of the layers it was trained in; one prompt."""
        det = arms(self._backbone)[DET]
        rows = {f"first {n} of 6 layers": (det, tuple(range(n)), (NEW,)) for n in range(1, 7)}
        return self._tables("Layers kept at inference, one prompt a reference", rows, "first 6 of 6 layers")

    def ablation(self) -> str:
        """DeT with one thing changed."""
        table = {DET: arms(self._backbone)[DET], **ablations(self._backbone)}
        rows = {name: (arm, ALL, (NEW, OTHER)) for name, arm in table.items()}
        return self._tables("One thing changed", rows, DET)

    def split(self) -> str:
        """Follow-Your-Motion with one thing changed."""
        table = {FYM: arms(self._backbone)[FYM], **splits(self._backbone)}
        rows = {name: (arm, ALL, (NEW, OTHER)) for name, arm in table.items()}
        return self._tables("Follow-Your-Motion, one thing changed", rows, FYM)

    def _tables(self, title: str, rows: dict[str, tuple[Arm, tuple[int, ...], tuple[str, ...]]], base: str) -> str:
        if self._steps is not None:
            rows = {name: (shortened(arm, self._steps), *rest) for name, (arm, *rest) in rows.items()}
        if self._chosen is not None:
            rows = {name: row for name, row in rows.items() if name in (*self._chosen, base)}
        if not self._made:
            self._results.make(Fit(self._backbone, case, arm) for case in self._cases for arm, _, _ in rows.values())
        there = {
            name: [case for case in self._cases if self._results.get(Fit(self._backbone, case, arm)) is not None]
            for name, (arm, _, _) in rows.items()
        }
        rows = {name: row for name, row in rows.items() if there[name]}
        shared = [case for case in self._cases if all(case in there[name] for name in rows)]
        if base not in rows or len(shared) < 2:
            return f"{title}: not measured."
        found = xr.DataArray(
            [[self._measured(case, *row) for case in shared] for row in rows.values()],
            {"row": list(rows), "clip": [case.seed for case in shared], "metric": [*TITLES, *FITS]},
            ("row", "clip", "metric"),
        )
        trained = [name for name, (arm, _, _) in rows.items() if is_trained(arm)]
        steps = "" if self._steps is None else f" Trainings were cut to {self._steps} steps."
        about = f"{title}. {len(shared)} references (seeds {shared[0].seed} to {shared[-1].seed}).{steps}"
        parts = [about, means_table(found, TITLES, missing="no object seen"), against_table(found, base, TITLES)]
        if trained:
            parts.append(means_table(found.sel(row=trained), FITS, missing="not fitted"))
        return "\n\n".join(parts)

    def _measured(self, case: object, arm: Arm, layers: tuple[int, ...], prompts: tuple[str, ...]) -> list[float]:
        found = self._results.get(Fit(self._backbone, case, arm))  # type: ignore[arg-type]
        assert found is not None
        clips = [found["clips"][f"{which} first {len(layers)}"] for which in prompts]
        return [mean_of_known([clip[name] for clip in clips]) for name in TITLES] + [
            found.get(name, np.nan) for name in FITS
        ]


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"], choices=["mini", "mini-rope"])
    parser.add_argument("--parts", nargs="+", default=["table", "kept"], choices=PARTS)
    parser.add_argument("--references", type=int, default=24)
    parser.add_argument("--first", type=int, default=FIRST, help="seed of the first reference")
    parser.add_argument("--results", type=Path, default=Path("runs/adapters.jsonl"))
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--arms", nargs="+", help="rows by name; all by default")
    parser.add_argument("--training-steps", type=int, help="cut every training to so many, to see that it runs")
    parser.add_argument("--made", action="store_true", help="print what was measured, and make no more")
    given = parser.parse_args(arguments)
    began = time.perf_counter()
    results = Results(given.results, given.workers)
    for name in given.backbones:
        experiment = Experiment(name, results, given)
        for part in given.parts:
            print(f"\n## {name}: {part}\n\n{getattr(experiment, part)()}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
