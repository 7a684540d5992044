"""Motion transfer on every family: losses against brute force, the published schedule, and what is rejected."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from diffusers import DPMSolverMultistepScheduler
from guided import Doing, backbone_of, check_same_state, latents_of, plain_latents, state_of
from tiny_families import FAMILIES
from torch import Tensor
from transfers import reference_of, transfer_of

import generators.transfer.optimised
from generators.errors import GuidanceDivergedError
from generators.sampling.step import Step
from generators.transfer.ditflow import DiTFlow
from generators.transfer.injection import Injection
from generators.transfer.method import PlainBackbone, TransferMethod
from generators.transfer.moft import MOFT
from generators.transfer.motion_clone import MotionClone
from generators.transfer.motion_transfer import transfer_motion
from generators.transfer.optimised import Optimisation
from generators.transfer.reference_clip import Reference, TransferWarning, fit_reference
from generators.transfer.smm import SMM
from probe import Backbone, Capture, Probe, load_backbone, run_clip
from probe.backbones.geometry import Size
from store import Clip
from store.errors import ClipError, InvalidInputError, UnknownLayerError, UnsupportedBackboneError
from store.selection import Selection


@functools.cache
def plain_images(name: str) -> np.ndarray:
    """The clip that a family makes of itself, made once."""
    return transfer_of(name, PlainBackbone()).run().clip.images


class TestEveryFamily:
    @pytest.fixture(params=FAMILIES)
    def name(self, request: pytest.FixtureRequest) -> str:
        return request.param

    @pytest.mark.parametrize("optimise", ["latents", "positions"])
    def test_optimising_lowers_the_loss_and_leaves_nothing_behind(self, name: str, optimise: Any) -> None:
        family, backbone = FAMILIES[name], backbone_of(name)
        plain, before = plain_latents(name, 2), state_of(backbone)
        method = DiTFlow(optimise=optimise, layers=(1,), learning_rate=(0.05, 0.05), iterations=3, inject=True)
        found = transfer_of(name, method).run()
        (losses,) = found.losses.values()
        assert len(losses) == 3
        assert losses[2] < losses[1] < losses[0]
        assert (found.embedding is not None) == (optimise == "positions")
        assert not np.array_equal(found.clip.images, plain_images(name))
        check_same_state(before, state_of(backbone))
        assert torch.equal(plain, latents_of(family, backbone, steps=2))

    def test_injected_keys_and_values_are_those_of_the_noised_reference(self, name: str) -> None:
        family, backbone = FAMILIES[name], backbone_of(name)
        transfer = transfer_of(name, Injection(fraction=0.5))
        seen: list[Capture] = []
        expected: list[Tensor] = []

        def look(step: Step) -> None:
            noise.append(step.latents)
            noised = step.schedule.noised(backbone.encode(transfer.reference), noise[0], step.number)
            expected.append(step.read([0], latents=noised).captures[0].key)

        noise: list[Tensor] = []
        strategies = (Doing(look), *transfer.method.strategies(transfer.seen))
        with Probe(backbone, Selection("all", [0], ("cond", "uncond")), seen.append):
            latents_of(family, backbone, strategies, guided=True, steps=2)
        assert {(capture.step, capture.branch) for capture in seen} == {
            (step, branch) for step in (0, 1) for branch in ("cond", "uncond")
        }
        for capture in seen:
            same = torch.allclose(capture.key, expected[capture.step or 0], atol=1e-5)
            assert same == (capture.step == 0), "half of the two steps inject"


@pytest.fixture
def minimised(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every call of the optimiser, which adds 0.25 instead."""
    calls: list[dict[str, Any]] = []

    def spy(step: Step, values: dict[str, Tensor], loss: Any, *, learning_rates: list[float]) -> dict[str, Tensor]:
        calls.append({"step": step.number, "values": dict(values), "rates": learning_rates})
        return {name: value.float() + 0.25 for name, value in values.items()}

    monkeypatch.setattr(generators.transfer.optimised, "minimise", spy)
    return calls


@pytest.mark.parametrize(
    ("preset", "last", "fourth"), [("exact", 0.001, 0.002 - 3 / 9000), ("ditflow", 0.0011, 0.0017)]
)
def test_the_schedule_is_as_published(minimised: Any, preset: Any, last: float, fourth: float) -> None:
    method = DiTFlow(optimise="positions", layers=(0,), preset=preset)
    transfer_of("mini", method, steps=50).optimise()
    assert [call["step"] for call in minimised] == list(range(10))
    assert all(len(call["rates"]) == 5 and len(set(call["rates"])) == 1 for call in minimised)
    rates = [call["rates"][0] for call in minimised]
    assert (rates[0], rates[-1]) == (pytest.approx(0.002), pytest.approx(last))
    assert rates[3] == pytest.approx(fourth)
    np.testing.assert_allclose(np.diff(rates), (last - 0.002) / 9)


@pytest.mark.parametrize("name", ["cogvideox added", "cogvideox rotary"])
def test_positions_start_from_those_of_the_step_before_and_end_with_the_share(minimised: Any, name: str) -> None:
    used: list[dict[str, Tensor]] = []
    transfer = transfer_of(name, DiTFlow(optimise="positions", layers=(0,), fraction=0.5), steps=4)
    watch = Doing(lambda step: used.append(step.positions.tensors()))
    latents_of(FAMILIES[name], backbone_of(name), (watch, *transfer.method.strategies(transfer.seen), watch), steps=4)
    kinds = ["table"] if name == "cogvideox added" else ["query_cos", "query_sin", "key_cos", "key_sin"]
    assert [list(call["values"]) for call in minimised] == [kinds, kinds]
    own = used[0]
    for kind in kinds:
        assert torch.equal(minimised[0]["values"][kind], own[kind])
        assert torch.equal(minimised[1]["values"][kind], own[kind].float() + 0.25)
        assert torch.equal(used[3][kind], own[kind].float() + 0.25 + 0.25)
        assert all(torch.equal(used[call][kind], own[kind]) for call in (2, 4, 5, 6, 7))


def test_latents_start_from_the_step_and_are_what_it_goes_on_with(minimised: Any) -> None:
    shown: list[Tensor] = []
    transfer = transfer_of("mini", DiTFlow(layers=(0,)), steps=2)
    watch = Doing(lambda step: shown.append(step.latents))
    latents_of(
        FAMILIES["mini"], backbone_of("mini"), (watch, *transfer.method.strategies(transfer.seen), watch), steps=2
    )
    (call,) = minimised
    assert torch.equal(call["values"]["latents"], shown[0])
    assert torch.equal(shown[1], shown[0] + 0.25)
    assert torch.equal(shown[2], shown[3])


def named(name: str) -> Backbone:
    return cast("Backbone", SimpleNamespace(name=name, denoisers=(), layers=range(42)))


@pytest.mark.parametrize(
    ("name", "preset", "layers"),
    [
        ("THUDM/CogVideoX-5b", "ditflow", (20,)),
        ("THUDM/CogVideoX-2b", "ditflow", (15,)),
        ("zai-org/CogVideoX-2b", "ditflow", (15,)),
        ("THUDM/CogVideoX-5b", "exact", (17,)),
        ("mini", "exact", (5,)),
    ],
)
def test_layers_are_the_published_or_the_selected_ones(name: str, preset: Any, layers: tuple[int, ...]) -> None:
    assert DiTFlow(preset=preset).resolve_layers(named(name)) == layers
    assert SMM(preset=preset).resolve_layers(named(name)) == layers
    assert MOFT(layers=[-1, 3]).resolve_layers(named(name)) == (3, 41)  # type: ignore[arg-type]


def test_the_bundled_backbones_have_rates_of_their_own() -> None:
    published = (0.002, 0.001)
    assert DiTFlow().rates(named("THUDM/CogVideoX-2b"), 10) == published
    assert DiTFlow(preset="ditflow").rates(named("mini"), 10) == (0.002, 0.0015)
    assert DiTFlow(learning_rate=published).rates(named("mini"), 10) == published
    assert DiTFlow().rates(named("mini"), 10) == (0.02, 0.01)


def _clip(images: int, height: int, width: int) -> Clip:
    values = np.arange(images, dtype=np.uint8)[:, None, None, None]
    return Clip(np.broadcast_to(values, (images, height, width, 3)).copy(), fps=8, prompt="rising")


def test_a_reference_of_the_right_size_is_left_alone() -> None:
    clip = _clip(6, 40, 48)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit_reference(clip, Size(40, 48, 6))
    assert np.array_equal(fitted.images, clip.images)
    assert (fitted.fps, fitted.prompt) == (8, "rising")


@pytest.mark.parametrize(
    ("images", "chosen"), [(11, [0, 2, 4, 6, 8, 10]), (4, [0, 1, 1, 2, 2, 3]), (2, [0] * 3 + [1] * 3)]
)
def test_another_length_is_resampled_over_the_whole_motion(images: int, chosen: list[int]) -> None:
    with pytest.warns(TransferWarning) as told:
        fitted = fit_reference(_clip(images, 40, 48), Size(40, 48, 6))
    assert fitted.images[:, 0, 0, 0].tolist() == chosen
    (warning,) = told
    assert str(warning.message) == (
        f"the reference has {images} images and the clip to be made 6: it is resampled to its images "
        f"{', '.join(map(str, chosen))}."
    )


def test_another_aspect_is_warned_of_and_then_refused() -> None:
    assert fit_reference(_clip(3, 80, 96), Size(40, 48, 3)).images.shape == (3, 40, 48, 3)
    with pytest.warns(TransferWarning) as told:
        assert fit_reference(_clip(3, 40, 48), Size(40, 72, 3)).images.shape == (3, 40, 72, 3)
    assert str(told[0].message) == (
        "the reference of 40 x 48 px is resized to 40 x 72 px (height x width), which changes its aspect 1.5-fold, and "
        "so the directions of its motion."
    )
    with pytest.raises(ClipError) as caught:
        fit_reference(_clip(3, 40, 48), Size(48, 16, 3))
    assert str(caught.value) == (
        "the reference is 40 x 48 px and the clip to be made 48 x 16 px (height x width): its aspect would change "
        "3.6-fold. Crop it, or generate another size."
    )


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(Backbone, "call_pipeline", ran)
    monkeypatch.setattr(Backbone, "encode", ran)


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        (DiTFlow(layers=(7,)), UnknownLayerError, "layer 7 does not exist. The backbone has layers 0 to 1."),
        (Injection(layer=7), UnknownLayerError, "layer 7 does not exist. The backbone has layers 0 to 1."),
        (
            MOFT(),
            InvalidInputError,
            "no layer is known to track well on CogVideoXPipeline. Pass layers=, or find one: "
            "select_layers(sweep(backbone, clips, Selection(steps=[-1], layers='all'))).",
        ),
        (
            SMM(preset="ditflow"),
            InvalidInputError,
            "DiTFlow has published no layer for CogVideoXPipeline. Pass layers=, or use preset='exact'. Published: "
            "THUDM/CogVideoX-2b, THUDM/CogVideoX-5b.",
        ),
    ],
)
def test_layers_are_refused_before_the_model_runs(
    no_model: None, method: TransferMethod, error: type[Exception], message: str
) -> None:
    transfer = transfer_of("mini", method)
    with pytest.raises(error) as caught:
        transfer.run()
    assert str(caught.value).partition(" Known: ")[0] == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiTFlow(fraction=0), "fraction must be above 0 and at most 1; got 0."),
        (lambda: Injection(fraction=1.5), "fraction must be above 0 and at most 1; got 1.5."),
        (lambda: SMM(iterations=0), "iterations must be at least 1; got 0."),
        (
            lambda: SMM(learning_rate=(0.1, 0.0)),
            "learning_rate must be two numbers above 0, (first, last); got (0.1, 0.0).",
        ),
        (lambda: SMM(optimise=cast("Any", "text")), "unknown optimise 'text'. Known: 'latents', 'positions'."),
        (lambda: SMM(preset=cast("Any", "smm")), "unknown preset 'smm'. Known: 'exact', 'ditflow'."),
        (lambda: SMM(layers=()), "layers is empty: name at least one layer whose motion is compared."),
        (lambda: DiTFlow(temperature=0), "temperature must be a finite number above 0; got 0."),
        (lambda: MOFT(channels=2), "channels must be above 0 and at most 1; got 2."),
        (lambda: MotionClone(count=0), "count must be at least 1; got 0."),
    ],
)
def test_options_that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make()
    assert str(caught.value) == message


def test_references_without_motion_are_refused(no_model: None) -> None:
    backbone, prompt = backbone_of("mini"), FAMILIES["mini"].prompt
    with pytest.raises(ClipError) as caught:
        transfer_motion(backbone, _clip(1, 24, 32), prompt, height=24, width=32, images=3)
    assert str(caught.value) == "the reference has 1 image, so there is no motion to transfer. Give it at least 2."


def test_a_scheduler_that_cannot_be_edited_is_named(no_model: None) -> None:
    backbone = load_backbone(tiny.cogvideox())
    backbone.pipeline.scheduler = DPMSolverMultistepScheduler()
    family = FAMILIES["cogvideox rotary"]
    with pytest.raises(UnsupportedBackboneError, match="sampling cannot be guided under DPMSolverMultistepScheduler"):
        transfer_motion(backbone, reference_of(family), None, **family.options())


def test_a_loss_that_is_not_finite_keeps_the_last_good_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    transfer = transfer_of("mini", DiTFlow(layers=(0,), fraction=1.0), steps=3)
    seen: list[Tensor] = []
    true = Optimisation.loss

    def loss(self: Optimisation, step: Step, **values: Any) -> Tensor:
        if step.number == 1 and not seen:
            seen.append(step.latents)
        return true(self, step, **values) * (torch.nan if step.number == 1 else 1.0)

    monkeypatch.setattr(Optimisation, "loss", loss)
    before = state_of(backbone_of("mini"))
    with pytest.raises(GuidanceDivergedError) as caught:
        transfer.run()
    assert str(caught.value) == (
        "the loss of iteration 0 is not finite at step 1 of 3 (timestep 666). The latents with which that step began "
        "are kept as the error's .latents. Lower the learning rate or the scale, or guide fewer steps."
    )
    assert caught.value.step == 1
    assert torch.equal(caught.value.latents, seen[0])
    check_same_state(before, state_of(backbone_of("mini")))


@pytest.mark.parametrize("optimise", ["latents", "positions"])
def test_a_rate_that_is_far_too_large_ends_the_run_and_says_so(optimise: str) -> None:
    transfer = transfer_of("mini", DiTFlow(layers=(1,), optimise=optimise, learning_rate=(1e30, 1e30)), steps=2)
    with pytest.raises(
        GuidanceDivergedError, match=r"queries of layer 1 are not finite at step 0 of 2 \(timestep 999\)"
    ):
        transfer.run()


def test_the_plain_backbone_is_generate() -> None:
    family, backbone = FAMILIES["mini-rope"], backbone_of("mini-rope")
    options = family.options(guided=True, steps=2)
    expected = backbone.generate(family.prompt, **options)
    clip = transfer_motion(backbone, reference_of(family), family.prompt, method=PlainBackbone(), **options)
    assert np.array_equal(clip.images, expected.images)
    assert clip.prompt == family.prompt


def test_a_reference_is_read_as_reference_flow_reads_it() -> None:
    family, backbone = FAMILIES["mini"], backbone_of("mini")
    reference = Reference(backbone, reference_of(family), steps=5)
    captures: list[Capture] = []
    run_clip(backbone, reference.clip, Selection([-1], [1]), captures.append, steps=5, prompt="")
    read = reference.read([1], step=-1, blocks=True)
    assert torch.equal(read.captures[1].key, captures[0].key)
    assert read.blocks[1].shape == (3, *captures[0].key.shape[2:4], 32)
    assert not torch.equal(reference.read([1], step=None).captures[1].key, captures[0].key)


def test_embeddings_of_the_reference_can_be_given_apart() -> None:
    family = FAMILIES["wan"]
    transfer = transfer_of("wan", DiTFlow(layers=(1,), iterations=1))
    empty = {"prompt_embeds": family.conditioning["negative_prompt_embeds"]}
    other = dataclasses.replace(transfer, reference_conditioning=empty)
    assert transfer.run().losses != other.run().losses


def test_reprs() -> None:
    transfer = transfer_of("mini", Injection())
    assert repr(transfer) == (
        "MotionTransfer('CogVideoXPipeline', 24 x 32 px and 3 images, 2 steps, 'a red disc moves left over blue "
        "stripes', Injection(layer=0, fraction=0.2))"
    )
