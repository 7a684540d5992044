"""Mini's attention in training on a CPU beside the fused kernel: ``python -m
benchmarks.mini_quality.training_attention``.

Forward and backward of one layer, 4 heads of 32 channels, for a batch of 8 clips of each size that the training shows:
two products and a softmax (:class:`probe.mini.training.objective.PlainAttention` in bfloat16, the same in float32)
beside ``scaled_dot_product_attention`` of the same tensors. The limit is the time of the six bare matrix products that
both need, two forward and four backward. Then the same for the loss of a whole step and its gradients, in bfloat16 as
in the training, where attention is one part of the work. One process, one thread, the ways in turn in every round;
milliseconds are medians of the processor time, the ratio is the median over rounds with its 95 % bootstrap interval.

What two products and a softmax take depends on whether the C library keeps the memory of the scores, tens of megabytes,
or returns it to the system after each use, which a process does not choose: the page faults counted say which. Nothing
here holds for a GPU.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy.stats import bootstrap
from torch.nn.functional import scaled_dot_product_attention

from probe.mini import MiniConfig, new_pipeline
from probe.mini.training.objective import PlainAttention, Scenes, velocity_loss
from probe.mini.training.schedule import TrainConfig

SIZES = ((24, 24), (32, 32), (32, 48), (40, 40))
ROUNDS = 15
STEP_ROUNDS = 8
WAYS = ("fused", "plain", "products")
STEPS = {(24, 24): 0, (32, 32): 4, (40, 40): 9}
"""Steps of a training of ten that show clips of these sizes."""


@dataclass(frozen=True)
class Case:
    """Query, key and value (batch, head, token, channel) of one layer, and the gradient of its output."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    gradient: torch.Tensor

    @classmethod
    def of_clips(cls, height: int, width: int, dtype: torch.dtype) -> Case:
        """Random tensors of the shape that clips of that size give."""
        mini, generator = MiniConfig(), torch.Generator().manual_seed(0)
        tokens = mini.text_tokens + mini.images * (height // 4) * (width // 4)
        shape = (TrainConfig().batch, mini.heads, tokens, mini.channels)
        made = [torch.randn(shape, generator=generator).to(dtype) for _ in range(4)]
        return cls(*(tensor.requires_grad_() for tensor in made[:3]), made[3])

    def trained(self, attention: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The output and the three gradients."""
        inputs = (self.query, self.key, self.value)
        found = attention(*inputs)
        return found, *torch.autograd.grad(found, inputs, self.gradient)

    def run(self, way: str) -> tuple[torch.Tensor, ...]:
        """Output and gradients, or for "products" only the products that they need."""
        if way == "fused":
            return self.trained(scaled_dot_product_attention)
        if way == "products":
            return self.products()
        return self.trained(in_bfloat16 if self.query.dtype == torch.bfloat16 else in_float32)

    @torch.no_grad()
    def products(self) -> tuple[torch.Tensor, ...]:
        """The six products, with scores in the place of everything of their shape."""
        scores = self.query @ self.key.transpose(-1, -2)
        output = scores @ self.value
        of_value = scores.transpose(-1, -2) @ self.gradient
        of_scores = self.gradient @ self.value.transpose(-1, -2)
        return output, of_scores @ self.key, of_scores.transpose(-1, -2) @ self.query, of_value


def in_bfloat16(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The training's own."""
    with PlainAttention():
        return scaled_dot_product_attention(query, key, value)


def in_float32(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The same in float32."""
    return torch.softmax((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2), -1) @ value


def check_same(case: Case) -> None:
    """Both ways must give the same output and gradients, but for rounding."""
    tolerance = 0.02 if case.query.dtype == torch.bfloat16 else 1e-4
    for one, other in zip(case.run("fused"), case.run("plain"), strict=True):
        if (one - other).float().norm() > tolerance * one.float().norm():
            raise RuntimeError("the two ways differ by more than rounding.")


@dataclass(frozen=True)
class Timing:
    """Processor time of each round in milliseconds, and page faults in the mean."""

    milliseconds: np.ndarray
    faults: float


def timed(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Each way once in every round; the rounds start with each of them in turn."""
    took: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            faults, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
            ways[name]()
            seconds = time.process_time() - began
            took[name].append((1000 * seconds, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults))
    columns = {name: np.array(rows, float).T for name, rows in took.items()}
    return {name: Timing(times, float(faults.mean())) for name, (times, faults) in columns.items()}


def compared(took: Mapping[str, Timing]) -> str:
    """Cells of a table: both ways, and how many times faster the plain one is."""
    ratio = took["fused"].milliseconds / took["plain"].milliseconds
    low, high = bootstrap((ratio,), np.median, method="percentile", rng=0).confidence_interval
    fused, plain = (np.median(took[way].milliseconds) for way in ("fused", "plain"))
    return f"{fused:.0f} | {plain:.0f} | {np.median(ratio):.2f} ({low:.2f}-{high:.2f}) | {took['plain'].faults:.0f}"


def attention_row(height: int, width: int, dtype: torch.dtype) -> str:
    """A line of the table of one layer's attention."""
    case = Case.of_clips(height, width, dtype)
    check_same(case)
    took = timed({way: partial(case.run, way) for way in WAYS}, ROUNDS)
    limit = np.median(took["products"].milliseconds)
    share = 100 * limit / np.median(took["plain"].milliseconds)
    name = f"{str(dtype).removeprefix('torch.')}, {height} x {width} px, {case.query.shape[2]} tokens"
    return f"| {name} | {compared(took)} | {limit:.0f} | {share:.0f} % |"


def step_row(height: int, width: int) -> str:
    """A line of the table of whole steps."""
    config, step = TrainConfig(steps=10, wide=0.0), STEPS[height, width]
    torch.manual_seed(0)
    pipeline: Any = new_pipeline()
    batch = Scenes(MiniConfig(), config)[step]
    if batch[0].shape[2:4] != (height, width):
        raise RuntimeError(f"step {step} shows clips of {batch[0].shape[2:4]} px.")

    def plain() -> None:
        velocity_loss(pipeline, batch, step, config).backward()
        pipeline.transformer.zero_grad()

    def fused() -> None:
        with patch("probe.mini.training.objective.PlainAttention", nullcontext):
            plain()

    plain()
    return f"| {height} x {width} px | {compared(timed({'fused': fused, 'plain': plain}, STEP_ROUNDS))} |"


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread;")
    print(f"{ROUNDS} rounds of attention, {STEP_ROUNDS} of steps.\n")
    print(
        "| attention | fused, ms | plain, ms | times faster | its page faults | matmul limit, ms | fraction of limit |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for dtype in (torch.float32, torch.bfloat16):
        for height, width in SIZES:
            print(attention_row(height, width, dtype), flush=True)
    print("\n| loss and gradients of a step | fused, ms | plain, ms | times faster | its page faults |")
    print("|---|---:|---:|---:|---:|")
    for height, width in STEPS:
        print(step_row(height, width), flush=True)


if __name__ == "__main__":
    main()
