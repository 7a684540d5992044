"""Probing, sweeping and steering a model that is offloaded, compiled, under autocast, or in fewer bits.

Each way of running the tiny model gives what the plain one gives: to the bit where the arithmetic is the same, within a
stated distance where the weights or the products have fewer bits. The distance is that of the whole clip or of all
queries, relative to their norm.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from device_paths import moving_clip, on_device
from full_contract import OffloadedWeights
from tiny_families import FAMILIES

import ditprobe as dp
from analyses.attention.text_maps import row_normalisers, text_shares
from analyses.heads.masses import head_masses
from analyses.heads.sweep import sweep_heads
from analyses.kernels.attention_weights import attention_weights
from generators.adapters.adapter import MotionAdapter
from generators.adapters.fitted import AttachAdapter
from generators.guidance.cross_attention import within_frames
from generators.transfer.motion_clone import temporal_attention
from probe.attention.edit import Attention

pytestmark = pytest.mark.filterwarnings("ignore")
FAMILY, CPU = FAMILIES["mini"], torch.device("cpu")
Results = dict[str, torch.Tensor]


def run_all(backbone: dp.Backbone) -> Results:
    """What the public paths give, after a plain run: that compiles what is compiled."""
    plain, clip, found = FAMILY.options(), moving_clip(FAMILY.size), list[dp.Capture]()
    plain["conditioning"] = on_device(plain["conditioning"], CPU, backbone.dtype)
    run: dict[str, Any] = {"steps": 3, "conditioning": plain["conditioning"]}
    made = {
        "plain": backbone.generate(FAMILY.prompt, **plain),
        "probed": dp.run_prompt(backbone, FAMILY.prompt, dp.Selection("all", "all"), found.append, **plain),
        "guided": dp.sample(backbone, FAMILY.prompt, dp.CrossAttentionGuidance(layers=[1]), **plain),
        "transferred": dp.transfer_motion(
            backbone, clip, FAMILY.prompt, method=dp.DiTFlow(layers=[1], iterations=1), **plain
        ),
    }
    for name, method in {
        "SMM": dp.SMM(layers=[1], iterations=1),
        "MOFT": dp.MOFT(layers=[1], iterations=1),
        "MotionClone": dp.MotionClone(layers=[1], iterations=1),
        "injection": dp.Injection(0, fraction=1.0),
    }.items():
        made[name] = dp.transfer_motion(backbone, clip, FAMILY.prompt, method=method, **plain)
    training = dp.Training(steps=1, learning_rate=1e-2, tracking_weight=0.5, points=4)
    size = (plain["height"], plain["width"], plain["images"])
    fitted = dp.DeT(width=4, keep=1.0, training=training).fit(backbone, clip, size=size, prompt=FAMILY.prompt)
    made["adapted"] = dp.sample(backbone, FAMILY.prompt, AttachAdapter(_trained(fitted.adapter)), **plain)
    swept = dp.sweep(backbone, clip, dp.Selection([0, 1], "all"), min_points=1, features=True, **run)
    results = {name: torch.from_numpy(video.images.astype(np.float32)) for name, video in made.items() if video}
    results["losses"] = torch.tensor(fitted.adapter.details["losses"])
    results["query"] = torch.stack([capture.query.float() for capture in found])
    for name in ("accuracy", "confidence"):
        results[name] = torch.from_numpy(swept[name].values.astype(np.float32))
    last = dp.Selection([-1], [1])
    masses = sweep_heads(backbone, {"clip": clip}, last, **run)["mass"].sel(target=["own_frame", "same_place"])
    results["heads"] = torch.from_numpy(masses.values)
    with tempfile.TemporaryDirectory() as folder:
        recording = dp.record(backbone, clip, last, f"{folder}/run.zarr", **run)
        results["recorded"] = torch.from_numpy(recording.read(step=-1, layer=1)[0].astype(np.float32))
    tracks = dp.track_points(clip, [[0, 12.0, 12.0], [2, 20.0, 9.0]], backbone, layer=1, step=-1, **run)
    results["tracked"] = torch.from_numpy(tracks.tracks.astype(np.float32))
    return results


def _trained(adapter: MotionAdapter) -> MotionAdapter:
    """As a long training would leave it: so that it changes the clip, whatever one step changes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapter


def check_close(found: Results, expected: Results, tolerance: float) -> None:
    """Distances within a tolerance; where a point goes is a choice of cells, which rounding can turn."""
    for name, value in expected.items():
        assert found[name].isfinite().all(), name
        assert name == "tracked" or distance(found[name], value) < tolerance, name


def new_pipeline() -> Any:
    torch.manual_seed(0)
    return FAMILY.make()


@pytest.fixture(scope="module")
def expected() -> Results:
    results = run_all(dp.load_backbone(new_pipeline(), device="cpu"))
    for name in ("guided", "transferred", "SMM", "MOFT", "MotionClone", "injection", "adapted"):
        assert not torch.equal(results[name], results["plain"])
    return results


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _sequential(pipeline: Any) -> None:
    for part in (pipeline.vae, pipeline.transformer):  # the pipeline's own method needs an accelerator
        cpu_offload(part, CPU, state_dict=OffloadedWeights(part.state_dict()))


OFFLOADED: dict[str, Callable[[Any], object]] = {
    "model": lambda pipeline: pipeline.enable_model_cpu_offload(device="cpu"),
    "sequential": _sequential,
    "groups of leaves": lambda pipeline: pipeline.enable_group_offload(CPU, offload_type="leaf_level"),
    "groups of blocks": lambda pipeline: pipeline.transformer.enable_group_offload(
        CPU, offload_type="block_level", num_blocks_per_group=1
    ),
}


@pytest.mark.parametrize("name", OFFLOADED)
def test_offloaded(name: str, expected: Results) -> None:
    pipeline = new_pipeline()
    OFFLOADED[name](pipeline)
    found = run_all(dp.load_backbone(pipeline, device="cpu"))
    assert {key for key in expected if not torch.equal(found[key], expected[key])} == set()


def _compile_wrapped(pipeline: Any) -> None:
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager")


def _compile_blocks(pipeline: Any) -> None:
    for block in pipeline.transformer.transformer_blocks:
        block.compile(backend="eager")


COMPILED: dict[str, Callable[[Any], object]] = {
    "in place": lambda pipeline: pipeline.transformer.compile(backend="eager"),
    "wrapped": _compile_wrapped,
    "block by block": _compile_blocks,
}


@contextmanager
def counted_compilations() -> Iterator[list[int]]:
    from torch._dynamo.utils import counters

    found = [0]
    torch._dynamo.reset()
    counters.clear()
    try:
        yield found
    finally:
        found[0] = counters["stats"]["unique_graphs"]
        torch._dynamo.reset()


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_transformers_are_not_compiled_again(name: str, expected: Results) -> None:
    """However often they are probed and guided; what is tapped runs as plain Python meanwhile."""
    pipeline = new_pipeline()
    COMPILED[name](pipeline)
    backbone = dp.load_backbone(pipeline)
    plain = FAMILY.options()
    with counted_compilations() as once:
        backbone.generate(FAMILY.prompt, **plain)
    with counted_compilations() as often:
        found = run_all(backbone)
        backbone.generate(FAMILY.prompt, **plain)
    assert often == once
    assert once[0] > 0
    check_close(found, expected, 1e-5)


def test_the_compiler_works_again_after_a_probe() -> None:
    probes = [dp.Probe(dp.load_backbone(new_pipeline()), dp.Selection([0], [0]), print) for _ in range(2)]
    with counted_compilations() as found:
        for probe in probes:
            probe.__enter__()
        assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)) == 2
        probes[0].__exit__()
        assert torch.compile(lambda x: x + 2, backend="eager")(torch.ones(1)) == 3
        probes[1].__exit__()
        assert torch.compile(lambda x: x + 3, backend="eager")(torch.ones(1)) == 4
    assert found == [1]


def test_autocast(expected: Results) -> None:
    """The model multiplies in bfloat16; analyses and losses keep their own precision."""
    backbone = dp.load_backbone(new_pipeline(), device="cpu")
    captured: list[dp.Capture] = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run_all(backbone)
        dp.run_prompt(backbone, FAMILY.prompt, dp.Selection([0], [1]), captured.append, **FAMILY.options())
        query, key = captured[0].query, captured[0].key
        flow = dp.attention_motion_flow(query, key, captured[0].layout)
        points = dp.match_points(query, key, np.array([[12.0, 12.0]]), captured[0].layout)
    assert query.dtype == torch.bfloat16
    assert torch.equal(found["probed"], found["plain"])
    assert torch.equal(flow, dp.attention_motion_flow(query, key, captured[0].layout))
    after = dp.match_points(query, key, np.array([[12.0, 12.0]]), captured[0].layout)
    assert torch.equal(points, after)
    check_close(found, expected, 2e-2)


def test_products_under_autocast_are_those_without() -> None:
    """Also those that are not part of the runs above: autocast would take them in bfloat16."""
    drawn = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, 3, 4, 5, 8, generator=drawn) for _ in range(2))
    text = torch.randn(2, 6, 8, generator=drawn)
    layout = dp.TokenLayout(3, 4, 5, 64, 80, 9, 6)
    rows = [each.flatten(1, 3)[None] for each in (query, key, query)]
    whole = torch.ones(1, 1, 60, 60, dtype=torch.bool)  # a mask by query, which no fused attention takes
    attention = Attention(0, *rows, whole, 0.35, layout, slice(0, 60))
    normalisers = row_normalisers(query, key, text)
    calls: dict[str, Callable[[], Any]] = {
        "weights": lambda: attention_weights(query.flatten(1, 3), key.flatten(1, 3), dtype=torch.float32),
        "masses": lambda: torch.from_numpy(head_masses(query, key, layout, text)["mass"].values),
        "temporal": lambda: temporal_attention(query, key),
        "normalisers": lambda: torch.from_numpy(row_normalisers(query, key, text)),
        "text": lambda: torch.from_numpy(text_shares(query, text, normalisers)),
        "guided": lambda: within_frames()(attention, torch.nn.functional.scaled_dot_product_attention),  # type: ignore[arg-type]
        "rows": lambda: dp.attention_of_points(query, key, np.array([[12.0, 12.0]]), layout, text_key=text),
    }
    for name, call in calls.items():
        without = call()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = call()
        if isinstance(without, torch.Tensor):
            assert torch.equal(torch.nan_to_num(found), torch.nan_to_num(without)), name
        else:
            assert found.equals(without), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layerwise_casting_to_float8(dtype: torch.dtype, expected: Results) -> None:
    pipeline = new_pipeline().to(dtype)
    pipeline.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    backbone = dp.load_backbone(pipeline)
    assert backbone.dtype == dtype
    stored = {weight.dtype for weight in pipeline.transformer.parameters()}
    assert torch.float8_e4m3fn in stored
    found = run_all(backbone)
    assert torch.equal(found["probed"], found["plain"])
    assert {weight.dtype for weight in pipeline.transformer.parameters()} == stored
    check_close(found, expected, 5e-2)


def _quanto(pipeline: Any) -> None:
    quanto = pytest.importorskip("optimum.quanto")
    quanto.quantize(pipeline.transformer, weights=quanto.qint8)
    quanto.freeze(pipeline.transformer)


def _torchao(pipeline: Any) -> None:
    torchao = pytest.importorskip("torchao.quantization")
    torchao.quantize_(pipeline.transformer, torchao.Int8WeightOnlyConfig())


class Int8Linear(torch.nn.Module):
    """A linear layer whose weights are int8 with one scale a row, in place of those of packages that are missing."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.weight = torch.nn.Parameter((linear.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias, self.in_features, self.out_features = linear.bias, linear.in_features, linear.out_features

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(values, self.weight.to(values.dtype) * self.scale, self.bias)


def _int8(pipeline: Any) -> None:
    for block in pipeline.transformer.transformer_blocks:
        for module in list(block.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, torch.nn.Linear):
                    setattr(module, name, Int8Linear(child))


@pytest.mark.parametrize("quantize", [_quanto, _torchao, _int8], ids=["quanto", "torchao", "own"])
def test_quantized_weights(quantize: Callable[[Any], None], expected: Results) -> None:
    pipeline = new_pipeline()
    quantize(pipeline)
    backbone = dp.load_backbone(pipeline)
    assert backbone.dtype == torch.float32
    found = run_all(backbone)
    assert torch.equal(found["probed"], found["plain"])
    check_close(found, expected, 5e-2)


@pytest.mark.parametrize("threads", [False, True], ids=["one probe within the other", "a thread each"])
def test_two_pipelines_at_once(threads: bool, expected: Results) -> None:
    backbones = [dp.load_backbone(new_pipeline(), device="cpu") for _ in range(2)]
    found: list[Results] = [{}, {}]

    def run(number: int) -> None:
        found[number] = run_all(backbones[number])

    if threads:
        running = [threading.Thread(target=run, args=(number,)) for number in range(2)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    else:
        seen: list[dp.Capture] = []
        with dp.Probe(backbones[0], dp.Selection([0], [0]), seen.append):
            run(1)
        assert seen == []
        run(0)
    for results in found:
        assert {key for key in expected if not torch.equal(results[key], expected[key])} == set()
