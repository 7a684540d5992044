"""Shortcuts of the kernels give what the plain way gives."""

from __future__ import annotations

import pytest
import torch

from analyses.flow.attention_flow import MovingFlowLoss, amf_loss, attention_motion_flow
from analyses.kernels import matching_cost
from analyses.kernels.matching_cost import cost_blocks
from analyses.kernels.products import attention_with_lse
from store.layout import TokenLayout

LAYOUT = TokenLayout(3, 5, 7, 80, 112, 9)


def tokens(size: float = 1.0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key = (size * torch.randn(2, 3, 35, 16, generator=generator) for _ in range(2))
    return query.to(dtype), key.to(dtype)


def costs(query: torch.Tensor, key: torch.Tensor, **options: object) -> torch.Tensor:
    sources = torch.tensor([0, 7, 34])
    found = torch.empty(2, 2, 3, 35)
    budget = {"budget_bytes": 2**20, **options}
    for block in cost_blocks(query, key, sources, divisor=4.0, dtype=torch.float32, **budget):  # type: ignore[arg-type]
        found[block.heads, block.frames] = block.cost
    return found


def plain(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    query, key = query.double(), key.double()
    sources = [0, 7, 34]
    there = (query[:, :1, sources] @ key[:, 1:].transpose(-1, -2) / 4).softmax(-1)
    back = (query[:, 1:] @ key[:, :1].transpose(-1, -2) / 4).softmax(-1)[..., sources].transpose(-1, -2)
    return ((there + back) / 2).float()


@pytest.mark.parametrize("size", [1.0, 4.0, 30.0])
@pytest.mark.parametrize("fused", [False, True])
def test_matching_costs_of_small_and_large_logits(size: float, fused: bool) -> None:
    """Logits of up to 16 and 250 are exponentiated as they are; up to 14,000, less their largest."""
    query, key = tokens(size)
    torch.testing.assert_close(costs(query, key, fused=fused), plain(query, key), atol=2e-6 * size**2, rtol=1e-4)


def test_rows_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = tokens()
    whole = costs(query, key)
    monkeypatch.setattr(matching_cost, "_CPU_BLOCK_BYTES", 35 * 4 * 32)
    torch.testing.assert_close(costs(query, key), whole)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_its_log_sum_exp(masked: bool) -> None:
    query, key = (each.transpose(0, 1) for each in tokens())
    mask = torch.arange(35).lt(20)[None, None, None].expand(3, 1, 1, -1) if masked else None
    found = attention_with_lse(query, key, key, scale=0.25, mask=mask)
    assert found is not None
    logits = query @ key.transpose(-1, -2) * 0.25
    logits = logits if mask is None else logits.masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(found[0], logits.softmax(-1) @ key)
    torch.testing.assert_close(found[1], logits.logsumexp(-1))


def test_gradients_have_no_fused_log_sum_exp() -> None:
    query, key = tokens()
    assert attention_with_lse(query.requires_grad_(), key, key, scale=0.25) is None


def test_the_loss_of_what_moves_and_its_gradients() -> None:
    query, key = (each.unflatten(2, (5, 7)).double().requires_grad_() for each in tokens())
    reference = attention_motion_flow(*(each.detach().roll(1, 3) for each in (query, key)), LAYOUT, hard=True)
    reference[:, :, 1:3] = 0
    reference[1, 2] = 0
    plainly = amf_loss(reference, attention_motion_flow(query, key, LAYOUT))
    expected = torch.autograd.grad(plainly, (query, key))
    loss = MovingFlowLoss(reference)(query, key, LAYOUT)
    found = torch.autograd.grad(loss, (query, key))
    torch.testing.assert_close(loss, plainly)
    torch.testing.assert_close(found, expected)
