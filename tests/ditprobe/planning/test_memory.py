"""Memory that plans state, beside what is counted at a tenth of the tokens of CogVideoX-2B."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from pretend_cuda import PretendCUDA
from small_cogvideox import small_cogvideox

from analyses.heads.classify import classify_heads
from analyses.kernels.matching_cost import frame_costs
from analyses.layers.ground_truth import Target
from analyses.layers.measures import measure_on_device
from analyses.token_checks import fetch
from benchmarks.true_shapes import moving_points
from ditprobe.planning.memory import (
    adapter_bytes,
    capture_bytes,
    free_bytes,
    guidance_bytes,
    heads_bytes,
    injection_bytes,
    optimising_bytes,
    recorder_bytes,
    sweep_bytes,
    tracking_bytes,
)
from generators.adapters.temporal_kernel import TemporalKernel
from generators.guidance.cross_attention import within_frames
from generators.transfer.ditflow import DiTFlow
from generators.transfer.injection import inject_video
from generators.transfer.moft import MOFT
from generators.transfer.motion_transfer import MotionTransfer
from generators.transfer.optimised import OptimisedMethod
from probe import ForwardPass
from probe.attention.edit import Attention
from probe.backbones.layers import LayerInfo
from probe.backbones.settings import RequestedSize, RunSettings
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


def attention(dtype: torch.dtype) -> Attention:
    query, key = (each.flatten(1, 3)[None] for each in tokens(dtype))
    text = torch.zeros(1, 30, TEXT, 64, dtype=dtype)
    whole = [torch.cat([text, each], 2) for each in (query, key, key)]
    return Attention(0, *whole, None, 0.125, LAYOUT, slice(TEXT, TEXT + LAYOUT.video_tokens))


def attended(seen: Attention) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(seen.query, seen.key, seen.value, scale=seen.scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_guidance(dtype: torch.dtype) -> None:
    seen = attention(dtype)
    found = peak_bytes(lambda: within_frames()(seen, attended), simulate_fused=False)
    check(found, guidance_bytes(LAYER, LAYOUT, dtype.itemsize))


@pytest.mark.parametrize("dtype", DTYPES)
def test_injection(dtype: torch.dtype) -> None:
    seen = attention(dtype)
    editor = inject_video(seen.key, seen.value)
    found = peak_bytes(lambda: editor(seen, lambda replaced: replaced.query), simulate_fused=False)
    check(found + 2 * seen.key.nbytes, injection_bytes(LAYER, LAYOUT, dtype.itemsize))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("method", "checkpointing"), [(DiTFlow, False), (MOFT, True)])
def test_a_transfer_that_optimises(method: type[OptimisedMethod], checkpointing: bool) -> None:
    """All of it but the weights and the VAE: the reference, two iterations, and a step of the run."""
    backbone, clip, text = small_cogvideox()
    optimised = method(layers=[2], iterations=2, optimise="positions")
    given: dict[str, Any] = {"conditioning": {"prompt_embeds": text, "guidance_scale": 1.0}, "steps": 2}
    given |= {"height": clip.height, "width": clip.width, "images": len(clip)}
    transfer = MotionTransfer(backbone, clip, None, method=optimised, gradient_checkpointing=checkpointing, **given)
    found = peak_bytes(transfer.optimise, simulate_fused=False)
    layer, layout = backbone.layers[0], backbone.layout(clip.height, clip.width, len(clip))
    planned = optimising_bytes(layer, layout, 4, 3, checkpointing=checkpointing, positions=True)
    assert found <= planned <= 1.6 * found


@pytest.mark.filterwarnings("ignore")
def test_an_attached_adapter() -> None:
    backbone, clip, text = small_cogvideox()
    adapter = TemporalKernel(backbone, width=16)
    size = (clip.height, clip.width, len(clip))
    forward = ForwardPass.of(
        backbone, None, RunSettings(size=RequestedSize(*size), conditioning={"prompt_embeds": text}), branches=("cond",)
    )
    latents, found = backbone.encode(clip), []
    for attached in (False, True):
        with torch.no_grad(), adapter.attached(backbone) if attached else nullcontext():
            found.append(peak_bytes(lambda: forward.predict(latents, 0), simulate_fused=False))
    layer, layout = backbone.layers[0], backbone.layout(*size)
    assert found[1] - found[0] <= adapter_bytes(layer, layout, adapter.parameter_count)


def test_free_memory_is_told() -> None:
    assert (free_bytes("cpu") or 2**30) > 2**20
