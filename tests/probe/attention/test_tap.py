"""The tap on single attention modules: what it rejects, nesting, restoring, recomputation, compilation."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import tiny_pipelines as tiny
import torch
from diffusers import FasterCacheConfig, FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.transformers.transformer_sana_video import SanaLinearAttnProcessor3_0
from torch import nn

from probe import AttentionCall, AttentionTap, Probe, load_backbone
from probe.attention.retarget import RetargetedAttention, check_multiplies
from store.errors import UnsupportedBackboneError
from store.selection import Selection


def attention(processor: Any = None, seed: int = 0) -> Attention:
    module = Attention(query_dim=8, heads=2, dim_head=4, processor=processor or AttnProcessor2_0())
    tiny.randomise(module, seed)
    return module.eval()


def tokens() -> torch.Tensor:
    return tiny.embeds(35, 8, 3)


def test_call_holds_what_the_attention_multiplied() -> None:
    module, calls = attention(), []
    with torch.no_grad():
        expected = module(tokens())
        with AttentionTap({6: module}, calls.append):
            assert torch.equal(module(tokens()), expected)
    (call,) = calls
    assert (call.layer, call.scale, call.mask) == (6, 0.5, None)
    own = torch.softmax(call.query @ call.key.transpose(-1, -2) * call.scale, -1) @ call.value
    assert call.query.shape == (1, 2, 35, 4)
    assert torch.allclose(own, call.output, atol=1e-6)
    assert torch.equal(call.query[0, 1, 5], module.to_q(tokens())[0, 5, 4:8])


def test_original_processor_and_modules_are_back_afterwards() -> None:
    module = attention()
    original, known = module.processor, set(sys.modules)
    with AttentionTap({0: module}, print):
        assert module.processor is not original
        assert isinstance(module.processor, AttnProcessor2_0)
        assert set(sys.modules) - known
    assert module.processor is original
    assert set(sys.modules) == known


def test_taps_nest() -> None:
    module, inner, outer = attention(), [], []
    with torch.no_grad(), AttentionTap({1: module}, outer.append):
        with AttentionTap({2: module}, inner.append):
            module(tokens())
        module(tokens())
    assert [call.layer for call in inner] == [2]
    assert [call.layer for call in outer] == [1, 1]


def test_modules_that_share_a_processor_are_told_apart() -> None:
    shared = AttnProcessor2_0()
    modules = {n: attention(shared, seed=n) for n in range(3)}
    calls: list[AttentionCall] = []
    with torch.no_grad(), AttentionTap({0: modules[0], 2: modules[2]}, calls.append):
        for module in modules.values():
            module(tokens())
    assert [call.layer for call in calls] == [0, 2]
    assert all(module.processor is shared for module in modules.values())


def test_an_observer_that_raises_leaves_through_the_model() -> None:
    module = attention()
    original = module.processor

    def stop(call: AttentionCall) -> None:
        raise StopIteration

    with pytest.raises(StopIteration), AttentionTap({0: module}, stop):
        module(tokens())
    assert module.processor is original


def test_a_failing_entry_restores_what_was_installed() -> None:
    good, bad = attention(), attention(SanaLinearAttnProcessor3_0())
    original = good.processor
    tap = AttentionTap({0: good, 1: bad}, print)
    with pytest.raises(UnsupportedBackboneError):
        tap.__enter__()
    assert good.processor is original


def test_recomputation_within_backward_is_not_observed() -> None:
    module, calls = attention(), []
    latents = tokens().requires_grad_()
    with AttentionTap({0: module}, calls.append):
        output = torch.utils.checkpoint.checkpoint(module, latents, use_reentrant=False)
        output.square().sum().backward()
    assert len(calls) == 1
    assert latents.grad.abs().max() > 0


def test_a_compiled_module_is_seen() -> None:
    module, calls = attention(), []
    with torch.no_grad(), AttentionTap({0: module}, lambda call: calls.append(call.query.shape)):
        expected = module(tokens())
        compiled = torch.compile(module, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(tokens()), expected)
    assert calls == [(1, 2, 35, 4)] * 2


def test_linear_attention_is_refused() -> None:
    with pytest.raises(UnsupportedBackboneError) as caught:
        check_multiplies(attention(SanaLinearAttnProcessor3_0()), "layer 3")
    assert str(caught.value) == (
        "layer 3 has the attention processor SanaLinearAttnProcessor3_0, which never multiplies queries and keys: it "
        "calls neither scaled_dot_product_attention nor dispatch_attention_fn. Its attention is linear (or otherwise "
        "without a softmax over keys), so there is no attention to probe."
    )


def test_a_processor_without_a_python_call_is_refused() -> None:
    class Odd:
        __call__ = len

    module = attention()
    module.processor = Odd()
    with pytest.raises(UnsupportedBackboneError) as caught:
        check_multiplies(module, "layer 3")
    assert str(caught.value) == (
        "layer 3 has the attention processor Odd, whose __call__ is not a plain Python function and cannot be tapped. "
        "Set a diffusers attention processor on it first."
    )


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (
            PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
            ),
            "pyramid_attention_broadcast",
        ),
        (
            FasterCacheConfig(spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500),
            "faster_cache",
        ),
        (FirstBlockCacheConfig(threshold=0.1), "first_block_cache"),
    ],
)
def test_caches_that_skip_attention_are_refused(config: Any, kind: str) -> None:
    backbone = load_backbone(tiny.cogvideox())
    backbone.pipeline.transformer.enable_cache(config)
    probe = Probe(backbone, Selection([0], [0]), print)
    with pytest.raises(UnsupportedBackboneError) as caught:
        probe.__enter__()
    assert str(caught.value) == (
        f"CogVideoXTransformer3DModel has an active {kind} hook, which skips attention at some steps, so what is "
        "captured would be incomplete. Call disable_cache() on the transformer (or remove the hook) before probing."
    )
    backbone.pipeline.transformer.disable_cache()
    with probe:
        pass


def test_a_backbone_without_self_attention_layers_is_refused() -> None:
    pipeline = tiny.cogvideox()
    pipeline.transformer.transformer_blocks = nn.ModuleList()
    with pytest.raises(UnsupportedBackboneError) as caught:
        load_backbone(pipeline)
    assert str(caught.value) == (
        "CogVideoXTransformer3DModel has no self-attention layers at transformer_blocks.*.attn1, where the CogVideoX "
        "family has them. It cannot be probed."
    )


def test_an_observer_that_needs_no_output_comes_before_the_attention() -> None:
    """A pass that ends at a layer does not compute the attention of that layer."""
    module = Attention(query_dim=8, heads=2, dim_head=4, processor=AttnProcessor2_0())
    events: list[str] = []

    def attended(layer: int, attend: Any, heads_first: bool) -> Any:
        return lambda *args, **kwargs: events.append("attention") or attend(*args, **kwargs)

    def leave(call: AttentionCall) -> None:
        assert call.output is None
        raise LookupError

    outer = RetargetedAttention({0: module}, attended)
    with outer, AttentionTap({0: module}, leave, output=False), pytest.raises(LookupError):
        module(torch.zeros(1, 35, 8))
    assert not events
    with RetargetedAttention({0: module}, attended), AttentionTap({0: module}, lambda call: events.append("seen")):
        module(torch.zeros(1, 35, 8))
    assert events == ["attention", "seen"]
