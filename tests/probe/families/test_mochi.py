"""Mochi: an attention call for each batch element, timesteps that count upwards, ragged text."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel

from probe import Backbone, load_backbone
from probe.backbones.geometry import Size

# the pipeline and the VAE turn autocast off by asking for float32
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")


def mochi() -> MochiPipeline:
    transformer = MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=12,
        text_embed_dim=32,
        time_embed_dim=4,
        max_sequence_length=16,
    )
    vae = AutoencoderKLMochi(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        add_attention_block=(False,) * 5,
    )
    tiny.randomise(transformer, 21)
    tiny.randomise(vae, 22)
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    return MochiPipeline(scheduler, vae.eval(), None, None, transformer.eval())


class TestMochi(FamilyContract):
    layer_names = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
    size = {"height": 80, "width": 112, "images": 13}  # noqa: RUF012
    spans = [range(1), range(1, 7), range(7, 13)]  # noqa: RUF012
    waits_a_run = 2
    channels = 8
    text_counts = (7, 4, 5)

    @classmethod
    def make_pipeline(cls) -> Any:
        return mochi()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        def mask(counts: list[int]) -> torch.Tensor:
            return (torch.arange(9) < torch.tensor(counts)[:, None]).long()

        chosen = {
            "prompt_embeds": torch.cat([tiny.embeds(9, 32, n) for n in prompts]),
            "prompt_attention_mask": mask([cls.text_counts[n] for n in prompts]),
        }
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(9, 32, 9).expand(len(prompts), -1, -1)
            chosen["negative_prompt_attention_mask"] = mask([cls.text_counts[2]] * len(prompts))
        return chosen

    def test_forward_noise_is_the_schedulers(self, backbone: Backbone) -> None:
        """By the scheduler's step, because its scale_noise takes reversed sigmas for those of noise."""
        clean, noise = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(1))
        size, scheduler = Size(**self.size), backbone.pipeline.scheduler
        schedule = backbone.schedule(7, size)
        backbone.set_timesteps(scheduler, 7, size)
        state = noise
        for step, timestep in enumerate(scheduler.timesteps):
            assert torch.allclose(schedule.noised(clean, noise, step), state, atol=1e-5)
            state = scheduler.step(clean - noise, timestep, state, return_dict=False)[0]
        assert torch.allclose(state, clean, atol=1e-5)


def test_the_clean_end_of_a_run_has_the_largest_timestep() -> None:
    backbone: Backbone = load_backbone(mochi())
    schedule = backbone.schedule(8)
    assert schedule.timesteps[0] == 0.0
    assert list(schedule.timesteps) == sorted(schedule.timesteps)
    assert (schedule.clean_timestep, schedule.prediction) == (1000.0, "reversed_flow")
    assert str(backbone.default_size) == "480 x 848 px and 19 images"
