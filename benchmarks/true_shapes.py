"""Costs at the shapes of CogVideoX-2B beside those of one of its layers: ``python -m benchmarks.true_shapes``.

One transformer block of the released width (30 heads x 64 channels, feed-forward of 7,680) with random weights, on all
tokens of 49 images of 480 x 720 px; no weights of a model are needed, since costs do not depend on them. Everything is
timed in one process, in turn, as processor time, of which the least of several repeats counts: read the ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock

from analyses.flow.attention_flow import MovingFlowLoss, amf_loss, attention_motion_flow
from analyses.layers.ground_truth import Target, Truth
from analyses.layers.measures import measure_on_device
from analyses.token_checks import fetch
from benchmarks.memory import forget_peak, memory
from generators.guidance.cross_attention import within_frames
from probe.attention.edit import Attention
from store.layout import TokenLayout

HEADS, CHANNELS, TEXT = 30, 64, 226
MOVING = 0.4
"""Of the vectors between different frames of the reference, in the loss of DiTFlow; the rest does not move."""


def layout_of(frames: int) -> TokenLayout:
    """Layout of CogVideoX-2B at 480 x 720 px, with fewer frames on request."""
    return TokenLayout(frames, 30, 45, 480, 720, 4 * frames - 3, TEXT)


class Timer:
    """Least processor seconds and most extra memory of each of several calls, which take turns."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self.seconds: dict[str, float] = {}
        self.megabytes: dict[str, float] = {}

    def run(self, calls: dict[str, Callable[[], object]], rounds: int | None = None) -> None:
        """Time the calls in turn."""
        for _ in range(self._rounds if rounds is None else rounds):
            for name, call in calls.items():
                before = memory("VmRSS")
                forget_peak()
                began = time.thread_time()
                call()
                took = time.thread_time() - began
                self.seconds[name] = min(self.seconds.get(name, np.inf), took)
                self.megabytes[name] = max(self.megabytes.get(name, 0.0), memory("VmHWM") - before)


def moving_points(layout: TokenLayout, count: int = 100) -> Truth:
    """Random points that move by up to a cell a frame."""
    rng = np.random.default_rng(0)
    start = rng.uniform((100, 100), (620, 380), (count, 2))
    speed = rng.uniform(-4, 4, (count, 2))
    tracks = start + np.arange(layout.images)[:, None, None] * speed[None] / 4
    return Truth.of_tracks(tracks, np.ones(tracks.shape[:2], bool), layout)


def measured(frames: int, rounds: int) -> Timer:
    """Time a layer, guidance, a sweep's measures and flow losses at a number of frames."""
    layout, timer = layout_of(frames), Timer(rounds)
    generator = torch.Generator().manual_seed(0)
    tokens = layout.video_tokens + TEXT
    width = HEADS * CHANNELS
    block: Any = CogVideoXBlock(width, HEADS, CHANNELS, 512).eval()
    hidden = torch.randn(1, layout.video_tokens, width, generator=generator)
    text, embedding = torch.randn(1, TEXT, width, generator=generator), torch.zeros(1, 512)
    query, key, value = (torch.randn(1, HEADS, tokens, CHANNELS, generator=generator) for _ in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    own = lambda each: attend(each.query, each.key, each.value, scale=each.scale)  # noqa: E731
    attention = Attention(0, query, key, value, None, CHANNELS**-0.5, layout, slice(TEXT, tokens))
    shape = (frames, layout.height, layout.width)
    video_query, video_key = (each[0, :, TEXT:].unflatten(1, shape) for each in (query, key))
    features = hidden[0].unflatten(0, shape)
    target = Target.of(moving_points(layout), layout)

    def measures() -> object:
        return fetch([measure_on_device(video_query, video_key, target, text_key=key[0, :, :TEXT], features=features)])

    with torch.no_grad():
        timer.run(
            {
                "layer, plain": lambda: block(hidden, text, embedding),
                "attention of the layer, plain": lambda: own(attention),
                "CAG, exact": lambda: within_frames()(attention, own),
                "CAG, renormalised": lambda: within_frames(True)(attention, own),
                "sweep, 100 points and features": measures,
            }
        )
    _flow(timer, layout, video_query, video_key)
    return timer


def _flow(timer: Timer, layout: TokenLayout, query: torch.Tensor, key: torch.Tensor) -> None:
    """The loss of DiTFlow and its gradients, of all vectors and of those that move."""
    few = min(3, layout.frames)
    layout = layout_of(few)
    query, key = (each[:, :few].clone().requires_grad_() for each in (query, key))
    reference = torch.zeros(few, few, layout.height, layout.width, 2)
    moves = torch.rand(reference.shape[:-1], generator=torch.Generator().manual_seed(1)) < MOVING
    moves[range(few), range(few)] = False
    reference[moves] = 1.0
    moving = MovingFlowLoss(reference)

    def whole() -> None:
        loss = amf_loss(reference, attention_motion_flow(query, key, layout))
        torch.autograd.grad(loss, (query, key))

    timer.run(
        {
            f"flow loss of {few} frames, all vectors": whole,
            f"flow loss of {few} frames, {100 * MOVING:.0f} % move": lambda: torch.autograd.grad(
                moving(query, key, layout), (query, key)
            ),
        }
    )


def table(timer: Timer, frames: int) -> str:
    """The times as Markdown, with the aims beside them."""
    seconds, layer = timer.seconds, timer.seconds["layer, plain"]
    attention = seconds["attention of the layer, plain"]
    aims = {
        "CAG, exact": f"{seconds['CAG, exact'] / attention:.2f} of the attention (aim 1.3)",
        "CAG, renormalised": f"{seconds['CAG, renormalised'] / attention:.2f} of the attention",
        "sweep, 100 points and features": f"{seconds['sweep, 100 points and features'] / layer:.3f} (aim 0.05)",
    }
    lines = [
        f"{frames} frames of 30 x 45 cells and {TEXT} text tokens, 30 heads x 64, float32, one thread\n",
        "| | CPU s | of a layer | extra memory, MB |",
        "|---|---:|---:|---:|",
    ]
    for name, took in seconds.items():
        lines.append(f"| {name} | {took:.2f} | {aims.get(name, f'{took / layer:.3f}')} | {timer.megabytes[name]:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=13, help="13 is the full size; 4 takes a tenth of the time")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(table(measured(given.frames, given.rounds), given.frames))


if __name__ == "__main__":
    main()
