"""CogVideoX: rotary (5B), additive (2B) and learned positions, 1.5's temporal patches, image-to-video."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from full_contract import BackboneContract

from probe import Capture, Probe, load_backbone, run_clip, run_prompt
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.selection import Selection


class TestCogVideoX(BackboneContract):
    layer_names = tuple(f"transformer_blocks.{i}.attn1" for i in range(3))
    channels = 16
    text_counts = (tiny.TEXT,) * 3

    @classmethod
    def make_pipeline(cls) -> Any:
        return tiny.cogvideox()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(tiny.TEXT, 32, n) for n in prompts])}
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(tiny.TEXT, 32, 9).expand(len(prompts), -1, -1)
        return chosen


class TestAdditivePositions(BackboneContract):
    """The 2B arrangement, with sinusoidal positions added to the tokens instead of rotary ones."""

    layer_names = TestCogVideoX.layer_names
    channels = 16
    text_counts = TestCogVideoX.text_counts
    conditioning = TestCogVideoX.conditioning

    @classmethod
    def make_pipeline(cls) -> Any:
        return tiny.cogvideox(use_rotary_positional_embeddings=False)


def version_1_5(**overrides: Any) -> Any:
    return tiny.cogvideox(patch_size_t=2, sample_height=300, sample_width=300, patch_bias=False, **overrides)


def test_temporal_patches_pad_an_odd_number_of_latent_frames_at_the_front() -> None:
    layout = load_backbone(version_1_5()).layout(80, 112, 17)
    assert (layout.frames, layout.spans) == (3, (range(1), range(1, 9), range(9, 17)))


def test_temporal_patches_are_captured_as_they_are_laid_out() -> None:
    backbone = load_backbone(version_1_5())
    images = torch.randint(0, 255, (17, 48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    clip = Clip(images.numpy(), fps=8)
    found: list[Capture] = []
    conditioning = TestCogVideoX.conditioning()
    run_clip(backbone, clip, Selection([0], [1]), found.append, conditioning=conditioning)
    with Probe(backbone, Selection([0], [1]), found.append):  # a call of which nobody says how many images it makes
        backbone.pipeline(
            height=48, width=64, num_frames=17, num_inference_steps=1, output_type="latent", **conditioning
        )
    for capture in found:
        assert capture.query.shape == (2, 3, 3, 4, 16)
        assert capture.layout == backbone.layout(48, 64, 17)
    latents = backbone.encode(clip)
    assert latents.shape[1] == 6
    assert torch.equal(latents[:, 0], latents[:, 1])
    assert backbone.decode(latents).images.shape == clip.images.shape


def test_numbers_of_images_that_the_vae_does_not_give_back_are_refused() -> None:
    backbone = load_backbone(tiny.cogvideox())
    assert [backbone.nearest_size(80, 112, n).images for n in (8, 9, 13, 16, 17, 49)] == [1, 9, 9, 9, 17, 49]
    vae = backbone.pipeline.vae
    for images in (9, 13):
        latents = vae.encode(torch.zeros(1, 3, images, 16, 16)).latent_dist.mode()
        assert (vae.decode(latents).sample.shape[2] == images) == (images == 9)


def test_default_size_of_temporal_patches_is_not_the_extent_of_the_position_table() -> None:
    assert str(load_backbone(version_1_5(sample_frames=81)).default_size) == "768 x 1360 px and 81 images"
    assert str(load_backbone(tiny.cogvideox()).default_size) == "80 x 112 px and 9 images"


def test_image_to_video_takes_image_0_of_a_clip() -> None:
    backbone = load_backbone(tiny.cogvideox(image_to_video=True))
    found: list[Capture] = []
    for level in (0, 200):
        clip = Clip(np.full((9, 80, 112, 3), level, np.uint8), fps=8)
        run_clip(backbone, clip, Selection([0], [1]), found.append, conditioning=TestCogVideoX.conditioning())
    assert found[0].query.shape == (2, 3, 5, 7, 16)
    assert not torch.allclose(found[0].query, found[1].query, atol=1e-3)
    with pytest.raises(InvalidInputError) as caught:
        backbone.generate("a dog", conditioning=TestCogVideoX.conditioning())
    assert str(caught.value) == (
        "CogVideoXImageToVideoPipeline animates an image, which is missing. Pass conditioning={'image': ...} (a PIL "
        "image)."
    )


def test_dynamic_guidance_keeps_its_branches() -> None:
    """The pipeline overwrites its guidance scale while it samples; at timestep 200 of these 40 steps with exactly 1."""
    backbone = load_backbone(tiny.cogvideox())
    backbone.pipeline.scheduler.register_to_config(timestep_spacing="leading")
    found: list[Capture] = []
    scales: set[float] = set()
    conditioning = {**TestCogVideoX.conditioning(), "use_dynamic_cfg": True, "guidance_scale": 3.0}
    run_prompt(
        backbone,
        None,
        Selection("all", [0], ("cond", "uncond")),
        found.append,
        steps=40,
        conditioning=conditioning,
        want_clip=False,
        on_step=lambda done, total: scales.add(backbone.pipeline.guidance_scale),
    )
    assert 1.0 in scales
    assert [capture.branch for capture in found] == ["uncond", "cond"] * 40


def test_prompts_without_a_text_encoder_are_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_backbone(tiny.cogvideox()).generate("a dog")
    assert str(caught.value) == (
        "CogVideoXPipeline has no text encoder, so the prompt 'a dog' cannot be read. Pass conditioning="
        "{'prompt_embeds': ..., 'negative_prompt_embeds': ...}, arguments of its pipeline."
    )


def test_the_unconditional_branch_needs_its_conditioning() -> None:
    backbone = load_backbone(tiny.cogvideox())
    conditioning = TestCogVideoX.conditioning(negative=False)
    clip = Clip(np.zeros((9, 80, 112, 3), np.uint8), fps=8)
    with pytest.raises(InvalidInputError) as caught:
        run_clip(backbone, clip, Selection([0], [0], ("uncond",)), print, conditioning=conditioning)
    assert str(caught.value) == (
        "branch 'uncond' was asked for, but the conditioning has prompt_embeds without negative_prompt_embeds. Add "
        "negative_prompt_embeds (and what else the pipeline takes with it)."
    )


def test_sizes_that_do_not_fit_name_what_does() -> None:
    backbone = load_backbone(tiny.cogvideox(), device="cpu")
    with pytest.raises(InvalidInputError) as caught:
        backbone.layout(90, 112, 12)
    assert str(caught.value) == (
        "CogVideoXPipeline does not take 90 x 112 px and 12 images (height x width): heights must be multiples of "
        "16 px, widths of 16 px, with 1 + 8 n images. The nearest size that fits is 96 x 112 px and 9 images; its "
        "default is 80 x 112 px and 9 images."
    )
    assert backbone.nearest_size(1, 1, 1) == (16, 16, 1)


def test_repr() -> None:
    assert repr(load_backbone(tiny.cogvideox())) == (
        "CogVideoX('CogVideoXPipeline': 3 layers of 2 heads x 16 channels, 80 x 112 px and 9 images, float32 on cpu)"
    )
