"""Costs on a GPU at the full shapes of CogVideoX-2B and -5B, random weights: ``python -m benchmarks.gpu``.

One transformer block in bfloat16 and, in turn, what ditprobe does with its queries and keys, beside each other's times
and the most memory that each takes; then whole runs (:mod:`benchmarks.gpu_runs`) and the disk. ``--dry-run`` lists what
would be measured and about how long it takes, and needs no GPU.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock

from analyses.flow.attention_flow import MovingFlowLoss
from analyses.layers.ground_truth import Target
from analyses.layers.measures import measure_on_device
from analyses.token_checks import fetch
from benchmarks import gpu_runs
from benchmarks.gpu_runs import FLOPS, TEXT, Model
from benchmarks.true_shapes import MOVING, moving_points
from generators.guidance.cross_attention import within_frames
from probe.attention.edit import Attention
from probe.recording.staging import Staging
from store.layout import TokenLayout
from store.plan import format_bytes

CHANNELS = 64
AIMS = {
    "CAG, exact": "1.3 x attention",
    "sweep, 100 points and features": "0.05 x layer",
    "record queries and keys": "hidden behind the next layers",
} | gpu_runs.AIMS
Calls = Iterator[tuple[str, Callable[[], object]]]


@dataclass(frozen=True)
class Shapes:
    """A model's heads and the layout of its tokens."""

    heads: int
    layout: TokenLayout

    def __str__(self) -> str:
        layout = self.layout
        size = format_bytes(2 * 2 * self.heads * layout.video_tokens * CHANNELS)
        return (
            f"{layout.video_tokens + TEXT} tokens ({layout.frames} frames of {layout.height} x {layout.width} cells, "
            f"{TEXT} of text), {self.heads} heads x {CHANNELS}; queries and keys of a layer take {size}"
        )


NAMES = (
    "layer, plain",
    "attention of the layer, plain",
    "CAG, exact",
    "CAG, renormalised",
    "sweep, 100 points and features",
    "record queries and keys",
    "flow loss and gradients, 40 % move",
)


def calls(shapes: Shapes, device: torch.device, dtype: torch.dtype) -> Calls:
    """Calls that are measured, by :data:`NAMES`."""
    layout, width = shapes.layout, shapes.heads * CHANNELS
    tokens, grid = layout.video_tokens + TEXT, (layout.frames, layout.height, layout.width)
    made: dict[str, Any] = {"device": device, "dtype": dtype}
    block: Any = CogVideoXBlock(width, shapes.heads, CHANNELS, 512).eval().to(device, dtype)
    hidden, text = torch.randn(1, layout.video_tokens, width, **made), torch.randn(1, TEXT, width, **made)
    embedding = torch.zeros(1, 512, **made)
    query, key, value = (torch.randn(1, shapes.heads, tokens, CHANNELS, **made) for _ in range(3))
    attention = Attention(0, query, key, value, None, CHANNELS**-0.5, layout, slice(TEXT, tokens))
    attend = torch.nn.functional.scaled_dot_product_attention
    own = lambda each: attend(each.query, each.key, each.value, scale=each.scale)  # noqa: E731
    seen = {name: each[0, :, TEXT:].unflatten(1, grid) for name, each in (("query", query), ("key", key))}
    target = Target.of(moving_points(layout), layout, device=device)
    staging = Staging(device)
    parts = {name: staging.allocate(tuple(each.shape)) for name, each in seen.items()}
    features = hidden[0].unflatten(0, grid)

    def swept() -> object:
        return fetch([measure_on_device(*seen.values(), target, text_key=key[0, :, :TEXT], features=features)])

    def flowed() -> object:
        leaves = [each.detach().requires_grad_() for each in seen.values()]
        with torch.enable_grad():
            return torch.autograd.grad(moving(*leaves, layout), leaves)

    reference = torch.zeros(layout.frames, *grid, 2, device=device)
    moves = torch.rand(reference.shape[:-1], generator=torch.Generator().manual_seed(1)) < MOVING
    moves[range(layout.frames), range(layout.frames)] = False
    reference[moves.to(device)] = 1.0
    moving = MovingFlowLoss(reference)
    yield from zip(
        NAMES,
        (
            lambda: block(hidden, text, embedding),
            lambda: own(attention),
            lambda: within_frames()(attention, own),
            lambda: within_frames(True)(attention, own),
            swept,
            lambda: staging.fill(seen, parts)(),
            flowed,
        ),
        strict=True,
    )


@torch.no_grad()
def measured(shapes: Shapes, device: torch.device, dtype: torch.dtype, rounds: int) -> dict[str, tuple[float, float]]:
    """Least milliseconds and most extra MB (on a GPU) of each, the device idle before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    found: dict[str, tuple[float, float]] = {}
    everything = list(calls(shapes, device, dtype))
    for _ in range(rounds + 1):  # the first warms up
        for name, call in everything:
            before = 0
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            wait()
            began = time.perf_counter()
            call()
            wait()
            took = 1000 * (time.perf_counter() - began)
            peak = torch.cuda.max_memory_allocated() - before if device.type == "cuda" else np.nan
            least, most = found.get(name, (np.inf, 0.0))
            found[name] = min(least, took), max(most, peak / 1e6)
    return found


def table(found: dict[str, tuple[float, float]]) -> str:
    """As Markdown for the docs."""
    layer, attention = found[NAMES[0]][0], found[NAMES[1]][0]
    lines = ["| | ms | of the layer | of its attention | extra MB | aim |", "|---|---:|---:|---:|---:|---|"]
    for name, (took, memory) in found.items():
        aim = AIMS.get(name, "")
        lines.append(f"| {name} | {took:.2f} | {took / layer:.3f} | {took / attention:.2f} | {memory:.0f} | {aim} |")
    return "\n".join(lines)


def layer_estimates(model: Model, rounds: int) -> dict[str, float]:
    """Seconds of all rounds of each of :data:`NAMES`, from counted operations at the assumed speed."""
    layout, layer = model.layout, model.layer_operations()
    tokens = layout.video_tokens + TEXT
    attention = 4.0 * tokens**2 * model.width
    pairs = 2.0 * layout.frames**2 * (layout.height * layout.width) ** 2 * model.width
    each = (layer, attention, 2 * attention, attention, 0.1 * layer, 0.01 * layer, 4 * MOVING * pairs)
    return {name: (rounds + 1) * count / FLOPS for name, count in zip(NAMES, each, strict=True)}


def dry_run(model: Model, rounds: int) -> str:
    """Table of the measurements to come, with their aims and the seconds that they take at the least."""
    lines = ["| | at least s | aim |", "|---|---:|---|"]
    found = layer_estimates(model, rounds) | gpu_runs.estimates(model)
    lines += [f"| {name} | {took:.1f} | {AIMS.get(name, '')} |" for name, took in found.items()]
    return "\n".join([*lines, f"| all | {sum(found.values()):.0f} | |"])


def main() -> None:
    """Print tables of each model, or what would be in them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="list what would be measured, and about how long")
    parser.add_argument("--rounds", type=int, default=10, help="of what one layer takes; whole runs are made once")
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    given = parser.parse_args()
    if not given.dry_run and not torch.cuda.is_available():
        parser.error("there is no GPU here; --dry-run lists what would be measured")
    for model in gpu_runs.MODELS:
        shapes = Shapes(int(model.transformer["num_attention_heads"]), model.layout)
        print(f"\n### {model.name}\n\n{shapes}; bfloat16, best of {given.rounds}\n", flush=True)
        if given.dry_run:
            print(dry_run(model, given.rounds))
            print(f"\nAt {FLOPS / 1e12:.0f} TFLOP/s and {gpu_runs.DISK / 1e9:g} GB/s; loading and warming up aside.")
            continue
        _print_tables(model, shapes, given.rounds, given.folder)


def _print_tables(model: Model, shapes: Shapes, rounds: int, folder: Path | None) -> None:
    """Both tables of a model; one that fails does not cost the others."""
    device, dtype = torch.device("cuda"), torch.bfloat16
    for part in (
        lambda: table(measured(shapes, device, dtype, rounds)),
        lambda: gpu_runs.table(gpu_runs.measured(model, device, dtype, folder=folder)),
    ):
        try:
            print(f"\n{part()}", flush=True)
        except Exception:
            traceback.print_exc()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
