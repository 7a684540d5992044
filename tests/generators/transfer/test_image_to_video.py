"""Motion transfer with image-to-video: the reference is read behind its own first image, not the new clip's."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from guided import Doing
from PIL import Image
from tiny_families import FAMILIES
from torch import Tensor

from generators.sampling.sample import GuidedSampling
from generators.sampling.step import Step
from generators.transfer.ditflow import DiTFlow
from generators.transfer.injection import Injection
from generators.transfer.method import TransferMethod
from generators.transfer.motion_transfer import MotionTransfer
from generators.transfer.reference_clip import Reference, text_arguments
from probe import Backbone, load_backbone, run_clip
from probe.run.forward import ForwardPass
from store import Clip, Selection
from store.errors import UnknownLayerError

FAMILY = FAMILIES["cogvideox rotary"]
EMBEDS = FAMILY.conditioning


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    found = load_backbone(tiny.cogvideox(image_to_video=True))
    found.pipeline.set_progress_bar_config(disable=True)
    return found


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(np.random.default_rng(3).integers(0, 255, (9, 80, 112, 3), np.uint8), fps=8)


def transfer_of(backbone: Backbone, clip: Clip, method: TransferMethod, **options: Any) -> MotionTransfer:
    image = Image.fromarray(np.full((80, 112, 3), 40, np.uint8))
    conditioning = {**EMBEDS, "image": image, "guidance_scale": 1.0}
    return MotionTransfer(
        backbone, clip, None, method=method, steps=2, seed=7, conditioning=conditioning, **tiny.SIZE, **options
    )


def conditions_seen(backbone: Backbone, work: Any) -> list[Tensor]:
    """Condition channels of every call of the transformer while something runs."""
    seen: list[Tensor] = []
    handle = backbone.denoisers[0].register_forward_pre_hook(
        lambda module, args, call: seen.append(call["hidden_states"][:, :, 4:].clone()), with_kwargs=True
    )
    try:
        work()
    finally:
        handle.remove()
    return seen


def own_condition(backbone: Backbone, clip: Clip) -> Tensor:
    work = lambda: run_clip(backbone, clip, Selection([-1], [1]), lambda capture: None, conditioning=EMBEDS)  # noqa: E731
    return conditions_seen(backbone, work)[-1]


def test_the_reference_is_read_behind_its_own_first_image(backbone: Backbone, clip: Clip) -> None:
    transfer = transfer_of(backbone, clip, DiTFlow(layers=(1,)))
    seen = conditions_seen(backbone, lambda: transfer.seen.read([1], step=-1))
    assert torch.equal(seen[-1], own_condition(backbone, clip))


def test_a_reference_image_that_is_given_apart_wins(backbone: Backbone, clip: Clip) -> None:
    other = Clip(clip.images[::-1].copy(), fps=8)
    given = {"prompt_embeds": EMBEDS["prompt_embeds"], **backbone.conditioning_of(other)}
    transfer = transfer_of(backbone, clip, DiTFlow(layers=(1,)), reference_conditioning=given)
    seen = conditions_seen(backbone, lambda: transfer.seen.read([1], step=-1))
    assert torch.equal(seen[-1], own_condition(backbone, other))


@pytest.mark.parametrize(
    "method", [Injection(fraction=0.5), DiTFlow(layers=(1,), inject=True, fraction=0.5, iterations=1)]
)
def test_injected_keys_are_read_behind_the_first_image_of_the_reference(
    backbone: Backbone, clip: Clip, method: TransferMethod
) -> None:
    transfer = transfer_of(backbone, clip, method)
    strategies = transfer.method.strategies(transfer.seen)
    seen = conditions_seen(backbone, lambda: _guided(backbone, transfer, strategies))
    of_reference, of_new = own_condition(backbone, clip), transfer_condition(backbone, transfer)
    assert not torch.equal(of_reference, of_new)
    assert torch.equal(seen[0], of_reference), "the first pass reads what is injected"
    assert all(torch.equal(each, of_new) for each in seen[1:]), "all others are of the new clip"


def _guided(backbone: Backbone, transfer: MotionTransfer, strategies: Any) -> None:
    arguments = transfer._arguments()
    with GuidedSampling(backbone, strategies, arguments):
        backbone.pipeline(**arguments, output_type="latent")


def transfer_condition(backbone: Backbone, transfer: MotionTransfer) -> Tensor:
    """Condition channels of the new clip, as the plain pipeline has them."""
    return conditions_seen(backbone, lambda: backbone.pipeline(**transfer._arguments(), output_type="latent"))[-1]


def test_a_step_reads_its_own_condition_unless_another_is_given(backbone: Backbone, clip: Clip) -> None:
    transfer = transfer_of(backbone, clip, Injection())
    other = own_condition(backbone, clip)
    keys: list[Tensor] = []

    def look(step: Step) -> None:
        for condition in (None, transfer_condition_of[0], other):
            keys.append(step.read([0], condition=condition).captures[0].key)

    transfer_condition_of = [transfer_condition(backbone, transfer)]
    _guided(backbone, transfer, Doing(look))
    assert torch.equal(keys[0], keys[1])
    assert not torch.allclose(keys[0], keys[2], atol=1e-3)


def test_text_to_video_has_no_condition() -> None:
    for name in ("cogvideox rotary", "wan", "hunyuan"):
        family = FAMILIES[name]
        backbone = family.backbone()
        size = family.size
        forward = ForwardPass(backbone, None, steps=2, conditioning=family.conditioning, **size)
        assert forward.condition("cond") is None
        with pytest.raises(UnknownLayerError, match="branch 'uncond' was not prepared"):
            forward.condition("uncond")


def test_what_else_the_new_clip_is_told_does_not_reach_its_reference(backbone: Backbone, clip: Clip) -> None:
    transfer = transfer_of(backbone, clip, Injection())
    assert set(transfer.seen.conditioning) == {"prompt_embeds", "negative_prompt_embeds", "guidance_scale"}
    mask = {"prompt_attention_mask": 1, "pooled_prompt_embeds": 2, "max_sequence_length": 3}
    assert text_arguments({**mask, "true_cfg_scale": 4, "latents": 5}) == mask
    apart = dataclasses.replace(transfer, reference_conditioning={"prompt_embeds": EMBEDS["negative_prompt_embeds"]})
    assert isinstance(apart.seen, Reference)
    assert apart.seen.conditioning["prompt_embeds"] is EMBEDS["negative_prompt_embeds"]


def test_the_reference_is_read_under_the_guidance_of_the_run() -> None:
    """Where guidance is distilled into the model it is an input, of the reference's pass too."""
    family = FAMILIES["hunyuan"]
    backbone, size = family.backbone(), family.size
    shape = (size["images"], size["height"], size["width"], 3)
    reference = Clip(np.random.default_rng(3).integers(0, 255, shape, np.uint8), fps=8)
    options: dict[str, Any] = {"steps": 2, "conditioning": family.conditioning, **size}
    keys = [
        MotionTransfer(backbone, reference, None, guidance_scale=scale, **options)
        .seen.read([1], step=-1)
        .captures[1]
        .key
        for scale in (2.0, 9.0)
    ]
    assert not torch.allclose(*keys, atol=1e-4)
