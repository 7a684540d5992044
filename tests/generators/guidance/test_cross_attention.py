"""Cross-attention guidance against brute force with the whole attention matrix, and as a guider of diffusers."""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

import pytest
import tiny_pipelines as tiny
import torch
from diffusers import HunyuanVideo15Transformer3DModel, LTXVideoTransformer3DModel
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.modular_pipelines.hunyuan_video1_5.denoise import HunyuanVideo15LoopDenoiser
from diffusers.modular_pipelines.ltx.denoise import LTXLoopDenoiser
from diffusers.modular_pipelines.modular_pipeline import BlockState
from diffusers.modular_pipelines.wan.modular_blocks_wan import WanCoreDenoiseStep
from guided import Doing, backbone_of, check_same_state, latents_of, state_of
from tiny_families import FAMILIES, Family
from torch import Tensor

from analyses.selection.guided import guided_layers
from generators.guidance.cross_attention import CrossAttentionGuidance, within_frames
from generators.guidance.diffusers_guider import CrossAttentionGuider
from generators.sampling.sample import sample
from generators.sampling.step import Step
from probe import Backbone, load_backbone
from probe.attention.edit import Attend, Attention
from store.errors import InvalidInputError, UnknownLayerError, UnsupportedBackboneError
from store.layout import TokenLayout


def brute_force(renormalise: bool) -> Any:
    """Softmax over everything, then zeros between the frames of video tokens, one query at a time."""

    def editor(attention: Attention, attend: Attend) -> Tensor:
        logits = attention.query @ attention.key.transpose(2, 3) / math.sqrt(attention.query.shape[-1])
        if attention.mask is not None:
            logits = torch.where(attention.mask, logits, -torch.inf)
        weights = torch.nan_to_num(logits.softmax(-1))
        layout, tokens = attention.layout, attention.query.shape[2]
        frame_of: list[int | None] = [None] * tokens
        for number in range(layout.video_tokens):
            frame_of[attention.video.start + number] = number // (layout.height * layout.width)
        frames = torch.tensor([-1 if frame is None else frame for frame in frame_of])
        other = (frames[:, None] != frames) & (frames[:, None] >= 0) & (frames >= 0)
        weights = weights.masked_fill(other, 0.0)
        if renormalise:
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-30)
        return weights @ attention.value

    return editor


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def family(name: str) -> Family:
    return FAMILIES[name]


@pytest.fixture
def backbone(name: str) -> Backbone:
    return backbone_of(name)


@pytest.mark.parametrize("renormalise", [False, True])
def test_perturbed_predictions_are_those_of_the_full_matrix(
    family: Family, backbone: Backbone, renormalise: bool
) -> None:
    found: list[tuple[Tensor, ...]] = []
    attended: list[int] = []

    def compare(step: Step, prediction: Tensor) -> None:
        def counting(attention: Attention, attend: Attend) -> Tensor:
            attended.append(attention.layer)
            return within_frames(renormalise, chunk_bytes=4000)(attention, attend)

        editors = (brute_force(renormalise), within_frames(renormalise), counting)
        found.append((prediction, *(step.predict(editors=dict.fromkeys((0, 1), editor)) for editor in editors)))

    latents_of(family, backbone, Doing(delta=compare), guided=True, steps=1)
    prediction, expected, whole, chunked = found[0]
    assert attended == [0, 1]
    assert torch.allclose(whole, expected, atol=1e-5)
    assert torch.allclose(chunked, expected, atol=1e-5)
    assert not torch.allclose(prediction, expected, atol=1e-3)


@pytest.mark.parametrize("guided", [False, True])
def test_guided_prediction_is_as_defined(family: Family, backbone: Backbone, guided: bool) -> None:
    """uncond + w (cond - uncond) + s (cond - perturbed), seen where the scheduler is given it."""
    perturbed: list[tuple[Tensor, Tensor]] = []
    given: list[Tensor] = []

    def keep(step: Step, prediction: Tensor) -> None:
        perturbed.append((prediction, step.predict(editors={1: brute_force(False)})))

    for strategy in (Doing(delta=keep), CrossAttentionGuidance([-1] if len(backbone.layers) == 2 else [1], scale=0.7)):
        with _model_outputs(backbone, given):
            latents_of(family, backbone, strategy, guided=guided, steps=1)
    cond, changed = perturbed[0]
    assert torch.allclose(given[1], given[0] + 0.7 * (cond - changed), atol=2e-5)
    assert not torch.allclose(given[1], given[0], atol=1e-3)


def test_steps_layers_and_presets() -> None:
    family, backbone = FAMILIES["cogvideox rotary"], backbone_of("cogvideox rotary")
    before = state_of(backbone)
    run = lambda *strategies, **options: latents_of(family, backbone, strategies, steps=2, **options)  # noqa: E731
    plain, exact = run(), run(CrossAttentionGuidance([0]))
    assert torch.equal(run(CrossAttentionGuidance([0], scale=0.0)), plain)
    assert torch.equal(run(CrossAttentionGuidance([0], steps=[0, -1])), exact)
    assert not torch.allclose(run(CrossAttentionGuidance([0], steps=range(1))), exact, atol=1e-4)
    renormalised = run(CrossAttentionGuidance([0], preset="renormalised"))
    assert not torch.allclose(renormalised, exact, atol=1e-4)
    assert torch.equal(run(CrossAttentionGuidance([0], preset="difftrack")), renormalised)
    published = run(CrossAttentionGuidance([0], preset="difftrack"), guided=True)
    assert torch.equal(published, run(CrossAttentionGuidance([0]), guided=True))
    check_same_state(before, state_of(backbone))


def test_weights_are_left_as_they_were_in_the_softmax_over_all_tokens() -> None:
    """Known truth: equal keys, so every token has the same weight, and values that name their token."""
    layout = TokenLayout(3, 1, 2, 16, 32, 9)
    flat, value = torch.zeros(1, 1, 8, 4), torch.eye(8)[None, None]
    attention = Attention(0, flat, flat, value, None, 0.5, layout, slice(2, 8))
    attend: Attend = lambda seen: value.mean(2, keepdim=True).expand(1, 1, seen.query.shape[2], 8)  # noqa: E731
    kept = within_frames()(attention, attend)[0, 0]
    assert torch.allclose(kept[:2], torch.full((2, 8), 1 / 8)), "text tokens attend to everything"
    expected = torch.zeros(6, 8)
    expected[:, :2] = 1 / 8
    for frame in range(3):
        expected[2 * frame : 2 * frame + 2, 2 + 2 * frame : 4 + 2 * frame] = 1 / 8
    assert torch.allclose(kept[2:], expected)
    assert torch.allclose(within_frames(renormalise=True)(attention, attend)[0, 0, 2:], 2 * expected)


def test_layers_default_to_what_selection_says() -> None:
    assert guided_layers(load_backbone("mini")) == (5,)
    for published in ("THUDM/CogVideoX-2b", "THUDM/CogVideoX-2b/"):
        backbone = load_backbone(tiny.cogvideox())
        backbone.name = published
        assert guided_layers(backbone) == (13, 17, 21)
    with pytest.raises(UnknownLayerError, match=r"layer 13 does not exist. The backbone has layers 0 to 2."):
        latents_of(FAMILIES["cogvideox rotary"], backbone, CrossAttentionGuidance(), steps=1)


def test_bad_input_is_refused_before_the_model_runs() -> None:
    family, backbone = FAMILIES["wan"], backbone_of("wan")
    with pytest.raises(InvalidInputError) as caught:
        sample(backbone, None, CrossAttentionGuidance(), **family.options())
    assert str(caught.value) == (
        "no layers are known to guide WanPipeline by. Pass layers=, or find them: select_layers(sweep(backbone, clips, "
        "Selection(steps=[-1], layers='all'))). Published: THUDM/CogVideoX-2b, THUDM/CogVideoX-5b, "
        "THUDM/CogVideoX-5b-I2V, hunyuanvideo-community/HunyuanVideo."
    )
    with pytest.raises(UnknownLayerError, match="layer 2 does not exist"):
        sample(backbone, None, CrossAttentionGuidance([2]), **family.options())
    with pytest.raises(UnknownLayerError, match="step 3 does not exist"):
        sample(backbone, None, CrossAttentionGuidance([0], steps=[3]), **family.options())
    with pytest.raises(InvalidInputError) as caught:
        CrossAttentionGuidance([0], preset="published")  # type: ignore[arg-type]
    assert str(caught.value) == ("unknown preset 'published'. Known: 'exact', 'difftrack', 'renormalised'.")
    with pytest.raises(InvalidInputError, match="scale must be a number; got nan"):
        CrossAttentionGuidance([0], scale=math.nan)


# As a guider of diffusers --------------------------------------------------------------------------------------------


def modular_wan(guider: Any) -> Tensor:
    parts = tiny.wan()
    pipeline = WanCoreDenoiseStep().init_pipeline()
    pipeline.update_components(transformer=parts.transformer, scheduler=parts.scheduler, guider=guider)
    pipeline.set_progress_bar_config(disable=True)
    family = FAMILIES["wan"]
    return pipeline(
        **family.conditioning,
        height=80,
        width=112,
        num_frames=9,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(5),
        output="latents",
    )


@pytest.mark.parametrize("renormalise", [False, True])
def test_a_modular_pipeline_gives_what_our_driver_does(renormalise: bool) -> None:
    family, backbone = FAMILIES["wan"], backbone_of("wan")
    preset: Any = "renormalised" if renormalise else "exact"
    strategy = CrossAttentionGuidance([0, 1], scale=0.7, steps=[0, 1], preset=preset)
    expected = latents_of(family, backbone, strategy, guided=True)
    guider = CrossAttentionGuider(
        [0, 1], guidance_scale=4.0, cross_attention_scale=0.7, renormalise=renormalise, stop=0.67
    )
    assert torch.allclose(modular_wan(guider), expected, atol=1e-4)


def test_a_guider_without_scale_is_classifier_free_guidance() -> None:
    plain = modular_wan(ClassifierFreeGuidance(guidance_scale=4.0))
    assert torch.allclose(modular_wan(CrossAttentionGuider([0], 4.0, cross_attention_scale=0.0)), plain, atol=1e-5)
    alone = modular_wan(ClassifierFreeGuidance(guidance_scale=1.0))
    assert torch.allclose(modular_wan(CrossAttentionGuider([0], 1.0, cross_attention_scale=0.0)), alone, atol=1e-5)


def _ltx() -> tuple[Any, Any, dict[str, Any], BlockState]:
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=16,
    )
    tiny.randomise(transformer, 21)
    state = BlockState(
        latent_model_input=tiny.embeds(3 * 5 * 7, 8, 1),
        prompt_embeds=tiny.embeds(6, 16, 0),
        negative_prompt_embeds=tiny.embeds(6, 16, 9),
        prompt_attention_mask=torch.ones(1, 6),
        negative_prompt_attention_mask=torch.ones(1, 6),
        num_frames=17,
        height=160,
        width=224,
        rope_interpolation_scale=None,
        attention_kwargs=None,
        num_inference_steps=4,
        dtype=torch.float32,
    )
    sizes = {"vae_temporal_compression_ratio": 8, "vae_spatial_compression_ratio": 32}
    return LTXLoopDenoiser(), transformer.eval(), sizes, state


def _hunyuan_1_5() -> tuple[Any, Any, dict[str, Any], BlockState]:
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=2,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=12,
        image_embed_dim=14,
        rope_axes_dim=(2, 4, 4),
        patch_size=1,
    )
    tiny.randomise(transformer, 22)
    state = BlockState(
        latent_model_input=tiny.embeds(3 * 4, 5 * 7, 1).reshape(1, 4, 3, 5, 7),
        image_embeds=torch.zeros(1, 3, 14),
        prompt_embeds=tiny.embeds(6, 16, 0),
        negative_prompt_embeds=tiny.embeds(6, 16, 9),
        prompt_embeds_mask=torch.tensor([[1, 1, 1, 1, 0, 0]]),
        negative_prompt_embeds_mask=torch.tensor([[1, 1, 0, 0, 0, 0]]),
        prompt_embeds_2=tiny.embeds(4, 12, 2),
        negative_prompt_embeds_2=tiny.embeds(4, 12, 3),
        prompt_embeds_mask_2=torch.tensor([[1, 1, 1, 0]]),
        negative_prompt_embeds_mask_2=torch.tensor([[1, 0, 0, 0]]),
        attention_kwargs=None,
        num_inference_steps=4,
    )
    return HunyuanVideo15LoopDenoiser(), transformer.eval(), {}, state


@dataclasses.dataclass
class _Components:
    guider: Any
    transformer: Any
    vae_temporal_compression_ratio: int = 0
    vae_spatial_compression_ratio: int = 0


@pytest.mark.parametrize("make", [_ltx, _hunyuan_1_5])
def test_the_loop_of_other_modular_pipelines(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One denoising step as the modular pipeline runs it: ours, plain, and with the full attention matrix."""
    found = {}
    for kind in ("plain", "ours", "brute force"):
        denoise, transformer, sizes, state = make()
        processors = [
            block.attn1.processor if make is _ltx else block.attn.processor for block in transformer.transformer_blocks
        ]
        scale = 0.0 if kind == "plain" else 0.7
        guider = CrossAttentionGuider([0, -1], 4.0, cross_attention_scale=scale)
        if kind == "brute force":
            monkeypatch.setattr("generators.guidance.diffusers_guider.within_frames", brute_force)
        _, state = denoise(_Components(guider, transformer, **sizes), state, i=0, t=torch.tensor(700.0))
        found[kind] = state.noise_pred
        after = [
            block.attn1.processor if make is _ltx else block.attn.processor for block in transformer.transformer_blocks
        ]
        assert all(one is other for one, other in zip(processors, after, strict=True))
        assert not transformer._forward_hooks
        assert not transformer._forward_pre_hooks
    assert torch.allclose(found["ours"], found["brute force"], atol=1e-5)
    assert not torch.allclose(found["ours"], found["plain"], atol=1e-3)


def test_a_guider_leaves_nothing_behind_when_the_model_fails() -> None:
    transformer = tiny.wan_transformer()
    processors = [block.attn1.processor for block in transformer.blocks]
    guider = CrossAttentionGuider([0])
    guider.set_state(0, 3, torch.tensor(900.0))
    for _ in guider.predictions:
        guider.prepare_models(transformer)
    assert [len(transformer._forward_hooks), len(transformer._forward_pre_hooks)] == [1, 1]

    def fail(*arguments: Any) -> None:
        assert transformer.blocks[0].attn1.processor is not processors[0]
        raise RuntimeError("on purpose")

    handle = transformer.blocks[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        transformer(
            hidden_states=torch.zeros(1, 16, 3, 10, 14),
            timestep=torch.tensor([900.0]),
            encoder_hidden_states=tiny.embeds(13, 32, 0),
        )
    handle.remove()
    assert [block.attn1.processor for block in transformer.blocks] == processors
    assert not transformer._forward_hooks
    assert not transformer._forward_pre_hooks


def test_a_guider_refuses_what_it_does_not_know() -> None:
    with pytest.raises(InvalidInputError, match=r"layers is empty: name at least one layer"):
        CrossAttentionGuider([])
    guider = CrossAttentionGuider([7], guidance_scale=1.0)
    guider.set_state(0, 3, torch.tensor(900.0))
    guider.prepare_models(tiny.wan_transformer())
    with pytest.raises(UnknownLayerError, match="layer 7 does not exist"):
        guider.prepare_models(tiny.wan_transformer())
    guider.set_state(0, 3, torch.tensor(900.0))
    guider.prepare_models(tiny.wan_transformer())
    with pytest.raises(UnsupportedBackboneError) as caught:
        guider.prepare_models(tiny.cogvideox().transformer)
    assert str(caught.value) == (
        "CogVideoXTransformer3DModel cannot be guided by CrossAttentionGuider, which knows WanTransformer3DModel, "
        "LTXVideoTransformer3DModel, HunyuanVideo15Transformer3DModel. Use CrossAttentionGuidance with "
        "generators.sample for CogVideoX and HunyuanVideo pipelines."
    )


class _model_outputs:
    """What the scheduler's step is given as the model's prediction, while open."""

    def __init__(self, backbone: Backbone, found: list[Tensor]) -> None:
        self._scheduler, self._found = backbone.pipeline.scheduler, found

    def __enter__(self) -> None:
        original = type(self._scheduler).step

        def step(model_output: Tensor, *args: Any, **kwargs: Any) -> Any:
            self._found.append(model_output)
            return original(self._scheduler, model_output, *args, **kwargs)

        step.__signature__ = inspect.signature(original.__get__(self._scheduler))  # type: ignore[attr-defined]
        self._scheduler.step = step

    def __exit__(self, *exception: object) -> None:
        del self._scheduler.step
