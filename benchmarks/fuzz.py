"""Fuzz of every public function, each argument replaced in turn, for outcomes other than results and typed errors.

``python -m benchmarks.fuzz`` runs all of it and prints a line for each raw error; ``--only make_scene sweep`` some
functions, ``--summary`` the counts alone. The tests make a seeded sample of the same calls (tests/fuzz).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fuzz"))

from fuzz_cases import CASES, World
from fuzz_harness import Outcome, attempts, bound_memory, bounded, run


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=sorted(CASES), help="functions to call")
    parser.add_argument("--share", type=float, default=1.0, help="of the calls, a seeded sample")
    parser.add_argument("--summary", action="store_true", help="counts alone")
    chosen = parser.parse_args()
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, bounded(Path(folder)):
        world, rng = World(Path(folder)), random.Random(0)
        seen: set[str] = set()
        for attempt in attempts(world, chosen.only):
            if attempt.case not in seen:
                seen.add(attempt.case)
                bound_memory()
            if rng.random() >= chosen.share:
                continue
            outcome.add(attempt, run(world, attempt))
            if attempt in outcome.raw and not chosen.summary:
                print(f"{attempt.case}({attempt.argument}={attempt.value}): {outcome.raw[attempt]}", flush=True)
    raw = Counter(attempt.case for attempt in outcome.raw)
    print(f"\n{'function':<32}{'calls':>7}{'results':>9}{'typed':>7}{'raw':>6}")
    for case in chosen.only:
        counts = outcome.results[case], outcome.typed[case], raw[case]
        print(f"{case:<32}{sum(counts):>7}{counts[0]:>9}{counts[1]:>7}{counts[2]:>6}")
    counts = sum(outcome.results.values()), sum(outcome.typed.values()), len(outcome.raw)
    print(f"{'all':<32}{sum(counts):>7}{counts[0]:>9}{counts[1]:>7}{counts[2]:>6}")


if __name__ == "__main__":
    main()
