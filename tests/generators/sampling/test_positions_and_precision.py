"""Guided sampling beside what pipelines do: schedulers, positions, precision, offloading."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from accelerate import cpu_offload
from diffusers import DPMSolverMultistepScheduler
from full_contract import OffloadedWeights
from guided import Doing, backbone_of, check_same_state, latents_of, state_of
from sampling_helpers import BOTH, _watched_step
from tiny_families import FAMILIES, SCHEDULERS
from torch import Tensor

from generators.sampling.optimise import minimise
from generators.sampling.sample import GuidedSampling, sample
from generators.sampling.scheduler import EDITABLE
from generators.sampling.step import Step
from generators.sampling.strategy import Strategy
from probe import Capture, Probe, load_backbone
from probe.attention.positions import AddedPositions, RotaryPositions
from store.errors import UnsupportedBackboneError
from store.selection import Selection


@pytest.mark.parametrize("name", ["wan", "unipc order 3"])
def test_the_corrector_of_unipc_does_not_undo_an_edit(name: str) -> None:
    family, backbone = {**FAMILIES, **SCHEDULERS}[name], backbone_of(name)
    seen: list[Tensor] = []

    def push(step: Step) -> None:
        seen.append(step.latents)
        if step.number == 5 and len(seen) > 10:
            step.latents = step.latents + 1.0

    for _ in range(2):
        latents_of(family, backbone, Doing(push), steps=10)
    assert torch.equal(seen[5], seen[15])
    kept = (seen[16] - seen[6]).mean()
    assert kept == pytest.approx(1.0, abs=0.2)


def test_a_scheduler_that_cannot_be_edited_is_named() -> None:
    backbone = load_backbone(tiny.cogvideox())
    backbone.pipeline.scheduler = DPMSolverMultistepScheduler()
    with pytest.raises(UnsupportedBackboneError) as caught:
        sample(backbone, None, Strategy(), **FAMILIES["cogvideox rotary"].options())
    assert str(caught.value) == (
        "sampling cannot be guided under DPMSolverMultistepScheduler: it is unknown how its step treats latents that "
        f"were edited. Set one of {', '.join(EDITABLE)} on the pipeline."
    )


@pytest.mark.parametrize("name", ["mini", "mini-rope"])
def test_sample_is_generate_where_nothing_guides(name: str) -> None:
    family, backbone = FAMILIES[name], backbone_of(name)
    progress: list[tuple[int, int]] = []
    options = family.options(steps=2)
    expected = backbone.generate(family.prompt, **options)
    clip = sample(backbone, family.prompt, on_step=lambda *done: progress.append(done), **options)
    assert np.array_equal(clip.images, expected.images)
    assert (clip.prompt, clip.fps) == (expected.prompt, expected.fps)
    assert progress == [(1, 2), (2, 2)]


def test_rotary_positions_turn_queries_and_keys_apart() -> None:
    """Queries that are not rotated are those of the model, turned back."""
    name = "cogvideox rotary"
    family, backbone = FAMILIES[name], backbone_of(name)
    tables: list[RotaryPositions] = []

    def still(step: Step) -> None:
        own = step.positions
        assert isinstance(own, RotaryPositions)
        tables.append(own)
        step.positions = RotaryPositions(
            torch.ones_like(own.query_cos), torch.zeros_like(own.query_sin), own.key_cos, own.key_sin
        )

    found: list[list[Capture]] = [[], []]
    for captures, strategy in zip(found, (Strategy(), Doing(still)), strict=True):
        with Probe(backbone, Selection([0], [0], BOTH), captures.append):
            latents_of(family, backbone, strategy, guided=True, steps=1)
    for plain, changed in zip(*found, strict=True):
        assert torch.equal(plain.key, changed.key)
        turned = plain.query.unflatten(-1, (-1, 2))
        cos, sin = (table.unflatten(-1, (-1, 2))[..., 0] for table in (tables[0].query_cos, tables[0].query_sin))
        back = torch.stack(
            [turned[..., 0] * cos + turned[..., 1] * sin, turned[..., 1] * cos - turned[..., 0] * sin], dim=-1
        )
        assert torch.allclose(changed.query, back.flatten(-2), atol=1e-5)


def test_added_positions_reach_the_tokens_of_their_cell() -> None:
    name = "cogvideox added"
    family, backbone = FAMILIES[name], backbone_of(name)
    block = backbone.denoisers[0].get_submodule("transformer_blocks.0")
    seen: list[Tensor] = []

    def push(step: Step) -> None:
        table = step.positions.tensors()["table"].clone()
        table[2, 4, 1] += 3.0
        step.positions = AddedPositions(table)

    handle = block.register_forward_pre_hook(lambda m, a, call: seen.append(call["hidden_states"]), with_kwargs=True)
    try:
        for strategy in (Strategy(), Doing(push)):
            latents_of(family, backbone, strategy, steps=1)
    finally:
        handle.remove()
    difference = (seen[1] - seen[0]).unflatten(1, (3, 5, 7))
    expected = torch.zeros_like(difference)
    expected[:, 2, 4, 1] = 3.0
    assert torch.allclose(difference, expected, atol=1e-5)


def test_positions_at_another_size_than_the_models_own_table() -> None:
    family = FAMILIES["cogvideox added"]
    backbone = backbone_of("cogvideox added")
    arguments = {"height": 48, "width": 64}
    same = Doing(lambda step: setattr(step, "positions", step.positions))
    plain = latents_of(family, backbone, arguments=arguments)
    assert torch.equal(plain, latents_of(family, backbone, same, arguments=arguments))


def test_half_precision_keeps_the_pipelines_own_precision() -> None:
    family = FAMILIES["hunyuan"]
    backbone = family.backbone()
    backbone.pipeline.transformer.to(torch.bfloat16)
    plain = latents_of(family, backbone)

    def same(step: Step) -> None:
        step.latents, step.positions = step.latents, step.positions

    assert torch.equal(plain, latents_of(family, backbone, Doing(same)))
    starts: list[Tensor] = []
    for edit in (0.0, 0.5):

        def add(step: Step, edit: float = edit) -> None:
            if step.number == 0:
                step.latents = step.latents + edit

        found: list[Tensor] = []
        with _watched_step(backbone, found, "sample"):
            latents_of(family, backbone, Doing(add), steps=1)
        starts.append(found[0])
    assert starts[0].dtype == torch.float32
    assert not torch.equal(starts[0], starts[0].bfloat16().float()), "the pipeline's latents are finer than the model's"
    assert torch.allclose(starts[1], starts[0] + 0.5, atol=1e-6)


def test_condition_channels_of_image_to_video_stay() -> None:
    family = FAMILIES["cogvideox rotary"]
    backbone = load_backbone(tiny.cogvideox(image_to_video=True))
    image = torch.rand(1, 3, 80, 112, generator=torch.Generator().manual_seed(2))
    seen: list[Tensor] = []

    def edit(step: Step) -> None:
        assert step.latents.shape[2] == 4
        step.read([0])
        step.latents = torch.zeros_like(step.latents)

    arguments = backbone.arguments(
        None, **{**family.options(steps=1), "conditioning": {**family.conditioning, "image": image}}
    )
    for strategy in (Strategy(), Doing(edit)):
        with GuidedSampling(backbone, strategy, arguments):
            handle = backbone.denoisers[0].register_forward_pre_hook(
                lambda module, args, call: seen.append(call["hidden_states"]), with_kwargs=True
            )
            backbone.pipeline(**arguments, output_type="latent")
            handle.remove()
    assert seen[-1].shape[2] == 8
    assert not seen[-1][:, :, :4].any()
    assert seen[-1][:, :, 4:].any()


def test_offloaded_parts() -> None:
    """Whole parts, or weight by weight: the same latents, from gradients too."""
    family = FAMILIES["wan"]

    def push(step: Step, prediction: Tensor) -> Tensor:
        return prediction - step.predict(editors={0: lambda attention, attend: attend(attention) * 0.5})

    def optimise(step: Step) -> None:
        loss = lambda values: step.read([0], **values).captures[0].query[..., 0].mean()  # noqa: E731
        step.latents = minimise(step, {"latents": step.latents}, loss, learning_rates=[0.1])["latents"]

    strategies = [Doing(delta=push), Doing(optimise)]
    expected = [latents_of(family, backbone_of("wan"), strategy, steps=2) for strategy in strategies]
    backbone = family.backbone()
    backbone.pipeline.enable_model_cpu_offload(device="cpu")
    for strategy, latents in zip(strategies, expected, strict=True):
        assert torch.equal(latents_of(family, backbone, strategy, steps=2), latents)
    backbone = family.backbone()
    for part in (backbone.pipeline.vae, backbone.pipeline.transformer):
        cpu_offload(part, torch.device("cpu"), state_dict=OffloadedWeights(part.state_dict()))
    processors = [module.processor for _, module in backbone.modules[0]]
    for strategy, latents in zip(strategies, expected, strict=True):
        assert torch.equal(latents_of(family, backbone, strategy, steps=2), latents)
    assert [module.processor for _, module in backbone.modules[0]] == processors


def test_both_transformers_of_wan_2_2_are_guided() -> None:
    family = FAMILIES["wan"]
    backbone = load_backbone(tiny.wan(transformer_2=tiny.wan_transformer(8), boundary_ratio=0.6))
    names: list[str] = []
    strategy = Doing(lambda step: names.append(step.read([1]).captures[1].layer_name))
    before = state_of(backbone)
    latents_of(family, backbone, strategy, guided=True, steps=4)
    assert strategy.steps == [0, 1, 2, 3]
    assert names == [("" if t >= 600 else "transformer_2.") + "blocks.1.attn1" for t in backbone.timesteps(4)]
    assert len(set(names)) == 2
    check_same_state(before, state_of(backbone))
