"""Cross-attention guidance by fused attentions gives what logits in chunks give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from generators.guidance import cross_attention
from generators.guidance.cross_attention import within_frames
from probe.attention.edit import Attention
from store.layout import TokenLayout

LAYOUT = TokenLayout(3, 2, 4, 32, 64, 9)


def attend(attention: Attention) -> Tensor:
    mask = attention.mask
    return torch.nn.functional.scaled_dot_product_attention(
        attention.query, attention.key, attention.value, attn_mask=mask, scale=attention.scale
    )


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("text", ["first", "last", None])
@pytest.mark.parametrize("masked", [False, True])
def test_both_ways_agree(renormalise: bool, text: str | None, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 24 + (5 if text else 0)
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(2, 3, count, 8, generator=generator) for _ in range(3))
    video = slice(5, 29) if text == "first" else slice(0, 24)
    mask = None
    if masked:
        mask = torch.ones(2, 1, 1, count, dtype=torch.bool)
        mask[1, ..., 3 if text == "first" else -2] = False
    attention = Attention(0, query, key, value, mask, 0.4, LAYOUT, video)
    fused = within_frames(renormalise)(attention, attend)
    monkeypatch.setattr(cross_attention, "attention_with_lse", lambda *args, **options: None)
    chunked = within_frames(renormalise, chunk_bytes=4 * 2 * 3 * count * 3)(attention, attend)
    torch.testing.assert_close(fused, chunked, atol=1e-5, rtol=1e-4)
