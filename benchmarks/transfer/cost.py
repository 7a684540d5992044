"""Time and peak memory of a motion transfer, each method in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import torch

from benchmarks.memory import forget_peak, memory
from benchmarks.transfer.clips import Case
from benchmarks.transfer.methods import PLAIN, tuned_methods
from benchmarks.transfer.runs import STEPS, Run

_CASE = Case(4000)


def cost_report(backbone: str) -> str:
    """A table by method as Markdown."""
    lines = [
        f"One clip in {STEPS} steps on one thread.",
        "",
        "| method | seconds | times the plain backbone | more memory than before, MB |",
        "|---|---:|---:|---:|",
    ]
    found = {label: _in_a_process(backbone, label) for label in tuned_methods(backbone)}
    for label, one in found.items():
        ratio = one["seconds"] / found[PLAIN]["seconds"]
        lines.append(f"| {label} | {one['seconds']:.2f} | {ratio:.2f} | {one['megabytes']:.0f} |")
    return "\n".join(lines)


def _in_a_process(backbone: str, label: str) -> dict[str, float]:
    call = [sys.executable, "-m", "benchmarks.transfer.cost", backbone, label]
    found: dict[str, float] = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    """Make one clip twice and print what the second time cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("method")
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(given.backbone, _CASE, tuned_methods(given.backbone)[given.method])
    Run(given.backbone, _CASE, tuned_methods(given.backbone)[PLAIN]).clip()  # what loads once
    forget_peak()
    before, began = memory("VmRSS"), time.perf_counter()
    run.clip()
    print(json.dumps({"seconds": time.perf_counter() - began, "megabytes": memory("VmHWM") - before}))


if __name__ == "__main__":
    main()
