"""Tokens and rotary positions of both HunyuanVideo families."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from probe.attention.position_sources import Replaced, RotaryModule
from probe.attention.positions import Positions
from probe.backbones.backbone import Backbone
from probe.backbones.rotary import RotaryAxes
from store.layout import TokenLayout

_ROTARY = RotaryModule("rope", lambda denoiser, call: (call["hidden_states"],))


class HunyuanTokens(Backbone):
    """A backbone whose transformer cuts latents into patches and has its rotary positions in a module ``rope``."""

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        config = denoiser.config
        return config.patch_size_t, config.patch_size, config.patch_size

    @property
    def rotary(self) -> RotaryAxes:
        """As configured."""
        config = self.pipeline.transformer.config
        frame, y, x = config.rope_axes_dim
        return RotaryAxes(frame, y, x, config.rope_theta)

    def positions(self, denoiser: Any, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
        """Return the rotary tables of the call."""
        return _ROTARY.read(denoiser, call, layout)

    def replaced_positions(
        self, denoiser: Any, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[Replaced]:
        """Return a context in which a call has other positions."""
        return _ROTARY.replace(denoiser, call, positions)
