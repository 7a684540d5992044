"""Wan VACE: control in blocks of its own, reference images as frames before those of the video."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel
from PIL import Image
from torch import Tensor

from probe import Backbone, Capture, Probe, load_backbone, run_clip
from store.clips.clip import Clip
from store.selection import Selection

REFERENCE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 112, 3), np.uint8))


def vace() -> WanVACEPipeline:
    transformer = WanVACETransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=16,
        ffn_dim=24,
        num_layers=2,
        rope_max_seq_len=32,
        vace_layers=[0],
        vace_in_channels=96,
    )
    tiny.randomise(transformer, 31)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return WanVACEPipeline(None, None, tiny.wan_vae(), scheduler, transformer.eval())


class TestWanVACE(FamilyContract):
    layer_names = ("blocks.0.attn1", "blocks.1.attn1")
    waits_a_run = 2
    channels = 12
    text_counts = (0, 0, 0)

    @classmethod
    def make_pipeline(cls) -> Any:
        return vace()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(13, 32, n) for n in prompts])}
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(13, 32, 9).expand(len(prompts), -1, -1)
        return chosen

    @pytest.mark.parametrize("guided", [False])
    def test_a_batch_of_prompts_gives_a_capture_each(self, backbone: Backbone, guided: bool) -> None:
        with pytest.raises(ValueError, match="more than one video is not yet supported"):
            self.sample(backbone, prompts=(0, 1))


def with_reference(backbone: Backbone) -> tuple[list[Capture], list[Tensor]]:
    """Captures of a run with a reference image, and the attention output of layer 0 of each call."""
    found: list[Capture] = []
    seen: list[Tensor] = []
    hook = backbone.modules[0][0][1].to_out[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    given = {**TestWanVACE.conditioning(), "reference_images": [REFERENCE]}
    with Probe(backbone, Selection("all", [0]), found.append, steps=2, features=True):
        backbone.generate(None, steps=2, guidance_scale=1.0, conditioning=given, **tiny.SIZE)
    hook.remove()
    return found, seen


def test_frames_of_reference_images_are_left_out_of_captures() -> None:
    found, seen = with_reference(load_backbone(vace()))
    assert seen[0].shape[1] == 4 * 35
    for capture, output in zip(found, seen, strict=True):
        assert capture.layout.frames == 3
        assert capture.layout.images == 9
        assert torch.equal(capture.features.flatten(0, 2), output[0, 35:])


def test_a_clip_is_shown_after_the_reference_images() -> None:
    backbone = load_backbone(vace())
    clip = Clip(np.random.default_rng(1).integers(0, 255, (9, 80, 112, 3), np.uint8), fps=8)
    calls: list[dict[str, Any]] = []
    hook = backbone.pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    given = {**TestWanVACE.conditioning(), "reference_images": [REFERENCE]}
    found: list[Capture] = []
    run_clip(backbone, clip, Selection([-1], [1]), found.append, noise="clean", steps=3, conditioning=given)
    hook.remove()
    assert calls[-1]["hidden_states"].shape[2] == 4
    assert torch.allclose(calls[-1]["hidden_states"][:, :, 1:], backbone.encode(clip), atol=1e-5)
    assert found[0].query.shape == (2, 3, 5, 7, 12)
