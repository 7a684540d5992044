"""EasyAnimate: arguments of the transformer by position, conditions in arguments of their own."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import (
    AutoencoderKLMagvit,
    EasyAnimateInpaintPipeline,
    EasyAnimatePipeline,
    EasyAnimateTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor

from probe import Backbone, Capture, Probe
from store.selection import Selection


def vae() -> AutoencoderKLMagvit:
    temporal = ["SpatialTemporal{}Block3D"] * 2
    made = AutoencoderKLMagvit(
        latent_channels=4,
        block_out_channels=[8, 8, 8, 8],
        down_block_types=[kind.format("Down") for kind in ["Spatial{}Block3D", *temporal, "SpatialTemporal{}Block3D"]],
        up_block_types=[kind.format("Up") for kind in ["Spatial{}Block3D", *temporal, "SpatialTemporal{}Block3D"]],
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
    )
    tiny.randomise(made, 31)
    return made.eval()


def easyanimate(kind: type[Any] = EasyAnimatePipeline, channels: int = 4, **overrides: Any) -> Any:
    transformer = EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=channels,
        out_channels=4,
        patch_size=2,
        num_layers=2,
        mmdit_layers=1,
        time_embed_dim=8,
        text_embed_dim=32,
        sample_width=14,
        sample_height=10,
        **overrides,
    )
    tiny.randomise(transformer, 32)
    return kind(vae(), None, None, transformer.eval(), FlowMatchEulerDiscreteScheduler())


class TestEasyAnimate(FamilyContract):
    layer_names = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
    channels = 16
    text_counts = (11, 11, 11)

    @classmethod
    def make_pipeline(cls) -> Any:
        return easyanimate()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        mask = torch.ones(len(prompts), 11)
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(11, 32, n) for n in prompts]), "prompt_attention_mask": mask}
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(11, 32, 9).expand(len(prompts), -1, -1)
            chosen["negative_prompt_attention_mask"] = mask
        return chosen

    def _own(self, backbone: Backbone, tensors: list[Any], capture: Capture, guided: bool) -> tuple[Tensor, Tensor]:
        """Text is projected apart in the first layer, and the output projection has the video alone."""
        call = tensors[0]
        index = int(guided and capture.branch == "cond")
        values = torch.cat([part[index] for part in reversed(call["values"])])
        return values.unflatten(-1, (self.heads, self.channels)), call["output"][index]


class TestEasyAnimateInpaint(TestEasyAnimate):
    @classmethod
    def make_pipeline(cls) -> Any:
        return easyanimate(EasyAnimateInpaintPipeline, channels=9)

    def test_branches_are_what_they_are_called(self, backbone: Backbone) -> None:
        """Its pipeline takes no latents, which that test passes: diffusers 0.42 fails on them."""
        with pytest.raises(UnboundLocalError, match="noise"):
            super().test_branches_are_what_they_are_called(backbone)

    def test_a_batch_of_prompts_gives_a_capture_each(self, backbone: Backbone) -> None:  # type: ignore[override]
        """Takes no latents either."""
        found = self.captures(backbone, Selection([0], [1]), prompts=(0, 1))
        assert [capture.sample for capture in found] == [0, 1]


def test_given_parts_of_a_clip_change_what_is_captured() -> None:
    from probe import load_backbone

    # the pipeline of diffusers 0.42 fails on masks that it resizes itself
    backbone = load_backbone(easyanimate(EasyAnimateInpaintPipeline, channels=12, resize_inpaint_mask_directly=False))
    mask = torch.full((1, 1, 9, 80, 112), 255.0)
    mask[:, :, :1] = 0
    video = torch.rand(1, 3, 9, 80, 112, generator=torch.Generator().manual_seed(6))
    keys = []
    for given in ({}, {"video": video, "mask_video": mask}):
        found: list[Capture] = []
        with Probe(backbone, Selection([0], [1]), found.append, steps=2):
            arguments = {**TestEasyAnimate.conditioning(), **given, "guidance_scale": 1.0}
            backbone.generate(None, steps=2, conditioning=arguments, **TestEasyAnimate.size)
        keys.append(found[0].key)
    assert keys[0].shape == keys[1].shape == (2, 3, 5, 7, 16)
    assert not torch.allclose(*keys, atol=1e-3)


@pytest.mark.parametrize("strength", [0.5])
def test_inpainting_may_begin_at_a_later_step(strength: float) -> None:
    from probe import load_backbone

    backbone = load_backbone(easyanimate(EasyAnimateInpaintPipeline, channels=9))
    video = torch.rand(1, 3, 9, 80, 112, generator=torch.Generator().manual_seed(6))
    found: list[Capture] = []
    with Probe(backbone, Selection("all", [1]), found.append, steps=4):
        given = {**TestEasyAnimate.conditioning(), "video": video, "strength": strength, "guidance_scale": 1.0}
        backbone.generate(None, steps=4, conditioning=given, **TestEasyAnimate.size)
    assert [capture.step for capture in found] == [2, 3]
