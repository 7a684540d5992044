"""Allegro: a VAE of tiles, four images in every latent frame, batched guidance."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import AllegroPipeline, AllegroTransformer3DModel, AutoencoderKLAllegro, DDIMScheduler

from analyses.tracking.options import TrackingOptions
from analyses.tracking.track import track_points
from probe import Backbone, load_backbone
from store.clips.clip import Clip
from store.errors import InvalidInputError


def allegro() -> AllegroPipeline:
    vae = AutoencoderKLAllegro(
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_downsample_blocks=(True, True, False, False),
        temporal_upsample_blocks=(False, True, True, False),
    )
    tiny.randomise(vae, 1)
    # tiles of 8 images of 64 x 64 px, that overlap as those of the released VAE do
    vae.kernel, vae.stride = (8, 64, 64), (4, 32, 32)
    transformer = AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        cross_attention_dim=24,
        caption_channels=32,
        sample_height=8,
        sample_width=12,
        sample_frames=3,
    )
    tiny.randomise(transformer, 2)
    scheduler = DDIMScheduler(prediction_type="epsilon", timestep_spacing="trailing")
    return AllegroPipeline(None, None, vae.eval(), transformer.eval(), scheduler)


class TestAllegro(FamilyContract):
    layer_names = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
    size: ClassVar[dict[str, int]] = {"height": 64, "width": 96, "images": 12}
    grid = (3, 4, 6)
    spans: ClassVar[list[range]] = [range(4), range(4, 8), range(8, 12)]
    channels = 12
    text_counts = (0, 0, 0)
    guided: ClassVar[dict[str, Any]] = {"guidance_scale": 4.0, "negative_prompt": None}
    unguided: ClassVar[dict[str, Any]] = {"guidance_scale": 1.0, "negative_prompt": None}

    @classmethod
    def make_pipeline(cls) -> Any:
        pipeline = allegro()
        pipeline.vae.enable_tiling()  # as its users have to
        return pipeline

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        mask = torch.ones(len(prompts), 7)
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(7, 32, n) for n in prompts]), "prompt_attention_mask": mask}
        if negative:
            embeds = tiny.embeds(7, 32, 9).expand(len(prompts), -1, -1)
            chosen |= {"negative_prompt_embeds": embeds, "negative_prompt_attention_mask": mask}
        return chosen


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(allegro())


def test_its_default_size_is_that_of_the_configuration(backbone: Backbone) -> None:
    assert str(backbone.default_size) == "64 x 96 px and 12 images"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((64, 96, 13), r"8 \+ 4 n images"),
        ((64, 80, 12), r"widths of 64 \+ 32 n px"),
        ((48, 96, 12), r"heights of 64 \+ 32 n px"),
    ],
)
def test_sizes_that_tiles_do_not_cover_are_refused(
    backbone: Backbone, size: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        backbone.check_size(*size)


def test_tiles_are_on_only_while_the_vae_works(backbone: Backbone) -> None:
    backbone.decode(torch.zeros(1, 4, 3, 8, 12))
    assert not backbone.pipeline.vae.use_tiling


def test_points_are_tracked_in_clips_that_its_vae_encodes_whole(backbone: Backbone) -> None:
    """It takes 8 + 4 n images, so an image alone has no latents."""
    images = np.random.default_rng(0).integers(0, 255, (12, 64, 96, 3), np.uint8)
    given = {"layer": 1, "step": -1, "steps": 2, "size": (64, 96)}
    text = {**TestAllegro.conditioning(negative=False), "guidance_scale": 1.0}
    follow = lambda **options: track_points(  # noqa: E731
        Clip(images, fps=8), [[0, 20.0, 20.0]], backbone, conditioning=text, options=TrackingOptions(**options), **given
    )
    assert np.isfinite(follow(encode="clip").tracks).all()
    with pytest.raises(InvalidInputError, match=r"an image alone cannot be encoded: .* with 8 \+ 4 n images"):
        follow()
