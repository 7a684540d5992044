"""Cosmos Predict 2.5 from text and from a clip to continue."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_cosmos as cosmos
import tiny_pipelines as tiny
import torch
from contract import STEPS, FamilyContract
from diffusers import Cosmos2_5_PredictBasePipeline, UniPCMultistepScheduler
from torch import Tensor

from probe import Backbone

# diffusers' scheduler hands a tensor to NumPy in a way that NumPy 2 warns of
NUMPY = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def predict25() -> Any:
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_karras_sigmas=True, use_flow_sigmas=True, sigma_max=200.0, sigma_min=0.01
    )
    transformer = cosmos.transformer(16, in_channels=17, extra_pos_embed_type=None)
    checker = cosmos.Unchecked()
    return Cosmos2_5_PredictBasePipeline(None, None, transformer, tiny.wan_vae(), scheduler, safety_checker=checker)


@NUMPY
class TestCosmos25(FamilyContract):
    layer_names = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
    channels = 16
    text_counts = (0, 0, 0)

    @classmethod
    def make_pipeline(cls) -> Any:
        return predict25()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return cosmos.embeddings(prompts, negative=negative)


@NUMPY
class TestCosmos25FromAClip(TestCosmos25):
    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return {**super().conditioning(prompts, negative=negative), "video": [cosmos.IMAGE] * 5}

    def test_a_batch_of_prompts_gives_a_capture_each(self, backbone: Backbone) -> None:  # type: ignore[override]
        """One clip is gone on from at a time, as in the pipeline."""

    def make_noise(self, backbone: Backbone, *, batch: int = 1) -> Tensor:
        """Noise after the clip, as the pipeline itself shows it."""
        noise, shown = super().make_noise(backbone, batch=batch), []
        hook = backbone.pipeline.transformer.register_forward_pre_hook(
            lambda module, args, call: shown.append(call["hidden_states"]), with_kwargs=True
        )
        self.sample(backbone, steps=STEPS)
        hook.remove()
        noise[:, :, :2] = shown[0][:, :, :2]
        return noise

    def test_held_frames_are_told_that_they_are_clean(self, backbone: Backbone) -> None:
        call = self.forward(backbone)._calls["cond"][1]
        told = backbone.timestep_of_call(call, 0.5)
        assert torch.allclose(told[0, 0, :, 0, 0], torch.tensor([0.0001, 0.0001, 0.5]))
