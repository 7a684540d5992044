"""Cosmos Predict 2 from an image: a rectified flow whose sampler has noise of any size."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_cosmos as cosmos
import tiny_pipelines as tiny
import torch
from contract import STEPS, FamilyContract
from diffusers import Cosmos2VideoToWorldPipeline, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from generators.sampling.sample import GuidedSampling
from generators.sampling.step import Step
from generators.sampling.strategy import Strategy
from probe import Backbone
from probe.backbones.geometry import Size

# diffusers' scheduler hands a tensor to NumPy in a way that NumPy 2 warns of
NUMPY = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def predict2() -> Any:
    scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    transformer = cosmos.transformer(16, in_channels=17, extra_pos_embed_type=None)
    checker = cosmos.Unchecked()
    return Cosmos2VideoToWorldPipeline(None, None, transformer, tiny.wan_vae(), scheduler, safety_checker=checker)


@NUMPY
class TestCosmos2(FamilyContract):
    layer_names = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
    channels = 16
    text_counts = (0, 0, 0)

    @classmethod
    def make_pipeline(cls) -> Any:
        return predict2()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return {**cosmos.embeddings(prompts, negative=negative), "image": cosmos.IMAGE}

    @classmethod
    def packed(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        """For the transformer to be shown them: the pipeline scales twice."""
        return latents * 81 / 80

    def make_noise(self, backbone: Backbone, *, batch: int = 1) -> Tensor:
        """Noise after the image, as the pipeline itself shows it."""
        noise, shown = super().make_noise(backbone, batch=batch), []
        hook = backbone.pipeline.transformer.register_forward_pre_hook(
            lambda module, args, call: shown.append(call["hidden_states"]), with_kwargs=True
        )
        self.sample(backbone, steps=STEPS)
        hook.remove()
        noise[:, :, :1] = shown[0][:, :, :1]
        return noise

    def test_forward_noise_is_the_schedulers(self, backbone: Backbone) -> None:
        """As the transformer is shown it: clean latents with noise on top, then scaled."""
        clean, noise = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(1))
        scheduler, size = backbone.pipeline.scheduler, Size(**self.size)
        schedule = backbone.schedule(7, size)
        backbone.set_timesteps(scheduler, 7, size)
        for step in (0, 3, 6):
            sigma = scheduler.sigmas[step]
            assert torch.allclose(schedule.noised(clean, noise, step), (clean + sigma * noise) / (1 + sigma), atol=1e-6)

    def test_an_edit_is_what_the_sampler_goes_on_from(self, backbone: Backbone) -> None:
        """A step from edited latents is the flow's own: along the velocity that the model predicts for them."""
        seen: list[tuple[Tensor, Tensor]] = []

        class Shift(Strategy):
            def before(self, step: Step) -> None:
                if step.number == 1:
                    step.latents = step.latents + 0.25

        def keep(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            seen.append((backbone.latents_of_call(module, kwargs), backbone.prediction_of(output, kwargs)))

        hook = backbone.pipeline.transformer.register_forward_hook(keep, with_kwargs=True)
        given = {**self.conditioning(), **self.unguided}
        arguments = backbone.arguments(None, steps=4, conditioning=given, **self.size)
        with GuidedSampling(backbone, [Shift()], arguments):
            backbone.call_pipeline(arguments, prompt=None)
        hook.remove()
        schedule = backbone.schedule(4, Size(**self.size))
        (first, _), (edited, velocity), (after, _) = (each for each in seen[:3])
        assert torch.allclose(schedule.move(edited, velocity, 1, 2)[:, :, 1:], after[:, :, 1:], atol=1e-4)
        assert torch.equal(after[:, :, :1], first[:, :, :1]), "the frame of the image is held"
