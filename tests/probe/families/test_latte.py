"""Latte: attention within frames and along the frames of cells, a VAE of images, batched guidance."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline, LatteTransformer3DModel
from torch import Tensor

import generators as dg
from generators.adapters.lora import LoRA
from probe import Backbone, Capture, ForwardPass, Probe, load_backbone, run_states
from probe.mini.text import new_text_encoder, new_tokenizer
from probe.run.layers_of_clip import kept_layers, layers_of_clip
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.selection import Selection

SPATIAL, TEMPORAL = "transformer_blocks.{}.attn1", "temporal_transformer_blocks.{}.attn1"


def latte(**parts: Any) -> LattePipeline:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        sample_size=32,
    )
    tiny.randomise(vae, 1)
    transformer = LatteTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=24,
        caption_channels=parts.pop("caption_channels", 32),
        sample_size=8,
        patch_size=2,
        video_length=3,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    tiny.randomise(transformer, 2)
    scheduler = DDIMScheduler(beta_schedule="linear", clip_sample=False)
    chosen = {"tokenizer": None, "text_encoder": None, **parts}
    return LattePipeline(vae=vae.eval(), transformer=transformer.eval(), scheduler=scheduler, **chosen)


class TestLatte(FamilyContract):
    layer_names = (SPATIAL.format(0), TEMPORAL.format(0), SPATIAL.format(1), TEMPORAL.format(1))
    size: ClassVar[dict[str, int]] = {"height": 80, "width": 112, "images": 3}
    spans: ClassVar[list[range]] = [range(1), range(1, 2), range(2, 3)]
    channels = 12
    text_counts = (0, 0, 0)
    guided: ClassVar[dict[str, Any]] = {"guidance_scale": 4.0, "negative_prompt": None}
    unguided: ClassVar[dict[str, Any]] = {"guidance_scale": 1.0, "negative_prompt": None}

    @classmethod
    def make_pipeline(cls) -> Any:
        return latte()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(7, 32, n) for n in prompts])}
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(7, 32, 9).expand(len(prompts), -1, -1)
        return chosen

    def _own(self, backbone: Backbone, tensors: list[Any], capture: Capture, guided: bool) -> tuple[Tensor, Tensor]:
        """Values (token, head, channel) and output (token, channel) of a clip, put together frame by frame here."""
        call = next(call for call in tensors if call)
        clips, index = 1 + guided, int(guided and capture.branch == "cond")
        frames, cells = self.grid[0], self.grid[1] * self.grid[2]
        found = []
        for tensor in (call["values"][0], call["output"]):
            if capture.layer_name.startswith("temporal"):
                tensor = torch.stack([tensor[index * cells + cell] for cell in range(cells)], dim=1)
            else:
                tensor = torch.stack([tensor[index * frames + frame] for frame in range(frames)])
            assert tensor.shape == (frames, cells, 24)
            assert len(call["output"]) == clips * (cells if capture.layer_name.startswith("temporal") else frames)
            found.append(tensor.flatten(0, 1))
        return found[0].unflatten(-1, (self.heads, self.channels)), found[1]

    @classmethod
    def attended(cls, capture: Capture, values: Tensor) -> Tensor:
        """Output for attention within a frame or along the frames of a cell, by a mask over all pairs of tokens."""
        frames, cells = cls.grid[0], cls.grid[1] * cls.grid[2]
        frame, cell = (
            part.flatten() for part in torch.meshgrid(torch.arange(frames), torch.arange(cells), indexing="ij")
        )
        place = cell if capture.layer_name.startswith("temporal") else frame
        query, key = (tensor.flatten(1, 3) for tensor in (capture.query, capture.key))
        products = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
        weights = products.masked_fill(place[:, None] != place[None], -torch.inf).softmax(-1)
        return (weights @ values.transpose(0, 1)).transpose(0, 1).flatten(1)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(latte())


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(np.random.default_rng(3).integers(0, 256, (3, 80, 112, 3), dtype=np.uint8), fps=8)


def test_sizes_are_those_of_the_configuration(backbone: Backbone) -> None:
    assert str(backbone.default_size) == "64 x 64 px and 3 images"
    assert [backbone.nearest_images(images) for images in (1, 2, 3, 9)] == [1, 1, 3, 3]
    with pytest.raises(InvalidInputError, match="with 1 or 3 images"):
        backbone.check_size(80, 112, 2)


def test_an_image_alone_is_a_clip_of_one_frame(backbone: Backbone, clip: Clip) -> None:
    conditioning = TestLatte.conditioning()
    options = {"steps": 4, "prompt": None, "conditioning": conditioning}
    image = clip.window(0, 1)
    found = layers_of_clip(backbone, image, [0, 1], **options).captures
    assert {tuple(capture.query.shape) for capture in found.values()} == {(2, 1, 5, 7, 12)}


def test_blocks_and_attention_of_a_pass_are_those_of_clips(backbone: Backbone, clip: Clip) -> None:
    size = {"height": 80, "width": 112, "images": 3}
    forward = ForwardPass(backbone, None, steps=4, conditioning=TestLatte.conditioning(), **size)
    seen: list[Tensor] = []
    hooks = [
        blocks[1].register_forward_hook(lambda module, args, output: seen.append(output))
        for blocks in (
            backbone.pipeline.transformer.transformer_blocks,
            backbone.pipeline.transformer.temporal_transformer_blocks,
        )
    ]
    options: dict[str, Any] = {"steps": 4, "keep": ("features", "attention", "blocks")}
    with torch.no_grad(), kept_layers(backbone, backbone.denoisers[0], [2, 3], 1, **options) as found:
        for _ in run_states(forward, backbone.encode(clip), [1]):
            pass
    for hook in hooks:
        hook.remove()
    assert torch.equal(found.blocks[2].flatten(1, 2), seen[0])
    assert torch.equal(found.blocks[3].flatten(1, 2), seen[1].transpose(0, 1))
    for layer in (2, 3):
        capture, call = found.captures[layer], found.attention[layer]
        assert torch.equal(call.key[0].unflatten(1, (3, 5, 7)), capture.key)
        assert torch.equal(call.output[0].transpose(0, 1).flatten(1), capture.features.flatten(0, 2))


def test_predictions_are_put_back_with_their_variance(backbone: Backbone) -> None:
    call, output = {"hidden_states": torch.zeros(1, 4, 3, 8, 8)}, (torch.randn(1, 8, 3, 8, 8),)
    (found,) = backbone.output_with(output, torch.ones(1, 4, 3, 8, 8), call)
    assert torch.equal(found[:, :4], torch.ones(1, 4, 3, 8, 8))
    assert torch.equal(found[:, 4:], output[0][:, 4:])


def test_a_batch_that_does_not_fit_is_refused(backbone: Backbone) -> None:
    layout = backbone.layout(80, 112, 3)
    for name, shape in ((SPATIAL, (4, 2, 35, 12)), (SPATIAL, (3, 2, 34, 12)), (TEMPORAL, (35, 2, 2, 12))):
        with pytest.raises(UnsupportedBackboneError, match="rearranges the tokens"):
            backbone.gather_tokens(torch.zeros(shape), layout, name.format(0))


# What needs attention over all tokens ---------------------------------------------------------------------------------


def test_edits_of_the_attention_are_refused(backbone: Backbone) -> None:
    options = {"height": 80, "width": 112, "images": 3, "conditioning": TestLatte.conditioning()}
    with pytest.raises(UnsupportedBackboneError, match=r"edits of the attention need .*factorised"):
        dg.sample(backbone, None, dg.CrossAttentionGuidance(layers=[0]), steps=2, guidance_scale=1.0, **options)


def test_adapters_are_refused(backbone: Backbone) -> None:
    with pytest.raises(UnsupportedBackboneError, match=r"adapters need .*factorised"):
        LoRA(backbone, rank=2)


# Conditioning ---------------------------------------------------------------------------------------------------------


def test_a_run_without_its_temporal_layers_is_refused(backbone: Backbone) -> None:
    conditioning = {**TestLatte.conditioning(), "enable_temporal_attentions": False}
    with pytest.raises(InvalidInputError, match="leaves the temporal layers"):
        backbone.generate(None, steps=2, conditioning=conditioning)


def test_both_branches_of_a_text_are_replayed_as_the_pipeline_reads_them() -> None:
    """The pipeline cuts the negative prompt to the length of the prompt."""
    tokenizer = new_tokenizer(20)
    encoder = new_text_encoder(len(tokenizer), 32, 20)
    pipeline = latte(tokenizer=tokenizer, text_encoder=encoder)
    backbone = load_backbone(pipeline)
    prompt, options = "a red disc moves right", {"clean_caption": False}
    size = {"height": 80, "width": 112, "images": 3}
    calls: list[Tensor] = []
    keep = lambda module, args, kwargs: calls.append(kwargs["encoder_hidden_states"])  # noqa: E731
    hook = pipeline.transformer.register_forward_pre_hook(keep, with_kwargs=True)
    found: list[Capture] = []
    with Probe(backbone, Selection([0], [0], ("cond", "uncond")), found.append):
        backbone.generate(prompt, steps=1, guidance_scale=4.0, conditioning=options, **size)
    hook.remove()
    branches = ("cond", "uncond")
    forward = ForwardPass(backbone, prompt, steps=1, branches=branches, conditioning=options, **size)
    given = {branch: forward._calls[branch][1]["encoder_hidden_states"] for branch in branches}
    assert {capture.branch for capture in found} == set(branches)
    assert torch.equal(calls[0], torch.cat([given["uncond"], given["cond"]]))
