"""SkyReels V2 from text and from an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import SkyReelsV2ImageToVideoPipeline, SkyReelsV2Pipeline, SkyReelsV2Transformer3DModel
from diffusers import UniPCMultistepScheduler as Scheduler
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from probe import Capture, Probe, load_backbone
from store.selection import Selection


def skyreels(kind: type[Any] = SkyReelsV2Pipeline, config: dict[str, Any] | None = None, **parts: Any) -> Any:
    sizes: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "text_dim": 32,
        "freq_dim": 16,
        "ffn_dim": 24,
        "num_layers": 2,
        "rope_max_seq_len": 32,
        **(config or {}),
    }
    transformer = SkyReelsV2Transformer3DModel(**sizes)
    tiny.randomise(transformer, 51)
    scheduler = Scheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
    absent = {"tokenizer": None, "text_encoder": None}
    return kind(**absent, **parts, transformer=transformer.eval(), vae=tiny.wan_vae(), scheduler=scheduler)


class TestSkyReelsV2(FamilyContract):
    layer_names = ("blocks.0.attn1", "blocks.1.attn1")
    channels = 12
    text_counts = (0, 0, 0)

    @classmethod
    def make_pipeline(cls) -> Any:
        return skyreels()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(13, 32, n) for n in prompts])}
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(13, 32, 9).expand(len(prompts), -1, -1)
        return chosen


def test_it_animates_an_image() -> None:
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    parts = {
        "image_encoder": CLIPVisionModelWithProjection(vision).eval(),
        "image_processor": CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
    }
    config = {"in_channels": 36, "image_dim": 8, "added_kv_proj_dim": 24}
    backbone = load_backbone(skyreels(SkyReelsV2ImageToVideoPipeline, config, **parts))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 112, 3), np.uint8))
    found: list[Capture] = []
    given = {**TestSkyReelsV2.conditioning(), "image": image}
    with Probe(backbone, Selection([1], "all"), found.append, steps=2):
        backbone.generate(None, steps=2, guidance_scale=1.0, conditioning=given, **tiny.SIZE)
    assert [capture.layer for capture in found] == [0, 1]
