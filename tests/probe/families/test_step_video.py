"""Step-Video-T2V on a stand-in in its published layout: fused projections, attention held as an attribute, servers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, ClassVar

import numpy as np
import pytest
import step_video
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from pretend_cuda import PretendCUDA
from torch import Tensor

from generators.adapters.decoupled.lora import DecoupledLoRA
from generators.adapters.lora import LoRA
from generators.adapters.motion_inversion import MotionInversion
from generators.adapters.temporal_kernel import TemporalKernel
from generators.sampling.optimise import minimise
from generators.sampling.sample import sample
from generators.sampling.step import Step
from generators.sampling.strategy import Strategy
from probe import Backbone, Capture, load_backbone, run_prompt
from probe.backbones.geometry import Size
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.selection import Selection

WORDS, CLIP = 9, 2


class TestStepVideo(FamilyContract):
    layer_names = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
    channels = 16
    text_counts = (0, 0, 0)
    size: ClassVar[dict[str, int]] = {"height": 48, "width": 64, "images": 34}
    grid = (6, 3, 4)
    spans: ClassVar[list[range]] = [range(*pair) for pair in ((0, 1), (1, 9), (9, 17), (17, 18), (18, 26), (26, 34))]
    projections = ("wqkv",)

    @classmethod
    def make_pipeline(cls) -> Any:
        return step_video.step_video()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        def text(seeds: tuple[int, ...], prefix: str = "") -> dict[str, Any]:
            mask = torch.ones(len(seeds), CLIP + WORDS)
            mask[:, -3:] = 0
            return {
                f"{prefix}prompt_embeds": torch.cat([tiny.embeds(WORDS, 24, n) for n in seeds]),
                f"{prefix}prompt_embeds_2": torch.cat([tiny.embeds(CLIP, 8, n) for n in seeds]),
                f"{prefix}prompt_attention_mask": mask,
            }

        return {**text(prompts), **(text((9,) * len(prompts), "negative_") if negative else {})}

    @classmethod
    def result_of(cls, output: Any) -> Tensor:
        return output.video

    def make_noise(self, backbone: Backbone, *, batch: int = 1) -> Tensor:
        """In the precision that the pipeline gives its first latents."""
        return super().make_noise(backbone, batch=batch).bfloat16().float()

    @classmethod
    def watch(cls, stack: ExitStack, module: Any, calls: list[Any]) -> None:
        """Values are the last third of each head of the fused projection."""

        def project(projection: Any, args: Any, output: Tensor) -> None:
            values = output.unflatten(-1, (cls.heads, 3, cls.channels))[:, :, :, 2].flatten(2)
            calls.append({"values": [values]})

        def finish(projection: Any, args: Any) -> None:
            calls[-1]["output"] = args[0]

        stack.callback(module.wqkv.register_forward_hook(project).remove)
        stack.callback(module.wo.register_forward_pre_hook(finish).remove)

    def _own(self, backbone: Backbone, tensors: list[Any], capture: Capture, guided: bool) -> tuple[Tensor, Tensor]:
        index = int(guided and capture.branch == "uncond")  # the conditional branch comes first
        values = tensors[0]["values"][0][index].unflatten(-1, (self.heads, self.channels))
        return values, tensors[0]["output"][index]

    def test_forward_noise_is_the_schedulers(self, backbone: Backbone) -> None:
        """Its scheduler has no method for it; a step of the true velocity leads from one state to the next."""
        clean, noise = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(1))
        schedule, scheduler = backbone.schedule(7), backbone.pipeline.scheduler
        backbone.set_timesteps(scheduler, 7, Size(**self.size))
        state = schedule.noised(clean, noise, 0)
        assert torch.equal(state, noise)
        for step in range(6):
            state = scheduler.step(model_output=schedule.target(clean, noise, step), timestep=None, sample=state)
            assert torch.allclose(state, schedule.noised(clean, noise, step + 1), atol=1e-6)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(step_video.step_video())


OPTIONS: dict[str, Any] = {"steps": 2, "height": 48, "width": 64, "images": 17}


def test_prompts_are_read_by_the_pipelines_own_server(backbone: Backbone) -> None:
    found: list[Capture] = []
    clip = run_prompt(backbone, "a dog", Selection([1], [0], ("cond", "uncond")), found.append, **OPTIONS)
    assert clip is not None
    assert (len(clip), clip.fps, [capture.branch for capture in found]) == (17, 25.0, ["cond", "uncond"])
    other = backbone.generate("a dog", negative_prompt="rain", **OPTIONS)
    assert not np.array_equal(clip.images, other.images)
    alone = backbone.generate("a dog", guidance_scale=1.0, **OPTIONS)
    assert not np.array_equal(clip.images, alone.images)


def test_a_run_can_be_guided_by_gradients(backbone: Backbone) -> None:
    class Still(Strategy):
        losses: ClassVar[list[float]] = []

        def before(self, step: Step) -> None:
            def loss(values: dict[str, Tensor]) -> Tensor:
                query = step.read([1], latents=values["latents"]).captures[1].query
                value = (query[:, 1:] - query[:, :-1]).square().mean()
                self.losses.append(value.item())
                return value

            step.latents = minimise(step, {"latents": step.latents}, loss, learning_rates=[0.05] * 3)["latents"]

    sample(backbone, "a dog", Still(), **OPTIONS)
    assert len(Still.losses) == 6
    assert Still.losses[2] < Still.losses[0]


def test_what_it_cannot_do_is_refused(backbone: Backbone) -> None:
    with pytest.raises(InvalidInputError, match=r"prompt_embeds came without prompt_embeds_2, prompt_attention_mask\."):
        backbone.generate(None, conditioning={"prompt_embeds": torch.zeros(1, 9, 24)}, **OPTIONS)
    with pytest.raises(InvalidInputError, match=r"time_shift=7\.0 would change the timesteps"):
        backbone.generate("a dog", conditioning={"time_shift": 7.0}, **OPTIONS)
    with pytest.raises(InvalidInputError, match=r"with 17 n images\. The nearest size that fits is 48 x 64 px and 17 "):
        backbone.generate("a dog", **{**OPTIONS, "images": 16})
    with pytest.raises(InvalidInputError, match="negative_prompt_embeds"):
        backbone.generate(None, conditioning=TestStepVideo.conditioning(negative=False), **OPTIONS)
    with pytest.raises(UnsupportedBackboneError, match=r"^SelfAttention has no projections of its own for q, k, v"):
        LoRA(backbone)
    with pytest.raises(UnsupportedBackboneError, match=r"^SelfAttention has no projections of its own for q, k, v"):
        DecoupledLoRA(backbone, heads={"spatial": [[0]] * 2, "temporal": [[1]] * 2})
    with pytest.raises(UnsupportedBackboneError, match=r"changes to_q, but SelfAttention has no such projection"):
        MotionInversion(backbone, size=Size(48, 64, 17))
    with pytest.raises(UnsupportedBackboneError, match=r"^StepVideoModel does not support gradient checkpointing\."):
        sample(backbone, "a dog", (), gradient_checkpointing=True, **OPTIONS)
    remote = load_backbone(step_video.StepVideoPipeline(backbone.pipeline.transformer, backbone.pipeline.scheduler))
    with pytest.raises(UnsupportedBackboneError, match="runs on a server, which encodes no clips"):
        remote.generate("a dog", **OPTIONS)


def test_adapters_beside_the_attention(backbone: Backbone) -> None:
    adapter = TemporalKernel(backbone, width=4)
    plain = sample(backbone, "a dog", (), **OPTIONS)
    with adapter.attached(backbone):
        np.testing.assert_array_equal(sample(backbone, "a dog", (), **OPTIONS).images, plain.images)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.fill_(0.5)
    with adapter.attached(backbone):
        assert (sample(backbone, "a dog", (), **OPTIONS).images != plain.images).any()


@pytest.mark.parametrize("moved", [True, False])
def test_the_vae_moves_with_the_pipeline_or_stays_where_it_is(moved: bool) -> None:
    """It is no part of the pipeline: diffusers does not move it."""
    pipeline = step_video.step_video()
    if not moved:
        vae, pipeline.vae = pipeline.vae, None
    with PretendCUDA():
        backbone = load_backbone(pipeline, device="cuda")
        if not moved:
            pipeline.vae = vae
        assert next(pipeline.vae.parameters()).is_cuda == moved
        clip = Clip(np.zeros((17, 48, 64, 3), np.uint8), fps=8)
        latents = backbone.encode(clip)
        assert latents.is_cuda
        assert backbone.decode(latents).images.shape == clip.images.shape
