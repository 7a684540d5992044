"""Wan from images: 2.1 and 2.2 with the image in further channels, TI2V-5B with it in a clean first frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from probe import Backbone, Capture, Probe, load_backbone, run_clip
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.selection import Selection

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 112, 3), np.uint8))


def image_to_video(**config: Any) -> WanImageToVideoPipeline:
    options = config.pop("pipeline", {})
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    transformer = tiny.wan_transformer(**{"in_channels": 36, **config})
    return WanImageToVideoPipeline(None, None, tiny.wan_vae(), scheduler, transformer=transformer, **options)


def with_encoder(**config: Any) -> WanImageToVideoPipeline:
    """As Wan 2.1: an image encoder, whose tokens the cross-attention also reads."""
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    parts = {"image_encoder": CLIPVisionModel(vision).eval(), "image_processor": processor}
    return image_to_video(image_dim=8, added_kv_proj_dim=24, pipeline=parts, **config)


class WanImageContract(FamilyContract):
    layer_names = ("blocks.0.attn1", "blocks.1.attn1")
    channels = 12
    text_counts = (0, 0, 0)

    @classmethod
    def make_pipeline(cls) -> Any:
        return image_to_video()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen: dict[str, Any] = {"prompt_embeds": torch.cat([tiny.embeds(13, 32, n) for n in prompts])}
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(13, 32, 9).expand(len(prompts), -1, -1)
        return {**chosen, "image": IMAGE}


class TestWan22ImageToVideo(WanImageContract):
    """Two transformers, no image encoder."""


class TestTI2V5B(WanImageContract):
    """A timestep for each token; the first latent frame is the image's."""

    @classmethod
    def make_pipeline(cls) -> Any:
        return image_to_video(in_channels=16, pipeline={"expand_timesteps": True})


def test_wan_21_reads_the_image_with_an_encoder_too() -> None:
    backbone = load_backbone(with_encoder())
    found: list[Capture] = []
    given = WanImageContract.conditioning()
    with Probe(backbone, Selection([0], "all"), found.append, steps=2):
        backbone.generate(None, steps=2, guidance_scale=1.0, conditioning=given, **tiny.SIZE)
    assert [capture.layer for capture in found] == [0, 1]


def test_a_model_of_first_and_last_frames_is_given_both() -> None:
    images = np.random.default_rng(1).integers(0, 255, (9, 80, 112, 3), np.uint8)
    clip = Clip(images, fps=8)
    backbone = load_backbone(with_encoder(pos_embed_seq_len=10))
    shown = backbone.conditioning_of(clip)
    assert (np.asarray(shown["image"]) == images[0]).all()
    assert (np.asarray(shown["last_image"]) == images[-1]).all()
    given = WanImageContract.conditioning()
    del given["image"]
    found: list[Capture] = []
    run_clip(backbone, clip, Selection([-1], [1]), found.append, steps=3, conditioning=given)
    assert len(found) == 1


def test_an_image_is_needed() -> None:
    backbone = load_backbone(image_to_video())
    with pytest.raises(InvalidInputError, match="animates an image, which is missing"):
        backbone.generate("a dog runs", steps=1, **tiny.SIZE)


def clean_frame(backbone: Backbone, clip: Clip) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and timesteps that the transformer is given while a clip is shown at the last of 3 steps."""
    calls: list[dict[str, Any]] = []
    hook = backbone.pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    conditioning = WanImageContract.conditioning()
    del conditioning["image"]
    run_clip(backbone, clip, Selection([-1], [0]), print, noise="forward", steps=3, conditioning=conditioning)
    hook.remove()
    return calls[-1]["hidden_states"], calls[-1]["timestep"]


def test_the_first_frame_of_ti2v_5b_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    backbone = load_backbone(TestTI2V5B.make_pipeline())
    clip = Clip(np.random.default_rng(1).integers(0, 255, (9, 80, 112, 3), np.uint8), fps=8)
    hidden, timestep = clean_frame(backbone, clip)
    still = backbone.encode(clip)
    assert torch.allclose(hidden[:, :, 0], still[:, :, 0], atol=1e-4), "the image of the clip itself"
    assert not torch.allclose(hidden[:, :, 1], still[:, :, 1], atol=0.1)
    assert timestep.shape == (1, 105)
    assert (timestep[:, :35] == 0).all()
    assert (timestep[:, 35:] == backbone.timesteps(3)[-1]).all()


def test_the_size_of_ti2v_5b_is_the_published_one() -> None:
    pipeline = TestTI2V5B.make_pipeline()
    pipeline.vae_scale_factor_spatial = 16
    assert str(load_backbone(pipeline).default_size) == "704 x 1280 px and 121 images"
