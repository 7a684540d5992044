"""Wan 2.1, the two transformers of Wan 2.2 14B and the 16-pixel cells of its TI2V model."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_pipelines as tiny
import torch
from full_contract import BackboneContract

from probe import Capture, load_backbone, run_clip, run_prompt
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.selection import Selection


class TestWan(BackboneContract):
    layer_names = ("blocks.0.attn1", "blocks.1.attn1")
    channels = 12
    text_counts = (0, 0, 0)

    @classmethod
    def make_pipeline(cls) -> Any:
        return tiny.wan()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(13, 32, n) for n in prompts])}
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(13, 32, 9).expand(len(prompts), -1, -1)
        return chosen


def test_two_transformers_share_the_layer_numbers_and_captures_say_which_ran() -> None:
    pipeline = tiny.wan(transformer_2=tiny.wan_transformer(8), boundary_ratio=0.6)
    backbone = load_backbone(pipeline)
    assert [layer.name for layer in backbone.layers] == ["blocks.0.attn1", "blocks.1.attn1"]
    found: list[Capture] = []
    conditioning = TestWan.conditioning()
    options: dict[str, Any] = {"steps": 4, "conditioning": conditioning}
    run_prompt(backbone, None, Selection("all", [1]), found.append, want_clip=False, **options, **tiny.SIZE)
    names = [capture.layer_name for capture in found]
    assert names == [("" if capture.timestep >= 600 else "transformer_2.") + "blocks.1.attn1" for capture in found]
    assert names[0] != names[-1]

    clip = Clip(torch.zeros(9, 80, 112, 3, dtype=torch.uint8).numpy(), fps=8)
    replayed: list[Capture] = []
    run_clip(backbone, clip, Selection("all", [1]), replayed.append, **options)
    assert [capture.layer_name for capture in replayed] == names


def test_two_transformers_of_different_depth_are_refused() -> None:
    short = tiny.wan_transformer(8)
    del short.blocks[1]
    with pytest.raises(UnsupportedBackboneError) as caught:
        load_backbone(tiny.wan(transformer_2=short, boundary_ratio=0.6))
    assert str(caught.value) == (
        "WanPipeline has two transformers of 2 and 1 layers, so a layer number would mean different things at "
        "different steps. Only two transformers of the same depth can be probed."
    )


def test_cells_follow_the_vaes_stride() -> None:
    pipeline = tiny.wan()
    pipeline.vae_scale_factor_spatial = 16
    layout = load_backbone(pipeline).layout(160, 224, 9)
    assert (layout.height, layout.width, layout.cell_size) == (5, 7, (32.0, 32.0))


def test_default_size_is_the_pipelines() -> None:
    assert str(load_backbone(tiny.wan()).default_size) == "480 x 832 px and 81 images"


def test_cells_beyond_the_rotary_positions_are_refused_in_words() -> None:
    backbone = load_backbone(tiny.wan())
    with pytest.raises(InvalidInputError) as caught:
        backbone.layout(480, 832, 9)
    assert str(caught.value) == (
        "WanPipeline does not take 480 x 832 px and 9 images: its rotary positions (rope_max_seq_len) end at 32 frames "
        "and 32 x 32 cells; these are 3 frames of 30 x 52 cells. Pass a size of at most 512 x 512 px."
    )
    assert backbone.layout(512, 512, 9).width == 32


def test_a_guided_run_without_a_text_encoder_needs_a_negative_prompt_too() -> None:
    backbone = load_backbone(tiny.wan())
    conditioning = TestWan.conditioning(negative=False)
    with pytest.raises(InvalidInputError) as caught:
        backbone.generate(None, steps=1, conditioning=conditioning, **tiny.SIZE)
    assert str(caught.value) == (
        "WanPipeline has no text encoder, so it cannot read the empty negative prompt of a guided run. Add "
        "negative_prompt_embeds to the conditioning, or pass guidance_scale=1."
    )
