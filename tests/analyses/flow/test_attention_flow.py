"""Attention motion flow against the full matrix with autograd, planted motion, and what it rejects."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from analyses.flow.attention_flow import amf_loss, attention_motion_flow, labelled_flow
from analyses.kernels import expected_cells as flow_kernel
from store.errors import InvalidInputError
from store.layout import TokenLayout

LAYOUT = TokenLayout(3, 5, 7, 80, 112, 9)
HEADS, CHANNELS = 2, 4


def random_tokens(dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (HEADS, LAYOUT.frames, LAYOUT.height, LAYOUT.width, CHANNELS)
    query, key = (2 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return query.to(dtype).requires_grad_(), key.to(dtype).requires_grad_()


def full_matrix(query: torch.Tensor, key: torch.Tensor, temperature: float, *, hard: bool) -> torch.Tensor:
    """The definition, with the mean over heads taken of every head's own logits."""
    logits = torch.einsum("afyxc,agvuc->afgyxvu", query, key).mean(0) / math.sqrt(CHANNELS)
    flat = logits.flatten(-2)
    weight = (temperature * flat).softmax(-1)
    if hard:
        weight = torch.nn.functional.one_hot(flat.argmax(-1), flat.shape[-1]).to(weight)
    weight = weight.unflatten(-1, (LAYOUT.height, LAYOUT.width))
    columns = torch.arange(LAYOUT.width, dtype=query.dtype)
    rows = torch.arange(LAYOUT.height, dtype=query.dtype)
    dx = (weight.sum(-2) * columns).sum(-1) - columns
    dy = (weight.sum(-1) * rows).sum(-1) - rows[:, None]
    return torch.stack([dx, dy], -1)


@pytest.mark.parametrize("temperature", [0.3, 2.0, 9.0])
@pytest.mark.parametrize("tile_rows", [3, 1000])
def test_soft_flow_and_its_gradients_are_those_of_the_full_matrix(
    temperature: float, tile_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_kernel, "TILE_BYTES", tile_rows * 35 * 8)
    query, key = random_tokens()
    flow = attention_motion_flow(query, key, LAYOUT, temperature=temperature)
    expected = full_matrix(query, key, temperature, hard=False)
    torch.testing.assert_close(flow, expected, rtol=0, atol=1e-12)
    weight = torch.randn(flow.shape, generator=torch.Generator().manual_seed(1), dtype=flow.dtype)
    found, wanted = (torch.autograd.grad((value * weight).sum(), (query, key)) for value in (flow, expected))
    for one, other in zip(found, wanted, strict=True):
        assert other.abs().max() > 0.1
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_gradcheck_in_double_precision() -> None:
    layout = TokenLayout(2, 2, 3, 32, 48, 5)
    tokens = [torch.randn(2, 2, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda q, k: attention_motion_flow(q, k, layout), tokens)


def test_a_second_derivative_is_refused() -> None:
    query, key = random_tokens()
    flow = attention_motion_flow(query, key, LAYOUT)
    (gradient,) = torch.autograd.grad(flow.square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_hard_flow_is_the_displacement_of_the_argmax() -> None:
    query, key = random_tokens()
    flow = attention_motion_flow(query, key, LAYOUT, hard=True, temperature=0.01)
    torch.testing.assert_close(flow, full_matrix(query, key, 1.0, hard=True))
    assert not flow.requires_grad
    assert (flow[0, 0] != 0).any()  # a frame with itself is a pair like any other


def test_of_equal_logits_the_first_cell_is_best() -> None:
    zero = torch.zeros(HEADS, 3, 5, 7, CHANNELS)
    flow = attention_motion_flow(zero, zero, LAYOUT, hard=True)
    assert flow[1, 2, 3, 4].tolist() == [-4, -3]
    soft = attention_motion_flow(zero, zero, LAYOUT)
    torch.testing.assert_close(soft[1, 2, 3, 4], torch.tensor([3.0 - 4, 2.0 - 3]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 1e-4), (torch.float16, 1e-4)])
def test_other_precisions_are_computed_in_float32(dtype: torch.dtype, tolerance: float) -> None:
    query, key = random_tokens(dtype)
    wide = [tensor.detach().double().requires_grad_() for tensor in (query, key)]
    flow, expected = attention_motion_flow(query, key, LAYOUT), full_matrix(*wide, 2.0, hard=False)
    assert flow.dtype == torch.float32
    torch.testing.assert_close(flow.double(), expected, rtol=0, atol=tolerance)
    found = torch.autograd.grad(flow.square().sum(), (query, key))
    wanted = torch.autograd.grad(expected.square().sum(), wide)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == dtype
        # summed over 3 x 3 pairs in float32 and rounded once
        torch.testing.assert_close(one, other.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=2e-4)


def test_numpy_gives_numpy() -> None:
    query, key = (tensor.detach() for tensor in random_tokens(torch.float32))
    found = attention_motion_flow(query.numpy(), key.numpy(), LAYOUT)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, attention_motion_flow(query, key, LAYOUT).numpy())


def test_a_planted_shift_is_found_away_from_the_borders() -> None:
    texture = torch.nn.functional.normalize(torch.randn(9, 13, 16, generator=torch.Generator().manual_seed(3)), dim=-1)
    # frame f shows the texture moved by f x (dx, dy) = (2, -1)
    frames = torch.stack([texture[2 + f : 7 + f, 4 - 2 * f : 11 - 2 * f] for f in range(3)])
    tokens = 40 * frames.expand(HEADS, -1, -1, -1, -1)
    for hard, tolerance in ((True, 0.0), (False, 1e-3)):
        flow = attention_motion_flow(tokens, tokens, LAYOUT, hard=hard)
        for first in range(3):
            for second in range(3):
                dx, dy = 2 * (second - first), first - second
                y, x = (slice(max(0, -shift), size - max(0, shift)) for shift, size in ((dy, 5), (dx, 7)))
                away = flow[first, second, y, x] - torch.tensor([float(dx), float(dy)])
                assert away.numel() >= 2 * 3 * 3
                assert away.abs().max() <= tolerance


def test_frames_in_another_order_give_the_flow_in_that_order() -> None:
    query, key = (tensor.detach() for tensor in random_tokens())
    order = [2, 0, 1]
    flow = attention_motion_flow(query, key, LAYOUT)
    found = attention_motion_flow(query[:, order], key[:, order], LAYOUT)
    torch.testing.assert_close(found, flow[order][:, order])
    assert not torch.allclose(flow, flow.transpose(0, 1))


def test_no_tensor_of_all_cells_by_all_cells_is_made() -> None:
    query, key = random_tokens(torch.float32)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                largest = max(largest, tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
            return result

    with Watch():
        attention_motion_flow(query, key, LAYOUT).square().sum().backward()
    assert 0 < largest <= max(query.numel(), 35 * 35)


def shaped(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


GOOD = (HEADS, 3, 5, 7, CHANNELS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: attention_motion_flow(shaped(2, 3, 7, 5, 4), shaped(*GOOD), LAYOUT),
            "query needs the shape (head, frame, y, x, channel) with (frame, y, x) = (3, 5, 7); got (2, 3, 7, 5, 4).",
        ),
        (
            lambda: attention_motion_flow(shaped(*GOOD), shaped(2, 2, 5, 7, 4), LAYOUT),
            "key needs the shape (head, frame, y, x, channel) with (frame, y, x) = (3, 5, 7); got (2, 2, 5, 7, 4).",
        ),
        (
            lambda: attention_motion_flow(shaped(*GOOD), shaped(1, 3, 5, 7, 4), LAYOUT),
            "query and key need the same shape; got (2, 3, 35, 4) and (1, 3, 35, 4) as (head, frame, cell, channel).",
        ),
        (
            lambda: attention_motion_flow(shaped(*GOOD) / 0, shaped(*GOOD), LAYOUT),
            "query holds NaN or infinite values. Nothing can be matched with them.",
        ),
        (
            lambda: attention_motion_flow(shaped(*GOOD), shaped(*GOOD), LAYOUT, temperature=0),
            "temperature must be a finite number above 0; got 0.",
        ),
        (
            lambda: attention_motion_flow(shaped(*GOOD), shaped(*GOOD), LAYOUT, temperature=math.nan, hard=True),
            "temperature must be a number; got nan.",
        ),
        (
            lambda: amf_loss(shaped(3, 3, 5, 7, 2), shaped(3, 3, 7, 5, 2)),
            "reference_flow and flow need one shape (frame, frame_to, y, x, 2); got (3, 3, 5, 7, 2) and "
            "(3, 3, 7, 5, 2).",
        ),
        (
            lambda: amf_loss(shaped(3, 3, 5, 7, 2) / 0, shaped(3, 3, 5, 7, 2)),
            "reference_flow holds NaN or infinite values.",
        ),
        (
            lambda: amf_loss(shaped(3, 3, 5, 7, 2), shaped(3, 3, 5, 7, 2)),
            "nothing moves in the reference, so that no vector counts. Choose a clip with motion, or pass static=True.",
        ),
        (
            lambda: labelled_flow(shaped(3, 3, 7, 5, 2), LAYOUT),
            "flow needs the shape (frame, frame_to, y, x, 2) = (3, 3, 5, 7, 2); got (3, 3, 7, 5, 2).",
        ),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize("kind", ["torch", "numpy", "labelled"])
@pytest.mark.parametrize("static", [False, True])
def test_the_loss_counts_what_moves_in_the_reference(static: bool, kind: str) -> None:
    generator = np.random.default_rng(0)
    reference = generator.integers(-1, 2, (3, 3, 5, 7, 2)).astype(np.float32)
    flow = torch.tensor(generator.normal(size=reference.shape), dtype=torch.float32, requires_grad=True)
    total, count = 0.0, 0
    for place in np.ndindex(3, 3, 5, 7):
        if static or reference[place].any():
            total += float(((flow.detach().numpy()[place] - reference[place]) ** 2).sum())
            count += 2
    assert count == (630 if static else 2 * np.count_nonzero(reference.any(-1)))
    given = {"torch": torch.tensor(reference), "numpy": reference, "labelled": labelled_flow(reference, LAYOUT)}[kind]
    loss = amf_loss(given, flow, static=static)
    assert loss.item() == pytest.approx(total / count, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, flow)
    still = ~torch.tensor(reference).any(-1)
    assert still.any()
    assert bool((gradient[still] != 0).any()) is static


def test_steps_against_the_gradient_bring_the_flow_to_that_of_a_reference() -> None:
    reference = attention_motion_flow(*(t.detach() for t in random_tokens(torch.float32, seed=5)), LAYOUT, hard=True)
    query, key = random_tokens(torch.float32)
    optimiser = torch.optim.Adam([query, key], lr=0.1)
    losses = []
    for _ in range(30):
        loss = amf_loss(reference, attention_motion_flow(query, key, LAYOUT))
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]
