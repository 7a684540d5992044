"""Wan from a clip: it begins with the noised clip at a later step."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import UniPCMultistepScheduler, WanVideoToVideoPipeline
from from_a_clip import OfAClip
from PIL import Image

from probe import Capture, load_backbone, run_prompt
from store.selection import Selection

IMAGES = np.random.default_rng(2).integers(0, 255, (9, 80, 112, 3), np.uint8)
VIDEO = [Image.fromarray(image) for image in IMAGES]


class TestWanVideoToVideo(OfAClip, FamilyContract):
    layer_names = ("blocks.0.attn1", "blocks.1.attn1")
    channels = 12
    text_counts = (0, 0, 0)
    guided: ClassVar[dict[str, Any]] = {"guidance_scale": 4.0, "strength": 1.0}
    unguided: ClassVar[dict[str, Any]] = {"guidance_scale": 1.0, "strength": 1.0}

    @classmethod
    def make_pipeline(cls) -> Any:
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
        return WanVideoToVideoPipeline(None, None, tiny.wan_transformer(), tiny.wan_vae(), scheduler)

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(13, 32, n) for n in prompts]), "video": VIDEO}
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(13, 32, 9).expand(len(prompts), -1, -1)
        return chosen


def test_steps_keep_their_numbers() -> None:
    backbone = load_backbone(TestWanVideoToVideo.make_pipeline())
    assert str(backbone.default_size) == "480 x 832 px and 81 images"
    found: list[Capture] = []
    given = {**TestWanVideoToVideo.conditioning(), "strength": 0.6}
    run_prompt(backbone, "", Selection("all", [0]), found.append, steps=5, conditioning=given, **tiny.SIZE)
    timesteps = backbone.timesteps(5)
    assert [(capture.step, capture.timestep) for capture in found] == [(step, timesteps[step]) for step in (2, 3, 4)]
