"""The same on a real GPU: run by ``make test-gpu``, skipped if there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from device_paths import run_paths
from tiny_families import FAMILIES

import ditprobe as dp
from analyses.kernels.matching_cost import cost_blocks
from analyses.kernels.products import attention_with_lse
from benchmarks import gpu_runs
from benchmarks.gpu import NAMES, Shapes, dry_run, measured, table
from probe.recording.staging import Staging
from store.layout import TokenLayout

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]


def _marked(test):  # type: ignore[no-untyped-def]
    for mark in gpu:
        test = mark(test)
    return test


@_marked
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_paths(name: str, dtype: str, tmp_path: Path) -> None:
    backbone = dp.load_backbone(FAMILIES[name].make(), device="cuda", dtype=dtype)
    run_paths(name, backbone, str(tmp_path))


@_marked
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matching_costs_are_those_of_the_cpu(dtype: torch.dtype) -> None:
    query, key = (torch.randn(2, 3, 70, 64, generator=torch.Generator().manual_seed(n)).to(dtype) for n in (0, 1))
    sources = torch.tensor([0, 7, 69])
    options = {"divisor": 8.0, "dtype": torch.float32, "budget_bytes": 2**24}
    for device in ("cpu", "cuda"):
        blocks = cost_blocks(query.to(device), key.to(device), sources.to(device), **options)
        found = torch.cat([block.cost.cpu().flatten(0, 1) for block in blocks])
        expected = found if device == "cpu" else expected  # noqa: F821
    torch.testing.assert_close(found.sort(0)[0], expected.sort(0)[0], atol=1e-4, rtol=1e-3)


@_marked
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_sum_exp(dtype: torch.dtype) -> None:
    query, key = (torch.randn(1, 2, 70, 64, device="cuda", dtype=dtype) for _ in range(2))
    found = attention_with_lse(query, key, key, scale=0.125)
    assert found is not None
    expected = (query.float() @ key.float().transpose(-1, -2) * 0.125).logsumexp(-1)
    torch.testing.assert_close(found[1].float(), expected, atol=2e-2, rtol=1e-2)


@_marked
def test_staging() -> None:
    staging = Staging(torch.device("cuda"))
    part = staging.allocate((2, 3, 50, 64))
    tensor = torch.randn(2, 3, 50, 64, device="cuda", dtype=torch.bfloat16)
    report = staging.fill({"key": tensor}, {"key": part})()["key"]
    np.testing.assert_array_equal(part, tensor.half().cpu().numpy())
    assert (report.not_finite, report.beyond) == (0, 0)


def test_the_benchmark_measures_what_it_lists() -> None:
    """At a size that the CPU does in a moment."""
    layout = TokenLayout(3, 10, 15, 480, 720, 9, 226)
    found = measured(Shapes(2, layout), torch.device("cpu"), torch.float32, 1)
    assert tuple(found) == NAMES
    assert table(found).count("\n") == len(NAMES) + 1


def test_the_benchmark_makes_the_whole_runs_that_it_lists(tmp_path: Path) -> None:
    """With a tiny model on the CPU; the same calls as of the released ones on a GPU."""
    tiny = gpu_runs.Model(
        "tiny",
        {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 2,
            "in_channels": 4,
            "out_channels": 4,
            "text_embed_dim": 32,
            "max_text_seq_length": gpu_runs.TEXT,
            "sample_height": 10,
            "sample_width": 14,
            "sample_frames": 9,
        },
        {"block_out_channels": (4, 4, 4, 4), "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2},
        (80, 112, 9),
        layer=1,
    )
    found = gpu_runs.measured(tiny, torch.device("cpu"), torch.float32, records=2, folder=tmp_path)
    assert set(found) == set(gpu_runs.NAMES)
    assert all(each.seconds > 0 for each in found.values())
    assert gpu_runs.table(found).count("\n") == len(gpu_runs.NAMES) + 1
    printed = dry_run(tiny, 2)
    assert all(name in printed for name in (*NAMES, *gpu_runs.NAMES))


def test_an_hour_of_a_gpu_is_enough() -> None:
    for model in gpu_runs.MODELS:
        assert sum(gpu_runs.estimates(model).values()) < 900
