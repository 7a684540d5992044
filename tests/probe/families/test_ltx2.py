"""LTX-2: the video stream of a model that makes video and sound, further calls of a step, clips without sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2ImageToVideoPipeline,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from PIL import Image
from torch import Tensor

from generators.sampling.sample import sample
from generators.sampling.strategy import Strategy
from probe import Backbone, Capture, Probe, load_backbone
from store.errors import InvalidInputError
from store.selection import Selection

SIZE = {"height": 64, "width": 96, "images": 9}
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))


def vae() -> AutoencoderKLLTX2Video:
    made = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8, 8),
        down_block_types=("LTX2VideoDownBlock3D",) * 2,
        decoder_block_out_channels=(8, 8),
        layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, True),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False,) * 3,
        downsample_type=("spatiotemporal", "spatiotemporal"),
        upsample_type=("spatiotemporal", "spatiotemporal"),
        upsample_residual=(False, False),
        upsample_factor=(1, 1),
        encoder_causal=True,
        decoder_causal=False,
    )
    tiny.randomise(made, 71)
    return made.eval()


def sound() -> dict[str, Any]:
    audio = AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1,), num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
    )
    vocoder = LTX2Vocoder(
        in_channels=16,
        hidden_channels=8,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
        output_sampling_rate=16000,
    )
    return {"audio_vae": audio.eval(), "vocoder": vocoder.eval()}


def ltx2(kind: type[Any] = LTX2Pipeline, **config: Any) -> Any:
    transformer = LTX2VideoTransformer3DModel(
        **{
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "cross_attention_dim": 24,
            "audio_in_channels": 4,
            "audio_out_channels": 4,
            "audio_num_attention_heads": 2,
            "audio_attention_head_dim": 4,
            "audio_cross_attention_dim": 8,
            "num_layers": 2,
            "caption_channels": 16,
            "rope_double_precision": False,
            "rope_type": "split",
            "perturbed_attn": True,
            **config,
        }
    )
    tiny.randomise(transformer, 72)
    connectors = LTX2TextConnectors(
        caption_channels=16,
        text_proj_in_factor=2,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_double_precision=False,
        rope_type="split",
    )
    tiny.randomise(connectors, 73)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05)
    parts = {"scheduler": scheduler, "vae": vae(), "transformer": transformer.eval(), "connectors": connectors.eval()}
    return kind(text_encoder=None, tokenizer=None, **parts, **sound())


def audio(seed: int) -> Tensor:
    """Latents (1, channel, time, mel) of the sound of 9 images."""
    return torch.randn(1, 2, 9, 2, generator=torch.Generator().manual_seed(seed))


OFF = {"stg_scale": 0.0, "modality_scale": 1.0, "audio_stg_scale": 0.0, "audio_modality_scale": 1.0}


@contextmanager
def streams_apart(backbone: Backbone) -> Iterator[None]:
    """The pipeline's own calls without the attention between video and audio, as clips are shown."""
    hook = backbone.pipeline.transformer.register_forward_pre_hook(
        lambda module, args, call: (args, {**call, "isolate_modalities": True}), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


class TestLTX2(FamilyContract):
    layer_names = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
    size = SIZE
    grid = (3, 4, 6)
    channels = 12
    text_counts = (0, 0, 0)
    guided: ClassVar[dict[str, Any]] = {"guidance_scale": 4.0, **OFF}
    unguided: ClassVar[dict[str, Any]] = {"guidance_scale": 1.0, "audio_guidance_scale": 1.0, **OFF}

    @classmethod
    def make_pipeline(cls) -> Any:
        return ltx2()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        mask = torch.ones(len(prompts), 7)
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(7, 32, n) for n in prompts]), "prompt_attention_mask": mask}
        if negative:
            embeds = tiny.embeds(7, 32, 9).expand(len(prompts), -1, -1)
            chosen |= {"negative_prompt_embeds": embeds, "negative_prompt_attention_mask": mask}
        return {**chosen, "audio_latents": audio(5).expand(len(prompts), -1, -1, -1)}

    @classmethod
    def packed(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        """Unpacked, as the VAE makes them; the pipeline scales and packs them."""
        return backbone.unscale_latents(latents, SIZE["images"])

    @classmethod
    def unpacked(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        return backbone.scale_latents(latents)  # the pipeline returns what its VAE decodes

    def test_branches_are_what_they_are_called(self, backbone: Backbone) -> None:
        with streams_apart(backbone):
            super().test_branches_are_what_they_are_called(backbone)

    def test_a_forward_pass_predicts_what_the_pipeline_does_at_every_step(self, backbone: Backbone) -> None:
        with streams_apart(backbone):
            super().test_a_forward_pass_predicts_what_the_pipeline_does_at_every_step(backbone)


class TestLTX2ImageToVideo(TestLTX2):
    @classmethod
    def make_pipeline(cls) -> Any:
        return ltx2(LTX2ImageToVideoPipeline)

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return {**super().conditioning(prompts, negative=negative), "image": IMAGE}

    def make_noise(self, backbone: Backbone, *, batch: int = 1) -> Tensor:
        """Noise after the image, as the pipeline itself makes it where no latents are given."""
        noise = super().make_noise(backbone, batch=batch)
        noise[:, :, :1] = self.sample(backbone, steps=2)[:, :, :1]
        return noise


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(ltx2())


OPTIONS: dict[str, Any] = {"steps": 2, "conditioning": TestLTX2.conditioning(), **SIZE}


def test_further_calls_of_a_step_are_of_neither_branch(backbone: Backbone) -> None:
    """The pipeline's defaults: guidance, perturbed attention, and streams apart, three calls a step."""
    calls, found = [], []
    hook = backbone.pipeline.transformer.register_forward_pre_hook(
        lambda module, args, call: calls.append(len(call["hidden_states"])), with_kwargs=True
    )
    with Probe(backbone, Selection("all", "all", ("cond", "uncond")), found.append):
        backbone.generate(None, **{**OPTIONS, "conditioning": {**OPTIONS["conditioning"], **PERTURBED}})
    hook.remove()
    assert calls == [2, 1, 1] * 2
    assert [(c.step, c.layer, c.branch) for c in found] == [
        (step, layer, branch) for step in (0, 1) for layer in (0, 1) for branch in ("uncond", "cond")
    ]


PERTURBED = {"spatio_temporal_guidance_blocks": [1]}


def test_a_clip_is_shown_without_the_audio(backbone: Backbone) -> None:
    found: list[Capture] = []
    for seed in (1, 2):
        conditioning = {**OPTIONS["conditioning"], "audio_latents": audio(seed)}
        with Probe(backbone, Selection([1], [1]), found.append):
            backbone.generate(None, **{**OPTIONS, "conditioning": conditioning})
    assert not torch.equal(found[0].query, found[1].query), "while it samples, the audio takes part"
    seen = []
    for seed in (1, 2):
        forward = TestLTX2().forward(backbone)
        for _, call in forward._calls.values():
            call["audio_hidden_states"] = tiny.embeds(9, 4, seed)
        with torch.no_grad():
            seen.append(forward.predict(torch.ones(1, 4, 3, 4, 6), 1)["cond"])
    assert torch.equal(*seen)


def test_guided_runs_need_predictions_that_are_not_rescaled(backbone: Backbone) -> None:
    with pytest.raises(InvalidInputError, match=r"^the pipeline's own guidance_rescale rescales the guided prediction"):
        sample(backbone, None, Strategy(), **OPTIONS)
    options = {**OPTIONS, "conditioning": {**OPTIONS["conditioning"], "guidance_rescale": 0.0}}
    plain, same = backbone.generate(None, **options), sample(backbone, None, Strategy(), **options)
    assert np.array_equal(plain.images, same.images)


def test_without_guidance_of_the_video_that_of_the_audio_is_off_too(backbone: Backbone) -> None:
    found: list[Capture] = []
    with Probe(backbone, Selection([0], [0], ("cond", "uncond")), found.append):
        backbone.generate(None, guidance_scale=1.0, **OPTIONS)
    assert [capture.branch for capture in found] == ["cond"]
