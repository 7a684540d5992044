"""Matching beside the plain einsum formulation: ``python -m benchmarks.correspondence.matching``.

One process, one thread, one layer of CogVideoX-2B's geometry at 49 images of 480 x 720: 30 heads of 64 channels, 13
frames of 30 x 45 cells. The plain formulation is the definition written down: for each frame both full products of
all heads by einsum, a softmax of each, the mean over heads, the transpose of one added to the other, the best cell of
every cell. It goes frame by frame, because all frames at once would take 5.2 GB. Seconds are those that the thread
spent on the processor, so that another process on the machine does not count; compare the ratios.
"""

from __future__ import annotations

import argparse
import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from analyses.correspondence.matching import corners_of, match_points, match_points_by_head, tracks_of
from store.layout import TokenLayout

LAYOUT = TokenLayout(13, 30, 45, 480, 720, 49)
HEADS, CHANNELS, POINTS = 30, 64, 100
REPEATS = 2


@dataclass(frozen=True)
class Timing:
    """Processor seconds of the fastest run, and how far the process's memory rose above what it held before."""

    seconds: float
    extra_bytes: int
    result: Any


def resident_bytes() -> int:
    """Memory of this process, from Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def timed(work: Callable[[], Any], repeats: int = REPEATS) -> Timing:
    """Run the work a few times while a thread watches the memory."""
    # What an earlier run has freed must not hide what this one takes.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before, highest, stop = resident_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not stop.wait(0.005):
            highest = max(highest, resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    took = []
    try:
        for _ in range(repeats):
            start = time.thread_time()
            result = work()
            took.append(time.thread_time() - start)
    finally:
        stop.set()
        watcher.join()
    return Timing(min(took), max(0, highest - before), result)


def plain(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """(frame - 1, cell) best target of every source cell, by full attention maps of all heads."""
    best = []
    for frame in range(1, query.shape[1]):
        forward = torch.einsum("aid,ajd->aij", query[:, 0], key[:, frame]) / CHANNELS**0.5
        backward = torch.einsum("aid,ajd->aij", query[:, frame], key[:, 0]) / CHANNELS**0.5
        cost = (forward.softmax(-1).mean(0) + backward.softmax(-1).mean(0).T) / 2
        best.append(cost.argmax(-1))
    return torch.stack(best)


def bare_products(query: torch.Tensor, key: torch.Tensor, sources: int) -> None:
    """Only the matrix products that the matching cannot do without, into memory that is reused."""
    cells = query.shape[2]
    full, rows = torch.empty(cells, cells), torch.empty(sources, cells)
    for frame in range(1, query.shape[1]):
        for head in range(len(query)):
            torch.mm(key[head, 0], query[head, frame].T, out=full)
            torch.mm(query[head, 0, :sources], key[head, frame].T, out=rows)


def make_tokens() -> tuple[torch.Tensor, torch.Tensor]:
    """Random queries and keys, as sharp as a model's."""
    generator = torch.Generator().manual_seed(0)
    shape = (HEADS, LAYOUT.frames, LAYOUT.height, LAYOUT.width, CHANNELS)
    query, key = (1.5 * torch.randn(shape, generator=generator) for _ in range(2))
    return query, key


def cell_centres() -> torch.Tensor:
    """Every cell of the frame as a point."""
    cells = torch.arange(LAYOUT.height * LAYOUT.width)
    return LAYOUT.to_pixels(torch.stack([cells % LAYOUT.width, cells // LAYOUT.width], -1).double())


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    query, key = make_tokens()
    flat_query, flat_key = query.flatten(2, 3), key.flatten(2, 3)
    generator = torch.Generator().manual_seed(1)
    few = torch.rand(POINTS, 2, generator=generator, dtype=torch.float64) * torch.tensor([720.0, 480.0])
    dense = cell_centres()
    sources = len(corners_of(few, LAYOUT, "exact", query.device).sources)

    ours = {
        f"ours, {POINTS} points": (lambda: match_points(query, key, few, LAYOUT), sources),
        f"ours, {POINTS} points, each head too": (lambda: match_points_by_head(query, key, few, LAYOUT), sources),
        f"ours, {POINTS} points, budget 16 MiB": (
            lambda: match_points(query, key, few, LAYOUT, budget_bytes=16 * 2**20),
            sources,
        ),
        f"ours, all {len(dense)} cells": (lambda: match_points(query, key, dense, LAYOUT), len(dense)),
    }
    half_query, half_key = query.half(), key.half()
    ours[f"ours, {POINTS} points, float16 input"] = (lambda: match_points(half_query, half_key, few, LAYOUT), sources)
    results = {name: (timed(work), count) for name, (work, count) in ours.items()}
    baseline = timed(lambda: plain(flat_query, flat_key))
    limits = {n: timed(lambda n=n: bare_products(flat_query, flat_key, n)) for n in (sources, len(dense))}

    for name, points in ((f"ours, {POINTS} points", few), (f"ours, all {len(dense)} cells", dense)):
        check_same(results[name][0].result, baseline.result, points)
    print(f"{HEADS} heads x {CHANNELS} channels, {LAYOUT.frames} frames of {LAYOUT.height} x {LAYOUT.width} cells,")
    print(f"float32, one thread, torch {torch.__version__}; {POINTS} points need {sources} source cells.\n")
    print("| formulation | seconds | times faster | extra memory | fraction of matmul limit |")
    print("|---|---:|---:|---:|---:|")
    limit = limits[len(dense)].seconds
    print(row("plain einsum, all cells", baseline, 1.0, limit))
    for name, (timing, count) in results.items():
        print(row(name, timing, baseline.seconds / timing.seconds, limits[count].seconds))
    for count, timing in limits.items():
        print(row(f"matmul limit, {count} source cells", timing, baseline.seconds / timing.seconds, timing.seconds))


def check_same(tracks: torch.Tensor, best: torch.Tensor, points: torch.Tensor) -> None:
    """Both formulations must find the same places, but for ties within rounding."""
    corners = corners_of(points, LAYOUT, "exact", best.device)
    chosen = best[:, corners.sources]
    cells = torch.stack([chosen % LAYOUT.width, chosen // LAYOUT.width], -1)
    share = (tracks_of(cells, corners) == tracks).all(-1).double().mean().item()
    if share < 0.999:
        raise RuntimeError(f"the formulations agree on {100 * share:.2f} % of the points only.")


def row(name: str, timing: Timing, ratio: float, limit: float) -> str:
    """A line of the table."""
    memory = f"{timing.extra_bytes / 1e6:.0f} MB"
    return f"| {name} | {timing.seconds:.2f} | {ratio:.1f} | {memory} | {100 * limit / timing.seconds:.0f} % |"


if __name__ == "__main__":
    main()
