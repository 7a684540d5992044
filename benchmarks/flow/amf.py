"""Attention motion flow beside the plain formulation, time and memory: ``python -m benchmarks.flow.amf``.

48 heads of 64 channels, 30 x 45 cells, 6 and 13 frames, float32, one thread, forward and backward of the soft flow.
Each way runs in a process of its own, once, after a warm-up on two frames of 3 x 5 cells; what is read is the peak of
that process's resident memory beyond what it held with the queries and keys already made, and processor seconds, so
that another process on the machine does not count as such (it still takes caches and clock). Ways:

* ours: :func:`analyses.flow.attention_flow.attention_motion_flow`
* plain: heads concatenated, the logits of all frames at once as a (frame x cell) squared matrix, autograd
* per head: the logits of every head kept by autograd; its bytes are computed where it does not fit
* checkpoint: the simpler way to bounded memory, ``torch.utils.checkpoint`` around each pair of frames
* sdpa: ``scaled_dot_product_attention`` with coordinates as values, pair by pair. On a CPU its fused kernel needs
  values as wide as queries and takes a fallback here that keeps the attention for backward.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from analyses.flow.attention_flow import attention_motion_flow
from store.layout import TokenLayout

HEADS, CHANNELS, HEIGHT, WIDTH, TEMPERATURE = 48, 64, 30, 45, 2.0
FRAMES = (6, 13)
LIMIT_BYTES = 20 * 10**9


def layout_of(frames: int, height: int = HEIGHT, width: int = WIDTH) -> TokenLayout:
    """The grid of a clip of ``frames`` latent frames."""
    return TokenLayout(frames, height, width, 16 * height, 16 * width, 4 * (frames - 1) + 1)


def joined(tokens: Tensor) -> Tensor:
    """(head, frame, y, x, channel) as (frame, cell, head x channel)."""
    return tokens.flatten(2, 3).permute(1, 2, 0, 3).flatten(2)


def coordinates(layout: TokenLayout) -> Tensor:
    """(cell, 2) as (x, y)."""
    cells = torch.arange(layout.height * layout.width)
    return torch.stack([cells % layout.width, cells // layout.width], -1).float()


def displacement(expected: Tensor, layout: TokenLayout) -> Tensor:
    """Expected cells (frame, frame_to, cell, 2) as displacements on the grid."""
    return (expected - coordinates(layout)).unflatten(2, (layout.height, layout.width))


def plain(query: Tensor, key: Tensor, layout: TokenLayout) -> Tensor:
    """The definition, all frames at once."""
    cells, scale = layout.height * layout.width, TEMPERATURE / (len(query) * math.sqrt(query.shape[-1]))
    logits = joined(query).flatten(0, 1) @ joined(key).flatten(0, 1).T * scale
    attention = logits.unflatten(1, (layout.frames, cells)).softmax(-1)
    expected = attention @ coordinates(layout)
    return displacement(expected.unflatten(0, (layout.frames, cells)).transpose(1, 2), layout)


def by_pairs(query: Tensor, key: Tensor, layout: TokenLayout, *, fused: bool) -> Tensor:
    """Pair by pair, by checkpoints or by scaled_dot_product_attention."""
    cells, scale = coordinates(layout), TEMPERATURE / (len(query) * math.sqrt(query.shape[-1]))

    def by_softmax(source: Tensor, target: Tensor) -> Tensor:
        return torch.softmax(source @ target.T * scale, -1) @ cells

    def pair(source: Tensor, target: Tensor) -> Tensor:
        if fused:
            return functional.scaled_dot_product_attention(source[None], target[None], cells[None], scale=scale)[0]
        return checkpoint(by_softmax, source, target, use_reentrant=False)

    targets = joined(key).unbind(0)
    rows = [torch.stack([pair(source, target) for target in targets]) for source in joined(query).unbind(0)]
    return displacement(torch.stack(rows), layout)


WAYS: dict[str, Callable[[Tensor, Tensor, TokenLayout], Tensor]] = {
    "ours": lambda query, key, layout: attention_motion_flow(query, key, layout, temperature=TEMPERATURE),
    "plain": plain,
    "checkpoint": lambda query, key, layout: by_pairs(query, key, layout, fused=False),
    "sdpa": lambda query, key, layout: by_pairs(query, key, layout, fused=True),
}


def peak_bytes() -> int:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tokens(layout: TokenLayout) -> tuple[Tensor, Tensor]:
    """Random queries and keys with gradients."""
    generator = torch.Generator().manual_seed(0)
    shape = (HEADS, layout.frames, layout.height, layout.width, CHANNELS)
    query, key = (torch.randn(shape, generator=generator).requires_grad_() for _ in range(2))
    return query, key


def run(way: str, layout: TokenLayout) -> dict[str, float]:
    """Seconds of forward and backward, peak bytes beyond the input, and sums that all ways must share."""
    inputs = tokens(layout)
    before = peak_bytes()
    began = time.thread_time()
    flow = WAYS[way](*inputs, layout)
    between = time.thread_time()
    flow.square().mean().backward()
    ended = time.thread_time()
    gradients = [float(tensor.grad.norm()) for tensor in inputs if tensor.grad is not None]
    return {
        "forward": between - began,
        "backward": ended - between,
        "bytes": peak_bytes() - before,
        "flow": float(flow.detach().norm()),
        "gradient": math.hypot(*gradients),
    }


def measured(way: str, frames: int) -> dict[str, float]:
    """:func:`run` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.flow.amf", "--way", way, "--frames", str(frames)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def line(name: str, found: dict[str, float], ours: dict[str, float]) -> str:
    """A row of the table."""
    ratios = " | ".join(f"{found[part] / ours[part]:.2f}" for part in ("forward", "backward", "bytes"))
    times = f"{found['forward']:.1f} | {found['backward']:.1f} | {found['bytes'] / 1e6:.0f} MB"
    return f"| {name} | {times} | {ratios} |"


def check_same(name: str, found: dict[str, float], ours: dict[str, float]) -> None:
    """All ways must give the same flow and gradients, but for rounding."""
    for part in ("flow", "gradient"):
        if not math.isclose(found[part], ours[part], rel_tol=1e-3):
            raise RuntimeError(f"{name} has another {part} than ours: {found[part]} instead of {ours[part]}.")


def free_bytes() -> int:
    """Memory that the system can still hand out."""
    with open("/proc/meminfo", encoding="ascii") as file:
        values = dict(row.split(":") for row in file)
    return int(values["MemAvailable"].split()[0]) * 1024


def table(frames: int) -> None:
    """All ways at one number of frames."""
    layout = layout_of(frames)
    square = 4 * layout.video_tokens**2
    print(f"\n### {frames} frames ({layout.video_tokens} tokens); one matrix of logits is {square / 1e9:.2f} GB\n")
    print("| way | forward, s | backward, s | peak beyond input | forward / ours | backward / ours | peak / ours |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    ours = measured("ours", frames)
    print(line("ours", ours, ours), flush=True)
    for way in ("plain", "checkpoint", "sdpa"):
        # logits, attention, and the gradient of each
        needed = 4 * square if way == "plain" else 2 * square
        if needed > min(LIMIT_BYTES, 0.8 * free_bytes()):
            print(
                f"| {way} | not run: about {needed / 1e9:.0f} GB needed, {free_bytes() / 1e9:.0f} GB free |", flush=True
            )
            continue
        found = measured(way, frames)
        check_same(way, found, ours)
        print(line(way, found, ours), flush=True)
    print(f"\nper head, computed: {HEADS} x {square / 1e9:.2f} GB = {HEADS * square / 1e9:.0f} GB for the logits alone")


def main() -> None:
    """Print the tables, or measure one way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--frames", type=int, nargs="*", default=FRAMES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.way is None:
        for frames in given.frames:
            table(frames)
        return
    run(given.way, layout_of(2, 3, 5))
    print(json.dumps(run(given.way, layout_of(given.frames[0]))))


if __name__ == "__main__":
    main()
