"""LTX-Video from text, from an image and from conditions: packed latents, a schedule for each size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from PIL import Image
from torch import Tensor

from probe import Backbone, Capture, Probe, load_backbone, run_clip
from probe.backbones.geometry import Size
from store.clips.clip import Clip
from store.selection import Selection

SIZE = {"height": 64, "width": 96, "images": 9}
RANDOM = np.random.default_rng(0)
IMAGE = Image.fromarray(RANDOM.integers(0, 255, (64, 96, 3), np.uint8))


def vae() -> AutoencoderKLLTXVideo:
    made = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        down_block_types=("LTXVideoDownBlock3D",) * 3,
        spatio_temporal_scaling=(True, True, False),
        decoder_spatio_temporal_scaling=(True, True, False),
        decoder_inject_noise=(False,) * 4,
        upsample_residual=(False,) * 3,
        upsample_factor=(1,) * 3,
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    tiny.randomise(made, 11)
    return made.eval()


def ltx_video(kind: type[Any] = LTXPipeline, *, dynamic: bool = True) -> Any:
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        num_layers=2,
        caption_channels=32,
    )
    tiny.randomise(transformer, 12)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=dynamic, base_shift=0.95, max_shift=2.05)
    return kind(scheduler=scheduler, vae=vae(), text_encoder=None, tokenizer=None, transformer=transformer.eval())


class LTXContract(FamilyContract):
    layer_names = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
    size = SIZE
    grid = (3, 4, 6)
    channels = 12
    text_counts = (0, 0, 0)

    @classmethod
    def make_pipeline(cls) -> Any:
        return ltx_video()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        mask = torch.ones(len(prompts), 7)
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(7, 32, n) for n in prompts]), "prompt_attention_mask": mask}
        if negative:
            embeds = tiny.embeds(7, 32, 9).expand(len(prompts), -1, -1)
            chosen |= {"negative_prompt_embeds": embeds, "negative_prompt_attention_mask": mask}
        return chosen

    @classmethod
    def packed(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        return LTXPipeline._pack_latents(latents)

    @classmethod
    def unpacked(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        return LTXPipeline._unpack_latents(latents, *cls.grid)


class TestLTXVideo(LTXContract):
    pass


class TestLTXImageToVideo(LTXContract):
    @classmethod
    def make_pipeline(cls) -> Any:
        return ltx_video(LTXImageToVideoPipeline)

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return {**super().conditioning(prompts, negative=negative), "image": IMAGE}

    def make_noise(self, backbone: Backbone, *, batch: int = 1) -> Tensor:
        """Noise after the image, as the pipeline itself makes it where no latents are given."""
        noise = super().make_noise(backbone, batch=batch)
        noise[:, :, :1] = self.sample(backbone, steps=2)[:, :, :1]
        return noise


def test_a_schedule_belongs_to_a_size() -> None:
    backbone = load_backbone(ltx_video())
    small, large = (backbone.schedule(4, Size(*size)).timesteps for size in ((64, 96, 9), (512, 704, 161)))
    assert small != large
    assert backbone.timesteps(4) == large, "the default size"


# diffusers' pipeline hands a tensor to NumPy in a way that NumPy 2 warns of
NUMPY = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def conditioned(**options: Any) -> tuple[Backbone, list[Capture]]:
    backbone = load_backbone(ltx_video(LTXConditionPipeline, dynamic=False))
    found: list[Capture] = []
    with Probe(backbone, Selection("all", "all"), found.append, steps=2, features=True):
        arguments = {**LTXContract.conditioning(), **options}
        backbone.generate(None, steps=2, guidance_scale=1.0, conditioning=arguments, **SIZE)
    return backbone, found


@NUMPY
def test_without_conditions_it_is_text_to_video() -> None:
    backbone, found = conditioned()
    assert len(found) == 4
    assert found[0].query.shape == (2, 3, 4, 6, 12)
    assert [capture.timestep for capture in found[::2]] == list(backbone.timesteps(2))


@NUMPY
def test_tokens_of_conditions_stand_before_those_of_the_video() -> None:
    plain, found = conditioned(image=IMAGE, frame_index=8, strength=1.0, generator=torch.Generator().manual_seed(5))
    assert found[0].query.shape == (2, 3, 4, 6, 12)
    seen: list[Tensor] = []
    module = plain.modules[0][0][1]
    hook = module.to_out[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with Probe(plain, Selection([0], [0]), found.append, steps=2, features=True):
        options = {"image": IMAGE, "frame_index": 8, "strength": 1.0}
        arguments = {**LTXContract.conditioning(), **options}
        plain.generate(None, steps=2, guidance_scale=1.0, conditioning=arguments, **SIZE)
    hook.remove()
    assert seen[0].shape[1] == 24 + 72
    assert torch.equal(found[-1].features.flatten(0, 2), seen[0][0, 24:])


@NUMPY
def test_a_clip_is_shown_beside_conditions_that_stay_clean() -> None:
    backbone = load_backbone(ltx_video(LTXConditionPipeline, dynamic=False))
    clip = Clip(RANDOM.integers(0, 255, (9, 64, 96, 3), np.uint8), fps=8)
    calls: list[dict[str, Any]] = []
    hook = backbone.pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    given = {**LTXContract.conditioning(), "image": IMAGE, "frame_index": 8, "strength": 0.9}
    found: list[Capture] = []
    run_clip(backbone, clip, Selection([-1], [0]), found.append, noise="clean", steps=3, conditioning=given)
    hook.remove()
    call = calls[-1]
    timestep = backbone.timesteps(3)[-1]
    assert call["timestep"].shape == (1, 96)
    assert torch.allclose(call["timestep"][0, 24:], torch.tensor(timestep))
    assert torch.allclose(call["timestep"][0, :24], torch.tensor(min(100.0, timestep)))
    assert torch.allclose(backbone.latents_of_call(None, call), backbone.encode(clip), atol=1e-5)
    assert len(found) == 1
