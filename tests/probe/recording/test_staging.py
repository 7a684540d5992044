"""The cast of captures to float16, and what it counts and finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probe.recording import staging
from probe.recording.staging import Staging

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def values(dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, 3, 500, 8, generator=generator) * 10.0 ** torch.randint(
        -9, 3, (2, 3, 500, 8), generator=generator
    )
    drawn[0, 0, 0] = 0.0
    return drawn.to(dtype).transpose(1, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_changed_values_are_counted_exactly(dtype: torch.dtype) -> None:
    tensor = values(dtype)
    part = np.empty(tuple(tensor.shape), np.float16)
    report = Staging(torch.device("cpu")).fill({"query": tensor}, {"query": part})()["query"]
    wide = tensor.double()
    np.testing.assert_array_equal(part, tensor.to(torch.float16).numpy())
    assert report.inexact == int((wide.half().double() != wide).sum())
    assert (report.not_finite, report.beyond) == (0, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_lost_is_counted(dtype: torch.dtype) -> None:
    tensor = values(dtype)
    part, made = np.empty(tuple(tensor.shape), np.float16), Staging(torch.device("cpu"))
    tensor[1, 2, 0, :2] = torch.nan
    assert made.fill({"key": tensor}, {"key": part})()["key"].not_finite == 2
    if dtype != torch.float16:
        tensor[1, 2, 0, :2] = 1e5
        found = made.fill({"key": tensor}, {"key": part})()["key"]
        assert (found.not_finite, found.beyond) == (0, 2)
        assert found.largest == pytest.approx(1e5, rel=1e-2)


LAYOUTS = {
    "the heads of a token together": lambda made: made.movedim(0, 3).contiguous().movedim(3, 0),
    "each head apart": lambda made: made.contiguous(),
    "among keys and values": lambda made: (
        torch.cat([made, -made, made], -1).movedim(0, 3).contiguous().movedim(3, 0)[..., : made.shape[-1]]
    ),
    "some heads": lambda made: torch.cat([made, -made])[: len(made)],
    "some frames": lambda made: (
        torch.cat([made, -made], 1).movedim(0, 3).contiguous().movedim(3, 0)[:, : made.shape[1]]
    ),
}


@pytest.mark.parametrize("block", [1, 40, 64 * 8, 1 << 18])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_depends_on_the_memory_or_the_blocks(
    dtype: torch.dtype, layout: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_BLOCK", block)
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(3, 2, 4, 5, 8, generator=generator)
    drawn *= 10.0 ** torch.randint(-8, 2, drawn.shape, generator=generator)
    tensor = LAYOUTS[layout](drawn.to(dtype))
    part = np.empty(tuple(tensor.shape), np.float16)
    report = Staging(torch.device("cpu")).fill({"query": tensor}, {"query": part})()["query"]
    np.testing.assert_array_equal(part, tensor.half().numpy())
    assert report.inexact == int((tensor.half().double() != tensor.double()).sum())
    assert report.largest == float(tensor.abs().max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_and_the_smallest_numbers(dtype: torch.dtype) -> None:
    for values, changed in (([0.0, -0.0], 0), ([0.0, 1e-9, -1e-9], 2 * (dtype != torch.float16)), ([2.0**-17], 0)):
        tensor = torch.tensor(values).to(dtype).reshape(1, 1, 1, 1, -1)
        part = np.empty(tuple(tensor.shape), np.float16)
        report = Staging(torch.device("cpu")).fill({"query": tensor}, {"query": part})()["query"]
        assert (report.inexact, report.largest) == (changed, float(tensor.abs().max()))


def test_a_shorter_text_is_filled_up() -> None:
    part = np.zeros((2, 5, 4), np.float16)
    Staging(torch.device("cpu")).fill({"text_key": torch.ones(2, 3, 4)}, {"text_key": part})()
    assert np.isnan(part[:, 3:]).all()
    assert (part[:, :3] == 1).all()


def test_bfloat16_is_copied_to_the_bit() -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    bits = torch.where((bits & 0x7F80) == 0x7F80, bits & 0x3FFF, bits)  # without infinities and NaN
    tensor = bits.view(torch.bfloat16).reshape(2, 4, 64, 128).transpose(1, 2)
    part = np.empty(tuple(tensor.shape), np.uint16)
    report = Staging(torch.device("cpu")).fill({"query": tensor}, {"query": part})()["query"]
    np.testing.assert_array_equal(part, tensor.contiguous().view(torch.int16).numpy().view(np.uint16))
    assert (report.inexact, report.not_finite, report.beyond) == (0, 0, 0)
    assert report.largest == torch.finfo(torch.bfloat16).max


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_other_floats_are_rounded_to_bfloat16_and_counted(dtype: torch.dtype) -> None:
    tensor = values(dtype)
    part = np.empty(tuple(tensor.shape), np.uint16)
    staging = Staging(torch.device("cpu"))
    report = staging.fill({"query": tensor}, {"query": part})()["query"]
    expected = tensor.to(torch.bfloat16)
    np.testing.assert_array_equal(part, expected.contiguous().view(torch.int16).numpy().view(np.uint16))
    assert report.inexact == int((expected.to(dtype) != tensor).sum()) > 0
    tensor[1, 2, 0, 0] = torch.inf
    assert staging.fill({"query": tensor}, {"query": part})()["query"].not_finite == 1


def test_a_shorter_text_in_bfloat16_is_filled_up() -> None:
    part = np.zeros((2, 5, 4), np.uint16)
    Staging(torch.device("cpu")).fill({"text_key": torch.ones(2, 3, 4)}, {"text_key": part})()
    assert (part[:, :3] == 0x3F80).all()
    assert (part[:, 3:] == 0x7FC0).all()
