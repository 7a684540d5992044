"""Memory that plans state, beside what is counted at a tenth of the tokens of CogVideoX-2B."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pretend_cuda import PretendCUDA

from analyses.heads.classify import classify_heads
from analyses.kernels.matching_cost import frame_costs
from analyses.layers.ground_truth import Target
from analyses.layers.measures import measure_on_device
from analyses.token_checks import fetch
from benchmarks.true_shapes import moving_points
from ditprobe.planning.memory import capture_bytes, free_bytes, heads_bytes, recorder_bytes, sweep_bytes, tracking_bytes
from probe.backbones.layers import LayerInfo
from probe.loading.vae_memory import peak_bytes
from probe.recording.staging import Staging
from store.layout import TokenLayout

LAYER, TEXT = LayerInfo(0, "", 30, 64), 23
LAYOUT = TokenLayout(5, 15, 23, 240, 368, 17, TEXT)
BUDGET, LOOSE = 2**25, 5
DTYPES = (torch.float32, torch.bfloat16)


def tokens(dtype: torch.dtype) -> list[torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    grid = (30, 5, 15, 23, 64)
    return [torch.randn(*grid, generator=drawn).to(dtype) for _ in range(2)]


def counted(function: Callable[[], object], dtype: torch.dtype, *, features: bool = False) -> int:
    """What a function takes beside the capture that it is given."""
    return peak_bytes(function) + capture_bytes(LAYER, LAYOUT, dtype.itemsize, features=features)


def check(found: int, planned: int) -> None:
    assert found <= planned <= LOOSE * found


@pytest.mark.parametrize("dtype", DTYPES)
def test_sweep(dtype: torch.dtype) -> None:
    query, key = tokens(dtype)
    text, features = torch.zeros(30, TEXT, 64, dtype=dtype), query.movedim(0, 3).flatten(3)
    target = Target.of(moving_points(LAYOUT), LAYOUT, device=torch.device("cpu"))
    how = {"text_key": text, "features": features, "budget_bytes": BUDGET}
    found = counted(lambda: fetch([measure_on_device(query, key, target, **how)]), dtype, features=True)  # type: ignore[arg-type]
    check(found, sweep_bytes(LAYER, LAYOUT, dtype.itemsize, budget=BUDGET))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tracking(dtype: torch.dtype) -> None:
    query, key = tokens(dtype)
    sources = torch.arange(0, 345, 1)

    def matched() -> object:
        kept = [each.flatten(2, 3).clone() for each in (query, key)]
        return list(frame_costs(*kept, sources, divisor=8.0, budget_bytes=BUDGET))

    check(counted(matched, dtype), tracking_bytes(LAYER, LAYOUT, dtype.itemsize, budget=BUDGET))


@pytest.mark.parametrize("dtype", DTYPES)
def test_heads(dtype: torch.dtype) -> None:
    query, key = tokens(dtype)
    text = torch.zeros(30, TEXT, 64, dtype=dtype)
    found = counted(lambda: classify_heads(query, key, LAYOUT, text, budget_bytes=BUDGET), dtype)
    check(found, heads_bytes(LAYER, LAYOUT, dtype.itemsize, budget=BUDGET))


@pytest.mark.parametrize("dtype", DTYPES)
def test_recorder(dtype: torch.dtype) -> None:
    """On the device, which is pretended; the records that wait are as many as the writer lets wait."""
    query, key = tokens(dtype)
    with PretendCUDA():
        shown = {"query": query.to("cuda"), "key": key.to("cuda")}
        staging = Staging(torch.device("cuda"))
        parts = {name: staging.allocate(tuple(each.shape)) for name, each in shown.items()}
        found = peak_bytes(lambda: staging.fill(shown, parts)())
    check(found, recorder_bytes(LAYER, LAYOUT, dtype.itemsize)[0])


def test_free_memory_is_told() -> None:
    assert (free_bytes("cpu") or 2**30) > 2**20
