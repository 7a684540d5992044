"""LoRA-adapted and compiled transformers, one of each mechanism: what is captured is still what they multiply.

Compiling takes longer than all other tests of a family: ``make compiled`` runs those.
"""

from __future__ import annotations

import os
from importlib import import_module

import pytest
import torch
from contract import BOTH, FamilyContract

from probe import Backbone, Capture, Probe, load_backbone
from store.selection import Selection

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # of Mochi
COMPILED = pytest.mark.skipif("DITPROBE_COMPILED" not in os.environ, reason="compiling is slow: make compiled")

CASES = {
    "one call, text first": ("cogvideox.test_cogvideox", "TestCogVideoX"),
    "a call each, text apart": ("wan.test_wan", "TestWan"),
    "text last, two kinds of blocks": ("hunyuan.test_hunyuan_video", "TestHunyuanVideo"),
    "packed latents": ("test_ltx_video", "TestLTXVideo"),
    "one attention a batch item": ("test_mochi", "TestMochi"),
    "channels last": ("test_kandinsky5", "TestKandinsky5"),
    "video and audio": ("test_ltx2", "TestLTX2"),
    "a timestep a frame": ("wan.test_skyreels_forcing", "TestForcing"),
    "not of diffusers": ("test_step_video", "TestStepVideo"),
}
LAYERS = (
    r"(visual_transformer_blocks|transformer_blocks|single_transformer_blocks|blocks)\.\d+\.(attn1?|self_attention)"
)
TARGETS = LAYERS + r"\.(to_[qkv]|to_query|to_key|to_value|wqkv)"


def case_of(name: str) -> FamilyContract:
    module, kind = CASES[name]
    return getattr(import_module(f"tests.probe.families.{module}"), kind)()


def adapted(case: FamilyContract) -> Backbone:
    """With low-rank additions that are not zero, put in by diffusers, or by peft where a model is not of diffusers."""
    pipeline = case.make_pipeline()
    config = peft.LoraConfig(r=2, lora_alpha=8, target_modules=TARGETS, init_lora_weights=False)
    torch.manual_seed(0)
    if hasattr(pipeline.transformer, "add_adapter"):
        pipeline.transformer.add_adapter(config)
    else:
        pipeline.transformer = peft.get_peft_model(pipeline.transformer, config)
    return load_backbone(pipeline)


@pytest.mark.parametrize("name", CASES)
def test_with_a_lora_captures_and_runs_are_right(name: str) -> None:
    case = case_of(name)
    backbone = adapted(case)
    weights = {key: weight for key, weight in backbone.pipeline.transformer.named_parameters() if "lora_" in key}
    assert len(weights) >= 2 * len(case.layer_names)
    assert tuple(layer.name for layer in backbone.layers) == case.layer_names
    case.test_oracle_captured_tensors_give_the_modules_own_attention_output(backbone, True)
    case.test_probing_changes_nothing_to_the_bit(backbone, True)
    case.test_a_forward_pass_predicts_what_the_pipeline_does_at_every_step(backbone)
    plain = case.captures(load_backbone(case.make_pipeline()), Selection([0], [0]))
    changed = case.captures(backbone, Selection([0], [0]))
    assert not torch.allclose(plain[0].query, changed[0].query, atol=1e-3)
    # Gradients of the low-rank weights are those without a probe.
    forward, noise = case.forward(backbone), case.noise(backbone)
    found = []
    for probed in (False, True):
        backbone.pipeline.transformer.zero_grad()
        captures: list[Capture] = []
        if probed:
            with Probe(backbone, Selection("all", "all"), captures.append):
                forward.predict(noise, 0)["cond"].square().sum().backward()
            assert len(captures) == len(case.layer_names)
        else:
            forward.predict(noise, 0)["cond"].square().sum().backward()
        found.append({key: weight.grad.clone() for key, weight in weights.items()})
    assert all(torch.equal(found[0][key], found[1][key]) for key in weights)
    assert any(found[0][key].abs().max() > 0 for key in weights)


@COMPILED
@pytest.mark.parametrize("name", CASES)
def test_compiled_captures_are_those_of_the_plain_model(name: str) -> None:
    case = case_of(name)
    selection = Selection([-1], "all", BOTH)
    plain = case.captures(load_backbone(case.make_pipeline()), selection, guided=True)
    backbone = load_backbone(case.make_pipeline())
    backbone.pipeline.transformer.compile(backend="eager")
    try:
        before = case.sample(backbone, guided=True)
        compiled = case.captures(backbone, selection, guided=True)
        after = case.sample(backbone, guided=True)
    finally:
        torch._dynamo.reset()
    assert torch.equal(before, after)
    assert [(c.layer, c.branch) for c in compiled] == [(c.layer, c.branch) for c in plain]
    for one, other in zip(plain, compiled, strict=True):
        assert torch.allclose(one.query, other.query, atol=1e-5)
        assert torch.allclose(one.key, other.key, atol=1e-5)
