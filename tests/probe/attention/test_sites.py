"""Attention modules that are not diffusers': functions in a forward, of other names, or held as an attribute."""

from __future__ import annotations

import dataclasses
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.attention.edit import AttentionEdit
from probe.attention.functions import AttentionFunction
from probe.attention.sites import AttentionSite, AttributeSite, ForwardSite
from probe.attention.tap import AttentionCall, AttentionTap
from store.errors import UnsupportedBackboneError
from store.layout import TokenLayout

HEADS, CHANNELS, TOKENS = 2, 4, 105


def fused(q: Tensor, k: Tensor, v: Tensor, softmax_scale: float | None = None) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=softmax_scale).transpose(1, 2)


kernels = types.ModuleType("kernels")
kernels.fused = fused  # type: ignore[attr-defined]


class Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(HEADS * CHANNELS, 3 * HEADS * CHANNELS)

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.qkv(x).unflatten(-1, (3, HEADS, CHANNELS)).unbind(2)


class Named(Projected):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        return fused(q, k, v=v, softmax_scale=0.3).flatten(2)


class OfModule(Projected):
    def forward(self, x: Tensor) -> Tensor:
        return kernels.fused(*self.heads(x), 0.3).flatten(2)


class Plain(Projected):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (y.transpose(1, 2) for y in self.heads(x))
        return F.scaled_dot_product_attention(q, k, v, scale=0.3).transpose(1, 2).flatten(2)


class Method(Projected):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return fused(q, k, v, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(*self.heads(x)).flatten(2)


class Held(Projected):
    def __init__(self) -> None:
        super().__init__()
        self.core = lambda q, k, v: fused(q, k, v, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.core(*self.heads(x)).flatten(2)


KERNEL = AttentionFunction("fused", False, ("q", "k", "v"), mask=None, scale="softmax_scale")
UNSCALED: dict[str, Any] = {"operands": ("q", "k", "v"), "mask": None, "scale": None}
SITES: dict[str, tuple[type[Projected], AttentionSite]] = {
    "by name": (Named, ForwardSite(KERNEL)),
    "of a module": (OfModule, ForwardSite(KERNEL)),
    "torch's": (Plain, ForwardSite()),
    "in a method": (Method, ForwardSite(KERNEL, method="attend")),
    "a method": (Method, AttributeSite(AttentionFunction("attend", False, **UNSCALED))),
    "held": (Held, AttributeSite(AttentionFunction("core", False, **UNSCALED))),
}


@pytest.mark.parametrize("name", SITES)
def test_what_is_multiplied_is_seen_and_nothing_changes(name: str) -> None:
    kind, site = SITES[name]
    module, x = kind(), torch.randn(1, TOKENS, HEADS * CHANNELS)
    plain, before, known = module(x), dict(vars(module)), set(sys.modules)
    calls: list[AttentionCall] = []
    with AttentionTap({3: module}, calls.append, site=site):
        assert torch.equal(module(x), plain)
    assert vars(module) == before
    assert set(sys.modules) == known
    (call,) = calls
    assert call.layer == 3
    query, key, value = (tensor.transpose(1, 2) for tensor in module.heads(x))
    for seen, own in ((call.query, query), (call.key, key), (call.value, value)):
        assert torch.equal(seen, own)
    assert torch.equal(call.output.transpose(1, 2).flatten(2), plain)
    if name not in ("a method", "held"):  # which scale inside
        assert call.scale == 0.3
    torch.testing.assert_close(torch.softmax(0.3 * query @ key.transpose(2, 3), -1) @ value, call.output)


@pytest.mark.parametrize("name", SITES)
def test_taps_and_edits_nest_and_close_in_any_order(name: str) -> None:
    kind, site = SITES[name]
    module, x = kind(), torch.randn(1, TOKENS, HEADS * CHANNELS)
    plain, before = module(x), dict(vars(module))
    outer: list[AttentionCall] = []
    inner: list[AttentionCall] = []
    layout = TokenLayout(3, 5, 7, 80, 112, 9)
    twice = lambda attention, attend: 2 * attend(attention)  # noqa: E731
    tap = AttentionTap({0: module}, outer.append, site=site)
    edit = AttentionEdit({0: module}, {0: [twice]}, layout, None, site=site)
    late = AttentionTap({0: module}, inner.append, site=site)
    tap.__enter__()
    edit.__enter__()
    torch.testing.assert_close(module(x), 2 * plain)
    late.__enter__()
    tap.__exit__()
    torch.testing.assert_close(module(x), 2 * plain)
    edit.__exit__()
    assert torch.equal(module(x), plain)
    late.__exit__()
    assert vars(module) == before
    assert (len(outer), len(inner)) == (1, 2)


def test_gradients_are_the_modules_own() -> None:
    module, x = Named(), torch.randn(1, TOKENS, HEADS * CHANNELS)
    module(x).square().sum().backward()
    own = module.qkv.weight.grad.clone()
    module.zero_grad()
    with AttentionTap({0: module}, lambda call: None, site=SITES["by name"][1]):
        module(x).square().sum().backward()
    assert torch.equal(module.qkv.weight.grad, own)


class Decorated(Named):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return fused(*self.heads(x)).flatten(2)


class Packed(Projected):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (y.flatten(0, 1) for y in self.heads(x))
        return fused(q, k, v)


def tapped(module: nn.Module, site: AttentionSite | None = None) -> Any:
    with AttentionTap({0: module}, lambda call: None, **({"site": site} if site else {})):
        return module(torch.randn(1, TOKENS, HEADS * CHANNELS))


@pytest.mark.parametrize(
    ("module", "site", "message"),
    [
        (Named, None, r"^layer 0 is a Named without a processor, .* attention_site of its family"),
        (Plain, ForwardSite(KERNEL), r"^layer 0 \(Plain\.forward\) does not call fused, which its family declares"),
        (
            Named,
            ForwardSite(AttentionFunction("fused", False)),
            r"attends with fused\(q, k, v, softmax_scale\), which has no query, key, value\.",
        ),
        (Decorated, ForwardSite(KERNEL), r"Decorated\.forward\) is decorated or not a plain Python function"),
        (Held, AttributeSite(AttentionFunction("other", False)), r"has no function other, which its family declares"),
        (Packed, ForwardSite(KERNEL), r"^fused was called with a query of shape \(105, 2, 4\); batch, head, token and"),
    ],
)
def test_what_cannot_be_tapped_is_refused(module: type[nn.Module], site: AttentionSite | None, message: str) -> None:
    with pytest.raises(UnsupportedBackboneError, match=message):
        tapped(module(), site)


def test_a_forward_that_was_replaced_is_refused() -> None:
    module = Named()
    module.forward = lambda x: x  # type: ignore[method-assign]
    with pytest.raises(UnsupportedBackboneError, match="was replaced by a function, which cannot be tapped"):
        tapped(module, ForwardSite(KERNEL))


def test_a_mask_is_refused_where_the_function_takes_none() -> None:
    module, layout = Named(), TokenLayout(3, 5, 7, 80, 112, 9)
    masked = lambda attention, attend: attend(dataclasses.replace(attention, mask=torch.ones(TOKENS, TOKENS)))  # noqa: E731
    edit = AttentionEdit({0: module}, {0: [masked]}, layout, None, site=ForwardSite(KERNEL))
    with edit, pytest.raises(UnsupportedBackboneError, match="fused takes no attention mask"):
        module(torch.randn(1, TOKENS, HEADS * CHANNELS))
