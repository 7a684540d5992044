"""Cost of recording for a sampler: ``python -m benchmarks.recordings.recorder``.

The bundled backbone samples the same prompt in turn without a probe, with a probe whose sink does nothing, and with a
recording of three layers at every step; medians, and ratios to plain sampling in the same process. The model is tiny,
so a fixed cost for each capture weighs far more here than beside a large one: read the milliseconds too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import torch

from probe import load_backbone, run_prompt
from probe.recording.record import record
from store import Selection

PROMPT = "a red disc moves left over blue stripes while the camera pans up"
STEPS, ROUNDS = 50, 5
SELECTION = Selection(steps="all", layers=[1, 4, 5])


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    backbone = load_backbone("mini")

    def recorded() -> None:
        with tempfile.TemporaryDirectory() as folder:
            record(backbone, PROMPT, SELECTION, f"{folder}/run.zarr", steps=STEPS)

    ways: dict[str, Callable[[], object]] = {
        "plain sampling": lambda: backbone.generate(PROMPT, steps=STEPS),
        "with a probe": lambda: run_prompt(backbone, PROMPT, SELECTION, lambda capture: None, steps=STEPS),
        "with a recording": recorded,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    plain = statistics.median(seconds["plain sampling"])
    captures = STEPS * len(list(SELECTION.layers))
    print("| | seconds | ratio | more, ms for each capture |\n|---|---:|---:|---:|")
    for name, took in seconds.items():
        middle = statistics.median(took)
        print(f"| {name} | {middle:.2f} | {middle / plain:.2f} | {1000 * (middle - plain) / captures:.2f} |")


if __name__ == "__main__":
    main()
