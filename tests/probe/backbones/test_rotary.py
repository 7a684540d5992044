"""How fast channels turn, against the tables that diffusers makes."""

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoRotaryPosEmbed
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from probe import load_backbone
from probe.backbones.rotary import RotaryAxes
from probe.mini import MiniConfig, new_pipeline
from probe.run.forward import ForwardPass


def turned(cos, sin, grid):
    """(channel,) radians between neighbouring tokens, the largest of the three axes, from tables (token, channel)."""
    angle = torch.atan2(sin.double(), cos.double()).reshape(*grid, -1)
    steps = [angle.select(axis, 1) - angle.select(axis, 0) for axis in range(3)]
    flat = [step[(0,) * (step.ndim - 1)] for step in steps]
    return torch.stack(flat).abs().amax(0).numpy()


def test_cogvideox_by_the_table_of_its_pipeline():
    backbone = load_backbone(new_pipeline(MiniConfig(layers=1, rotary=True)))
    _, kwargs = ForwardPass(backbone, "", steps=2)._calls["cond"]
    cos, sin = kwargs["image_rotary_emb"]
    np.testing.assert_allclose(turned(cos, sin, (6, 10, 10)), backbone.rotary.turns(), rtol=1e-3)
    assert backbone.rotary == RotaryAxes(8, 12, 12)


def test_added_positions_are_none():
    assert load_backbone(new_pipeline(MiniConfig(layers=1))).rotary is None


def test_wan_by_its_own_table():
    table = WanRotaryPosEmbed(22, (1, 2, 2), 64)
    cos, sin = (part[0, :, 0] for part in table(torch.zeros(1, 4, 3, 10, 14)))
    np.testing.assert_allclose(turned(cos, sin, (3, 5, 7)), RotaryAxes(10, 6, 6).turns(), rtol=1e-5)


def test_hunyuan_by_its_own_table():
    table = HunyuanVideoRotaryPosEmbed(2, 1, [4, 6, 8], 256.0)
    cos, sin = table(torch.zeros(1, 4, 3, 10, 14))
    np.testing.assert_allclose(turned(cos, sin, (3, 5, 7)), RotaryAxes(4, 6, 8, theta=256.0).turns(), rtol=1e-4)


@pytest.mark.parametrize(("limit", "kept"), [(1.0, 32), (0.99, 26), (0.0, 0)])
def test_slow_channels_turn_no_faster(limit, kept):
    axes = RotaryAxes(8, 12, 12)
    slow = axes.slow_channels(limit)
    assert len(slow) == kept
    assert all(axes.turns()[channel] <= limit for channel in slow)
    assert slow == tuple(sorted(slow))
