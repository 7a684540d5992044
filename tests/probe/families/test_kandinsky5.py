"""Kandinsky 5 from text and from an image: channels last, heads that the module does not state, sparse attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Kandinsky5I2VPipeline,
    Kandinsky5T2VPipeline,
    Kandinsky5Transformer3DModel,
)
from diffusers.models.attention_dispatch import attention_backend
from PIL import Image
from torch import Tensor

from probe import Backbone, Capture, Probe, load_backbone
from probe.backbones.geometry import Size
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.selection import Selection


def kandinsky5(kind: type[Any] = Kandinsky5T2VPipeline, **overrides: Any) -> Any:
    config: dict[str, Any] = {
        "in_visual_dim": 4,
        "out_visual_dim": 4,
        "in_text_dim": 32,
        "in_text_dim2": 8,
        "time_dim": 16,
        "patch_size": (1, 2, 2),
        "model_dim": 24,
        "ff_dim": 24,
        "num_text_blocks": 1,
        "num_visual_blocks": 2,
        "axes_dims": (4, 4, 4),
        "visual_cond": True,
        **overrides,
    }
    transformer = Kandinsky5Transformer3DModel(**config)
    tiny.randomise(transformer, 13)
    parts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    return kind(transformer=transformer.eval(), vae=tiny.hunyuan_vae(), scheduler=scheduler, **parts)


class TestKandinsky5(FamilyContract):
    layer_names = ("visual_transformer_blocks.0.self_attention", "visual_transformer_blocks.1.self_attention")
    channels = 12
    text_counts = (0, 0, 0)
    batch_tolerance = 0.02  # rotary turns are rounded to bfloat16, whatever the data type of the model

    @classmethod
    def make_pipeline(cls) -> Any:
        return kandinsky5()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen = _text(prompts, "")
        return {**chosen, **_text((9,) * len(prompts), "negative_")} if negative else chosen

    @classmethod
    def packed(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        """Channels last, then an empty image and a mask that says so."""
        latents = latents.movedim(1, -1)
        return torch.cat([latents, torch.zeros_like(latents), torch.zeros_like(latents[..., :1])], dim=-1)

    @classmethod
    def unpacked(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        return latents.movedim(-1, 1)


def _text(prompts: tuple[int, ...], prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}prompt_embeds_qwen": torch.cat([tiny.embeds(7, 32, n) for n in prompts]),
        f"{prefix}prompt_embeds_clip": torch.cat([tiny.embeds(1, 8, n)[0] for n in prompts]),
        f"{prefix}prompt_cu_seqlens": torch.arange(len(prompts) + 1, dtype=torch.int32) * 7,
    }


class TestKandinsky5ImageToVideo(TestKandinsky5):
    size: ClassVar[dict[str, int]] = {"height": 32, "width": 48, "images": 17}
    grid = (5, 2, 3)
    spans: ClassVar[list[range]] = [range(1), *(range(1 + 4 * n, 5 + 4 * n) for n in range(4))]

    @classmethod
    def make_pipeline(cls) -> Any:
        return kandinsky5(Kandinsky5I2VPipeline)

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return {**super().conditioning(prompts, negative=negative), "image": Image.new("RGB", (48, 32), "teal")}

    @classmethod
    def packed(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        packed = super().packed(backbone, latents)
        packed[:, :1, ..., -1] = 1.0
        return packed

    def make_noise(self, backbone: Backbone, *, batch: int = 1) -> Tensor:
        """Noise after the image, as the pipeline itself makes it where no latents are given."""
        noise, shown = super().make_noise(backbone, batch=batch), []
        hook = backbone.pipeline.transformer.register_forward_pre_hook(
            lambda module, args, call: shown.append(backbone.latents_of_call(module, call)), with_kwargs=True
        )
        self.sample(backbone, steps=1)
        hook.remove()
        noise[:, :, :1] = shown[0][:, :, :1]
        return noise

    def test_too_few_images_are_refused(self, backbone: Backbone) -> None:
        with pytest.raises(InvalidInputError, match=r"does not take 13 images.* Pass at least 17 images"):
            backbone.layout(32, 48, 13)


SPARSE = {
    "attention_type": "nabla",
    "attention_wT": 3,
    "attention_wH": 3,
    "attention_wW": 3,
    "attention_P": 1.0,
    "attention_add_sta": True,
    "attention_method": "topcdf",
}


@pytest.fixture
def backend() -> Iterator[None]:
    """Takes back what ``set_attention_backend`` changes for the models of all other tests."""
    with attention_backend("native"):
        yield


@pytest.mark.usefixtures("backend")
@pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
def test_under_sparse_attention_tokens_by_squares_are_put_in_order() -> None:
    size = Size(128, 256, 5)
    seen = []
    for overrides in ({}, SPARSE):
        backbone = load_backbone(kandinsky5(num_visual_blocks=1, **overrides))
        found: list[Capture] = []
        if overrides:
            backbone.pipeline.transformer.set_attention_backend("flex")
            assert backbone.pixel_steps == (128, 128)
        with Probe(backbone, Selection([0], [0]), found.append, features=True):
            given = {**TestKandinsky5.conditioning(), "guidance_scale": 1.0}
            backbone.generate(None, steps=1, conditioning=given, **size._asdict())
        seen.append((backbone, found[0]))
    (_, dense), (sparse, capture) = seen
    assert capture.query.shape == (2, 2, 8, 16, 12)
    assert torch.equal(dense.query, capture.query)
    assert torch.equal(dense.key, capture.key)
    assert torch.allclose(dense.features, capture.features, atol=1e-5), "at P = 1 every square is attended"
    with pytest.raises(UnsupportedBackboneError, match=r"sparse \(NABLA\)"):
        sparse.replaced_positions(sparse.denoisers[0], {"sparse_params": {"to_fractal": True}}, None)
