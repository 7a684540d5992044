"""SkyReels V2 by diffusion forcing: a timestep and a scheduler for every frame, an image as a clean first frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import (
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
)
from diffusers import UniPCMultistepScheduler as Scheduler
from PIL import Image
from torch import Tensor

from generators.sampling.sample import sample
from generators.sampling.step import Step
from generators.sampling.strategy import Strategy
from probe import Backbone, Capture, Probe, load_backbone
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.selection import Selection

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 112, 3), np.uint8))


def forcing(kind: type[Any] = SkyReelsV2DiffusionForcingPipeline, **config: Any) -> Any:
    sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 32, "freq_dim": 16, "ffn_dim": 24}
    transformer = SkyReelsV2Transformer3DModel(**{**sizes, "num_layers": 2, "rope_max_seq_len": 32, **config})
    tiny.randomise(transformer, 52)
    scheduler = Scheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
    return kind(
        tokenizer=None, text_encoder=None, transformer=transformer.eval(), vae=tiny.wan_vae(), scheduler=scheduler
    )


class TestForcing(FamilyContract):
    layer_names = ("blocks.0.attn1", "blocks.1.attn1")
    channels = 12
    text_counts = (0, 0, 0)

    @classmethod
    def make_pipeline(cls) -> Any:
        return forcing()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen = {"prompt_embeds": torch.cat([tiny.embeds(13, 32, n) for n in prompts])}
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(13, 32, 9).expand(len(prompts), -1, -1)
        return chosen


class TestForcingOfAnImage(TestForcing):
    @classmethod
    def make_pipeline(cls) -> Any:
        return forcing(SkyReelsV2DiffusionForcingImageToVideoPipeline)

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return {**super().conditioning(prompts, negative=negative), "image": IMAGE}

    def make_noise(self, backbone: Backbone, *, batch: int = 1) -> Tensor:
        """With the frame of the image, which the pipeline puts first."""
        noise = super().make_noise(backbone, batch=batch)
        noise[:, :, :1] = self.sample(backbone)[:, :, :1]
        return noise

    def test_the_frame_of_the_image_is_told_that_it_is_clean(self, backbone: Backbone) -> None:
        calls: list[dict[str, Any]] = []
        hook = backbone.pipeline.transformer.register_forward_pre_hook(
            lambda module, args, call: calls.append(call), with_kwargs=True
        )
        forward = self.forward(backbone, steps=4)
        with torch.no_grad():
            forward.predict(torch.ones(1, 16, 3, 10, 14), 2)
        hook.remove()
        assert calls[-1]["timestep"].tolist() == [[0, *[int(forward.schedule.timesteps[2])] * 2]]
        assert torch.equal(calls[-1]["hidden_states"][:, :, :1], self.noise(backbone)[:, :, :1])
        assert bool((calls[-1]["hidden_states"][:, :, 1:] == 1).all())


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(forcing())


GIVEN = TestForcing.conditioning()


def test_attention_is_guided_and_latents_are_not(backbone: Backbone) -> None:
    seen: list[tuple[int, float]] = []

    class Silent(Strategy):
        def before(self, step: Step) -> None:
            seen.append((step.number, step.timestep))
            step.edit_attention(1, lambda attention, attend: 0 * attend(attention))

    class Edited(Strategy):
        def before(self, step: Step) -> None:
            step.latents = step.latents + 1

    options: dict[str, Any] = {"steps": 3, "conditioning": GIVEN, **tiny.SIZE}
    plain, silent = backbone.generate(None, **options), sample(backbone, None, Silent(), **options)
    assert not np.array_equal(plain.images, silent.images)
    assert seen == list(enumerate(backbone.timesteps(3)))
    assert np.array_equal(plain.images, sample(backbone, None, Strategy(), **options).images)
    with pytest.raises(UnsupportedBackboneError, match="latents cannot be edited between the steps of SkyReelsV2Diff"):
        sample(backbone, None, Edited(), **options)


@pytest.mark.parametrize("given", [{"ar_step": 2}, {"causal_block_size": 3}, {"overlap_history": 5}])
def test_frames_at_steps_of_their_own_are_refused(backbone: Backbone, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=f"^{next(iter(given))}=.* makes frames at steps of their own"):
        backbone.generate(None, steps=4, conditioning={**GIVEN, **given}, **tiny.SIZE)


def test_nothing_but_the_image_is_refused() -> None:
    kind = TestForcingOfAnImage
    image_to_video, size = load_backbone(kind.make_pipeline()), {**tiny.SIZE, "images": 1}
    with pytest.raises(InvalidInputError, match=r"makes no clip of 1 image: from an image, .* Pass at least 5 images"):
        image_to_video.generate(None, steps=2, conditioning=kind.conditioning(), **size)


def test_so_are_they_in_a_call_of_the_pipeline(backbone: Backbone) -> None:
    found: list[Capture] = []
    with (
        Probe(backbone, Selection("all", [0]), found.append),
        pytest.raises(UnsupportedBackboneError, match="ar_step=0"),
    ):
        backbone.pipeline(prompt=None, num_inference_steps=4, ar_step=2, height=80, width=112, num_frames=9, **GIVEN)


def test_blocks_of_frames_under_a_causal_mask_are_refused() -> None:
    with pytest.raises(UnsupportedBackboneError, match="in blocks of 3 frames under a causal mask"):
        load_backbone(forcing(num_frame_per_block=3))
