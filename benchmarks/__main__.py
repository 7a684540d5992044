"""All benchmarks, one after the other: ``python -m benchmarks``; names choose some."""

from __future__ import annotations

import argparse
import subprocess
import sys

NAMES = (
    "recordings.writer",
    "recordings.recorder",
    "recordings.sampler",
    "recordings.faults",
    "true_shapes",
    "correspondence.matching",
    "mini_quality",
    "correspondence.interval_coverage",
    "flow.motion_metrics",
    "mini_quality.training_attention",
    "flow.amf",
    "flow.accuracy",
    "tracking",
    "heads",
    "guidance",
    "transfer",
    "adapters",
    "explorer",
)


def main() -> None:
    """Run them, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    chosen = parser.parse_args().names
    unknown = [name for name in chosen if name not in NAMES]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}. Known: {', '.join(NAMES)}.")
    for name in chosen or NAMES:
        print(f"\n## {name}\n", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)


if __name__ == "__main__":
    main()
