"""HunyuanVideo: double- then single-stream layers, text last and masked, distilled guidance."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import tiny_pipelines as tiny
import torch
from full_contract import BackboneContract

from probe import load_backbone
from store.errors import InvalidInputError


class TestHunyuanVideo(BackboneContract):
    layer_names = ("transformer_blocks.0.attn", "single_transformer_blocks.0.attn")
    waits_a_run = 2
    channels = 10
    text_counts = (8, 5, 6)
    guided: ClassVar[dict[str, Any]] = {"guidance_scale": 4.0, "true_cfg_scale": 3.0}
    unguided: ClassVar[dict[str, Any]] = {"guidance_scale": 4.0, "true_cfg_scale": 1.0}

    @classmethod
    def make_pipeline(cls) -> Any:
        return tiny.hunyuan_video()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return tiny.hunyuan_conditioning(cls.text_counts, prompts, negative=negative)


def test_text_tokens_are_those_of_the_prompt_without_the_template() -> None:
    pipeline = tiny.hunyuan_video()
    assert load_backbone(pipeline).layout(80, 112, 9, prompt="three short words").text_tokens == 256
    # a token a character; the pipeline drops the first 95 tokens, its template
    pipeline.tokenizer = lambda text: SimpleNamespace(input_ids=list(text))
    template = len("<|start_header_id|>")
    backbone = load_backbone(pipeline)
    short, long = (backbone.layout(80, 112, 9, prompt=prompt).text_tokens for prompt in ("", "x" * 7))
    assert long == min(256, short + 7)
    assert template < short <= 256


def test_a_negative_prompt_without_true_guidance_is_refused() -> None:
    backbone = load_backbone(tiny.hunyuan_video())
    backbone.pipeline.text_encoder = torch.nn.Identity()
    with pytest.raises(InvalidInputError) as caught:
        backbone.generate("a dog", negative_prompt="a cat", **tiny.SIZE)
    assert str(caught.value) == (
        "HunyuanVideoPipeline has its guidance distilled into the model, so a negative prompt alone has no effect. "
        "Pass conditioning={'true_cfg_scale': ...} above 1 with it, or leave it out."
    )


def test_default_size_is_the_pipelines() -> None:
    assert str(load_backbone(tiny.hunyuan_video()).default_size) == "720 x 1280 px and 129 images"
