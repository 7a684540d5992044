"""HunyuanVideo from an image: as the first latent frame, or in further channels."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import HunyuanVideoImageToVideoPipeline
from PIL import Image
from torch import Tensor

from probe import Backbone, Capture, Probe, load_backbone
from store.selection import Selection

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 112, 3), np.uint8))


def image_to_video(kind: str) -> HunyuanVideoImageToVideoPipeline:
    channels = {"token_replace": 4, "latent_concat": 9}[kind]
    plain = tiny.hunyuan_video(image_condition_type=kind, in_channels=channels, guidance_embeds=False)
    parts = {name: part for name, part in plain.components.items() if part is not None}
    absent = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "image_processor")
    return HunyuanVideoImageToVideoPipeline(**parts, **dict.fromkeys(absent))


class TestTokenReplace(FamilyContract):
    layer_names = ("transformer_blocks.0.attn", "single_transformer_blocks.0.attn")
    waits_a_run = 2
    channels = 10
    text_counts = (8, 5, 6)
    guided: ClassVar[dict[str, Any]] = {"guidance_scale": 4.0, "true_cfg_scale": 3.0}
    unguided: ClassVar[dict[str, Any]] = {"guidance_scale": 4.0, "true_cfg_scale": 1.0}

    @classmethod
    def make_pipeline(cls) -> Any:
        return image_to_video("token_replace")

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return {**tiny.hunyuan_conditioning(cls.text_counts, prompts, negative=negative), "image": IMAGE}

    @pytest.mark.parametrize("guided", [False])
    def test_a_batch_of_prompts_gives_a_capture_each(self, backbone: Backbone, guided: bool) -> None:
        with pytest.raises(RuntimeError, match="Expected size 1 but got size 2"):  # one image, two prompts
            self.sample(backbone, prompts=(0, 1))

    @classmethod
    def packed(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        """What becomes these latents when the pipeline mixes a thousandth of the image into every frame."""
        return (latents - 0.001 * latents[:, :, :1]) / 0.999

    def make_noise(self, backbone: Backbone, *, batch: int = 1) -> Tensor:
        """Noise after the image, which the pipeline itself puts into the first frame."""
        noise = super().make_noise(backbone, batch=batch)
        noise[:, :, :1] = self.sample(backbone)[:, :, :1]
        return noise


def test_the_image_may_be_in_further_channels() -> None:
    backbone = load_backbone(image_to_video("latent_concat"))
    found: list[Capture] = []
    with Probe(backbone, Selection([0], "all"), found.append, steps=2):
        clip = backbone.generate(None, steps=2, conditioning=TestTokenReplace.conditioning(), **tiny.SIZE)
    assert [capture.layer for capture in found] == [0, 1]
    assert found[0].layout.images == 9
    assert len(clip) == 5, "the pipeline drops the first four images"
    assert backbone.text_tokens() == 256 + 288
    assert torch.isfinite(found[0].query).all()
