"""Time that a record takes of the sampler's thread on the CPU: ``python -m benchmarks.recordings.sampler``.

Queries and keys of one layer of CogVideoX-2B at 49 images of 480 x 720 px (134.8 MB in half precision), laid out as a
transformer makes them, are cast, checked and counted into memory of the writer. Processor time of the thread, least and
median; beside other work memory is slower, so compare runs of one time.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from benchmarks.true_shapes import CHANNELS, HEADS, layout_of
from probe.recording.staging import Staging

WAYS = (
    (torch.bfloat16, "float16"),
    (torch.bfloat16, "bfloat16"),
    (torch.float16, "float16"),
    (torch.float32, "float16"),
)


def record_seconds(dtype: torch.dtype, stored: str, rounds: int, *, frames: int = 13) -> list[float]:
    """Processor seconds of the thread in each round, for one record."""
    layout, staging = layout_of(frames), Staging(torch.device("cpu"))
    grid = (layout.frames, layout.height, layout.width)
    tensors, parts = {}, {}
    for seed, name in enumerate(("query", "key")):
        made = torch.randn(layout.video_tokens, HEADS, CHANNELS, generator=torch.Generator().manual_seed(seed))
        tensors[name] = made.to(dtype).transpose(0, 1).unflatten(1, grid)
        part = staging.allocate(tuple(tensors[name].shape))
        part[:] = 0  # touched before, as memory of the writer is after its first records
        parts[name] = part.view(np.uint16) if stored == "bfloat16" else part
    found = []
    for _ in range(rounds):
        began = time.thread_time()
        staging.fill(tensors, parts)()
        found.append(time.thread_time() - began)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| captured | stored | ms, least | ms, median |\n|---|---|---:|---:|")
    for dtype, stored in WAYS:
        took = [1000 * each for each in record_seconds(dtype, stored, rounds)]
        captured = str(dtype).removeprefix("torch.")
        print(f"| {captured} | {stored} | {min(took):.0f} | {statistics.median(took):.0f} |", flush=True)


if __name__ == "__main__":
    main()
