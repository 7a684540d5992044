"""SkyReels V2, from text and from an image: built and called like Wan 2.1, with one transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from probe.families.registry import register_family
from probe.families.wan.wan import Wan


@register_family
class SkyReelsV2(Wan):
    """A SkyReels V2 pipeline; classifier-free guidance is two calls, the conditional one first.

    The diffusion-forcing pipelines are a family of their own.
    """

    family = "SkyReels V2"
    pipelines: ClassVar[tuple[str, ...]] = ("SkyReelsV2Pipeline", "SkyReelsV2ImageToVideoPipeline")
    image_pipelines: ClassVar[tuple[str, ...]] = ("SkyReelsV2ImageToVideoPipeline",)
    clip_arguments: ClassVar[Mapping[str, str]] = {}
    transformers: ClassVar[tuple[str, ...]] = ("SkyReelsV2Transformer3DModel",)
    fps = 24.0

    @property
    def denoisers(self) -> tuple[nn.Module, ...]:
        """The one transformer."""
        return (self.pipeline.transformer,)

    def denoiser_at(self, timestep: float) -> nn.Module:
        """Return the one transformer."""
        return self.denoisers[0]
