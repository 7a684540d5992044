"""HunyuanVideo 1.5 from text and from an image: a guider, sizes by aspect, three kinds of text tokens."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from PIL import Image
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from probe import Backbone, load_backbone
from store.clips.clip import Clip
from store.errors import InvalidInputError

TEXT, GLYPHS = 9, 4
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8))


def hunyuan15(kind: type[Any] = HunyuanVideo15Pipeline) -> Any:
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=2,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=8,
        image_embed_dim=8,
        rope_axes_dim=(2, 4, 4),
        target_size=80,
    )
    vae = AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1)
    tiny.randomise(transformer, 41)
    tiny.randomise(vae, 42)
    parts: dict[str, Any] = {}
    if kind is HunyuanVideo15ImageToVideoPipeline:
        sizes = {"hidden_size": 8, "intermediate_size": 16, "image_size": 28, "patch_size": 14}
        vision = SiglipVisionConfig(num_hidden_layers=1, num_attention_heads=2, **sizes)
        parts["image_encoder"] = SiglipVisionModel(vision).eval()
        parts["feature_extractor"] = SiglipImageProcessor(size={"height": 28, "width": 28})
    pipeline = kind(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer.eval(),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
        **parts,
    )
    pipeline.vision_num_semantic_tokens = 4
    return pipeline


class TestHunyuanVideo15(FamilyContract):
    layer_names = ("transformer_blocks.0.attn", "transformer_blocks.1.attn")
    waits_a_run = 4
    channels = 10
    texts: ClassVar[tuple[tuple[int, int], ...]] = ((8, 2), (5, 0), (6, 1))
    """Text and glyph tokens of each prompt."""
    text_counts = (10, 5, 7)

    @classmethod
    def make_pipeline(cls) -> Any:
        return hunyuan15()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen = cls.text("", prompts)
        return {**chosen, **cls.text("negative_", (2,) * len(prompts))} if negative else chosen

    @classmethod
    def text(cls, prefix: str, prompts: tuple[int, ...]) -> dict[str, Any]:
        counts = torch.tensor([cls.texts[n] for n in prompts])
        return {
            f"{prefix}prompt_embeds": torch.cat([tiny.embeds(TEXT, 16, n) for n in prompts]),
            f"{prefix}prompt_embeds_mask": (torch.arange(TEXT) < counts[:, :1]).long(),
            f"{prefix}prompt_embeds_2": torch.cat([tiny.embeds(GLYPHS, 8, n) for n in prompts]),
            f"{prefix}prompt_embeds_mask_2": (torch.arange(GLYPHS) < counts[:, 1:]).long(),
        }


class TestFromAnImage(TestHunyuanVideo15):
    size = {"height": 80, "width": 80, "images": 9}  # noqa: RUF012
    grid = (3, 5, 5)
    text_counts = (14, 9, 11)
    """With the four tokens of the image."""

    @classmethod
    def make_pipeline(cls) -> Any:
        return hunyuan15(HunyuanVideo15ImageToVideoPipeline)

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return {**super().conditioning(prompts, negative=negative), "image": IMAGE}


def test_the_guider_has_its_own_scale_again_after_a_run() -> None:
    backbone = load_backbone(hunyuan15())
    guider = backbone.pipeline.guider
    arguments = backbone.arguments(None, conditioning=TestHunyuanVideo15.conditioning(), **tiny.SIZE)
    assert backbone.guidance_of(arguments) == 6.0
    with backbone.prepared_call({**arguments, "guidance_scale": 2.0}):
        assert backbone.pipeline.guider.guidance_scale == 2.0
    assert backbone.pipeline.guider is guider


def test_steps_are_told_though_the_pipeline_has_no_callback() -> None:
    told: list[tuple[int, int]] = []
    backbone = load_backbone(hunyuan15())
    conditioning = TestHunyuanVideo15.conditioning()
    backbone.generate(None, steps=3, conditioning=conditioning, on_step=lambda *done: told.append(done), **tiny.SIZE)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert "step" not in vars(backbone.pipeline.scheduler)


def test_sizes_from_an_image_are_those_of_the_models_list() -> None:
    backbone: Backbone = load_backbone(hunyuan15(HunyuanVideo15ImageToVideoPipeline))
    nearest = backbone.nearest_size(84, 80, 9)
    assert nearest[:2] == (80, 80)
    assert backbone.nearest_size(*backbone.default_size) == backbone.default_size
    with pytest.raises(InvalidInputError, match="does not take 80 x 112 px"):
        backbone.layout(80, 112, 9)
    clip = Clip(np.zeros((9, 80, 80, 3), np.uint8), fps=8)
    assert backbone.conditioning_of(clip)["image"].size == (80, 80)
