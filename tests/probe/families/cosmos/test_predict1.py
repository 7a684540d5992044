"""Cosmos Predict 1 from text and from an image: EDM's noise levels, two scheduler steps a step, held frames."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tiny_cosmos as cosmos
import torch
from contract import STEPS, FamilyContract
from diffusers import CosmosTextToWorldPipeline, CosmosVideoToWorldPipeline, EDMEulerScheduler
from torch import Tensor

from probe import Backbone, load_backbone
from probe.backbones.geometry import Size
from store.errors import InvalidInputError, UnsupportedBackboneError


def predict1(kind: type[Any] = CosmosTextToWorldPipeline, **overrides: Any) -> Any:
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80, sigma_data=0.5, final_sigmas_type="sigma_min")
    transformer = cosmos.transformer(4, **overrides)
    return kind(None, None, transformer, cosmos.vae(), scheduler, safety_checker=cosmos.Unchecked())


class TestCosmos1(FamilyContract):
    layer_names = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
    channels = 16
    text_counts = (0, 0, 0)

    @classmethod
    def make_pipeline(cls) -> Any:
        return predict1()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return cosmos.embeddings(prompts, negative=negative)

    @classmethod
    def packed(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        """For the transformer to be shown them: the pipeline scales twice."""
        return latents * math.hypot(80, 0.5) / 80

    def test_forward_noise_is_the_schedulers(self, backbone: Backbone) -> None:
        """As the transformer is shown it: clean latents at sigma_data, noise on top, then scaled."""
        clean, noise = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(1))
        scheduler = backbone.pipeline.scheduler
        schedule = backbone.schedule(7, Size(**self.size))
        for step in (0, 3, 6):
            scheduler.set_timesteps(7)
            timestep = scheduler.timesteps[step : step + 1]
            noisy = scheduler.add_noise(clean * 0.5, noise, timestep)
            assert torch.allclose(
                schedule.noised(clean, noise, step), scheduler.scale_model_input(noisy, timestep), atol=1e-6
            )

    def test_a_prediction_is_turned_into_clean_latents_as_the_scheduler_does(self, backbone: Backbone) -> None:
        shown, output = torch.randn(2, 1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(2))
        scheduler = backbone.pipeline.scheduler
        backbone.set_timesteps(scheduler, 5, Size(**self.size))
        schedule = backbone.schedule(5, Size(**self.size))
        scheduler.scale_model_input(shown, scheduler.timesteps[2])
        sample = backbone.in_sampler_layout(shown, shown)
        prediction = backbone.prediction_of((output,), {})
        clean = scheduler.precondition_outputs(sample, output, scheduler.sigmas[2])
        assert torch.allclose(schedule.clean(shown, prediction, 2) * 0.5, clean, atol=1e-5)
        assert backbone.output_with((output,), prediction, {})[0].equal(output)

    def test_rotary_rates_are_those_of_the_tables(self, backbone: Backbone) -> None:
        call = {"hidden_states": torch.zeros(1, 4, 3, 10, 14), "fps": 24}
        tables = backbone.positions(backbone.denoisers[0], call, backbone.layout(**self.size))
        angle = torch.atan2(tables.query_sin, tables.query_cos)
        steps = [(angle.select(axis, 1) - angle.select(axis, 0)).flatten(0, 1)[0] for axis in range(3)]
        np.testing.assert_allclose(torch.stack(steps).abs().amax(0), backbone.rotary.turns(), rtol=1e-4)


class TestCosmos1VideoToWorld(TestCosmos1):
    replay_tolerance = 1e-4  # frames of the condition are scaled to and fro at every step

    @classmethod
    def make_pipeline(cls) -> Any:
        return predict1(CosmosVideoToWorldPipeline, in_channels=5)

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        """Without the noise that the pipeline draws anew at every step."""
        return {**super().conditioning(prompts, negative=negative), "image": cosmos.IMAGE, "augment_sigma": 0.0}

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

    def test_a_video_to_go_on_from_holds_its_frames(self, backbone: Backbone) -> None:
        given = {**super().conditioning(), "video": [cosmos.IMAGE] * 5, "augment_sigma": 0.0}
        seen: list[Any] = []
        hook = backbone.pipeline.transformer.register_forward_pre_hook(
            lambda module, args, call: seen.append(call), with_kwargs=True
        )
        backbone.generate(None, steps=2, conditioning={**given, **self.unguided}, **self.size)
        hook.remove()
        call = seen[0]
        changed = backbone.call_with_latents(call, torch.zeros(1, 4, 3, 10, 14))["hidden_states"]
        assert torch.equal(changed[:, :, :2], call["hidden_states"][:, :, :2])
        assert not changed[:, :, 2:].any()
        assert backbone.kept_in_sampler(call)[0, 0, :, 0, 0].tolist() == [True, True, False]


def test_the_padding_mask_needs_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models.transformers import transformer_cosmos

    from probe.families.cosmos import shared

    backbone = load_backbone(predict1(concat_padding_mask=True))
    monkeypatch.setattr(shared, "is_torchvision_available", lambda: False)
    given = {**cosmos.embeddings((0,), negative=False), "guidance_scale": 1.0}
    with pytest.raises(UnsupportedBackboneError, match=r"pip install torchvision"):
        backbone.generate(None, steps=2, conditioning=given, **TestCosmos1.size)

    class Transforms:
        """The one function of torchvision that is called, by torch."""

        InterpolationMode = type("InterpolationMode", (), {"NEAREST": "nearest"})

        class functional:
            @staticmethod
            def resize(mask: Tensor, size: list[int], interpolation: str) -> Tensor:
                return torch.nn.functional.interpolate(mask, size, mode=interpolation)

    monkeypatch.setattr(shared, "is_torchvision_available", lambda: True)
    monkeypatch.setattr(transformer_cosmos, "transforms", Transforms, raising=False)
    assert backbone.generate(None, steps=2, conditioning=given, **TestCosmos1.size).images.shape == (9, 80, 112, 3)


def test_sizes_beyond_its_learned_positions_and_means_are_refused() -> None:
    backbone = load_backbone(predict1(max_size=(4, 32, 32)))
    backbone.check_size(80, 112, 13)
    with pytest.raises(InvalidInputError, match="end at 4 frames of 16 x 16 cells; these are 9 frames of 5 x 7 cells"):
        backbone.check_size(80, 112, 33)
    backbone = load_backbone(predict1(extra_pos_embed_type=None))
    backbone.check_size(80, 112, 33)
    with pytest.raises(InvalidInputError, match="end at 32 frames of"):
        backbone.check_size(80, 112, 257)
