"""ConsisID: a CogVideoX that animates an image and keeps the identity of its face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from probe.backbones.geometry import Size
from probe.families.cogvideox.cogvideox import CogVideoX
from probe.families.registry import register_family


@register_family
class ConsisID(CogVideoX):
    """A ConsisID pipeline; its self-attention is CogVideoX's, faces enter between the blocks.

    The embeddings of a face, ``id_cond`` and ``id_vit_hidden``, are passed as ``conditioning``.
    """

    family = "ConsisID"
    pipelines: ClassVar[tuple[str, ...]] = ("ConsisIDPipeline",)
    image_pipelines: ClassVar[tuple[str, ...]] = ("ConsisIDPipeline",)
    clip_arguments: ClassVar[Mapping[str, str]] = {}
    transformers = ("ConsisIDTransformer3DModel",)

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        return 1, denoiser.config.patch_size, denoiser.config.patch_size

    @property
    def default_size(self) -> Size:
        """The size that the model was trained for, from its configuration."""
        config, spatial = self.pipeline.transformer.config, self.strides[1]
        return Size(config.sample_height * spatial, config.sample_width * spatial, config.sample_frames)
