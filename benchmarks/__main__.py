"""All benchmarks, one after the other: ``python -m benchmarks``."""

from __future__ import annotations

import subprocess
import sys

for name in (
    "writer",
    "recorder",
    "matching",
    "mini_quality",
    "interval_coverage",
    "motion_metrics",
    "training_attention",
    "amf",
    "flow_accuracy",
    "tracking",
    "guidance",
    "transfer",
):
    print(f"\n## {name}\n", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
