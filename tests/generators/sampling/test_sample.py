"""The contract of guided sampling, on every family and scheduler: what a strategy may do, and that nothing remains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from guided import Doing, backbone_of, check_same_state, latents_of, plain_latents, state_of
from sampling_helpers import BOTH, _watched_step
from tiny_families import FAMILIES, SCHEDULERS, Family
from torch import Tensor

from generators.errors import GuidanceDivergedError
from generators.sampling.optimise import minimise
from generators.sampling.sample import GuidedSampling
from generators.sampling.step import Step
from generators.sampling.strategy import Strategy
from probe import Backbone, Capture, Probe
from probe.attention.edit import inject
from probe.attention.positions import AddedPositions
from store.errors import InvalidInputError, UnknownLayerError
from store.selection import Selection

GUIDED = pytest.mark.parametrize("guided", [False, True])


class TestEveryFamily:
    @pytest.fixture(params=FAMILIES)
    def name(self, request: pytest.FixtureRequest) -> str:
        return request.param

    @pytest.fixture
    def family(self, name: str) -> Family:
        return FAMILIES[name]

    @pytest.fixture
    def backbone(self, name: str) -> Backbone:
        return backbone_of(name)

    # Nothing changed ----------------------------------------------------------------------------------------------

    @GUIDED
    def test_changing_nothing_is_the_plain_pipeline_to_the_bit(
        self, name: str, family: Family, backbone: Backbone, guided: bool
    ) -> None:
        def same(step: Step) -> None:
            step.latents = step.latents.clone()
            step.positions = step.positions
            step.edit_attention(-1, lambda attention, attend: attend(attention))
            step.read([0])
            step.predict()

        plain, before = plain_latents(name, 2, guided=guided), state_of(backbone)
        strategy = Doing(same)
        guided_latents = latents_of(family, backbone, [Strategy(), strategy], guided=guided, steps=2)
        assert torch.equal(plain, guided_latents)
        assert strategy.steps == [0, 1]
        check_same_state(before, state_of(backbone))
        assert torch.equal(plain, latents_of(family, backbone, guided=guided, steps=2))

    def test_everything_is_restored_after_an_exception(self, name: str, family: Family, backbone: Backbone) -> None:
        plain, before = plain_latents(name, 1), state_of(backbone)
        block = backbone.denoisers[0].get_submodule(backbone.layers[-1].name.rpartition(".")[0])

        def fail(*arguments: Any) -> Any:
            raise RuntimeError("on purpose")

        def change(step: Step) -> None:
            step.positions = type(step.positions)(**{n: t + 0.1 for n, t in step.positions.tensors().items()})
            step.latents = step.latents + 1

        def before_a_step(step: Step) -> None:
            change(step)
            fail()

        def in_attention(step: Step) -> None:
            change(step)
            step.edit_attention(1, fail)

        def while_reading(step: Step) -> None:
            in_attention(step)
            step.read([1])

        strategies = [Doing(before_a_step), Doing(in_attention), Doing(while_reading), Doing(change, fail)]
        for strategy in strategies:
            with pytest.raises(RuntimeError, match="on purpose"):
                latents_of(family, backbone, strategy, steps=1, gradient_checkpointing=True)
            check_same_state(before, state_of(backbone))
        handle = block.register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            latents_of(family, backbone, Doing(change), steps=1)
        handle.remove()
        check_same_state(before, state_of(backbone))
        assert torch.equal(plain, latents_of(family, backbone, steps=1))

    # Latents ------------------------------------------------------------------------------------------------------

    @GUIDED
    def test_an_edit_at_step_0_is_as_if_the_pipeline_had_begun_there(
        self, name: str, family: Family, backbone: Backbone, guided: bool
    ) -> None:
        start = torch.randn(plain_latents(name, 1).shape, generator=torch.Generator().manual_seed(3))

        def begin(step: Step) -> None:
            if step.number == 0:
                step.latents = start

        edited = latents_of(family, backbone, Doing(begin), guided=guided, steps=2)
        # the stochastic scheduler draws from the generator, of which preparing the latents takes a part
        drawn = torch.Generator().manual_seed(5)
        torch.randn(start.shape, generator=drawn)
        begun = latents_of(
            family, backbone, guided=guided, steps=2, arguments={"latents": start.clone(), "generator": drawn}
        )
        assert torch.equal(edited, begun)

    @GUIDED
    def test_every_branch_sees_the_edit_and_the_scheduler_starts_from_it(
        self, family: Family, backbone: Backbone, guided: bool
    ) -> None:
        given: list[Tensor] = []
        expected: dict[int, Tensor] = {}
        shown: list[Tensor] = []

        def edit(step: Step) -> None:
            given.append(step.latents)
            if step.number == 1:
                step.latents = step.latents * 0.5 + 1.0
            expected[step.number] = step.latents

        handle = backbone.denoisers[0].register_forward_pre_hook(
            lambda module, args, call: shown.append(call["hidden_states"]), with_kwargs=True
        )
        try:
            latents_of(family, backbone, Doing(edit), guided=guided)
        finally:
            handle.remove()
        calls = 2 if guided and backbone.guidance == "calls" else 1
        assert len(shown) == 3 * calls
        for number, hidden in enumerate(shown):
            assert len(hidden) == (2 if guided and backbone.guidance == "batch" else 1)
            for element in hidden:
                assert torch.equal(element[None], expected[number // calls])
        unedited = Doing(lambda step: given.append(step.latents))
        given.clear()
        plain = latents_of(family, backbone, unedited, guided=guided)
        edited = latents_of(family, backbone, Doing(edit), guided=guided)
        assert torch.equal(given[1], given[4])
        moved = expected[1] - given[1]
        # what is left of the edit after the step: much the same everywhere but for the change of noise level
        kept = ((given[5] - given[2]) * moved).sum() / moved.square().sum()
        assert kept > 0.2, "the edit survives the scheduler's step"
        assert not torch.allclose(plain, edited, atol=0.1)

    # Positions ----------------------------------------------------------------------------------------------------

    def test_positions_have_the_shape_of_the_grid(self, family: Family, backbone: Backbone) -> None:
        found: list[Any] = []
        latents_of(family, backbone, Doing(lambda step: found.append((step.layout, step.positions))), steps=1)
        layout, positions = found[0]
        grid = (3, layout.height, layout.width)
        if isinstance(positions, AddedPositions):
            assert positions.table.shape == (*grid, 2 * family.channels)
        else:
            assert {table.shape for table in positions.tensors().values()} == {(*grid, family.channels)}
            assert torch.equal(positions.query_cos, positions.key_cos)
            assert torch.allclose(positions.query_cos**2 + positions.query_sin**2, torch.tensor(1.0))

    def test_positions_are_replaced_at_one_step_for_every_branch(self, family: Family, backbone: Backbone) -> None:
        def swap(step: Step) -> None:
            if step.number == 1:
                step.positions = _reversed_in_time(step.positions)

        captures: list[list[Capture]] = [[], []]
        for found, strategy in zip(captures, (Strategy(), Doing(swap)), strict=True):
            with Probe(backbone, Selection("all", [0], BOTH), found.append):
                latents_of(family, backbone, strategy, guided=True)
        plain, swapped = ({(c.step, c.branch): c for c in found} for found in captures)
        assert len(plain) == len(swapped) == 3 * 2
        for (step, branch), capture in swapped.items():
            same = torch.equal(capture.key, plain[step, branch].key)
            assert same == (step == 0), (step, branch)
        for branch in BOTH:
            assert not torch.allclose(swapped[1, branch].query, plain[1, branch].query, atol=1e-2)

    def test_positions_of_another_size_or_kind_are_refused(self, family: Family, backbone: Backbone) -> None:
        def wrong(step: Step) -> None:
            step.positions = type(step.positions)(**{n: t[:2] for n, t in step.positions.tensors().items()})

        with pytest.raises(InvalidInputError, match=r"at this size; got .*: 2 x .*Positions belong to the backbone"):
            latents_of(family, backbone, Doing(wrong), steps=1)

    # Reading ------------------------------------------------------------------------------------------------------

    @GUIDED
    def test_what_is_read_is_what_the_pipeline_then_computes(
        self, family: Family, backbone: Backbone, guided: bool
    ) -> None:
        read: dict[int, Any] = {}

        def look(step: Step) -> None:
            step.latents = step.latents * 0.9
            read[step.number] = step.read([0, 1], features=True)

        seen: list[Capture] = []
        with Probe(backbone, Selection("all", [0, 1]), seen.append, features=True):
            latents_of(family, backbone, Doing(look), guided=guided, steps=2)
        assert [(c.step, c.layer) for c in seen] == [(0, 0), (0, 1), (1, 0), (1, 1)], "a probe sees no pass of ours"
        for capture in seen:
            mine = read[capture.step].captures[capture.layer]
            assert (mine.step, mine.layer_name, mine.branch) == (capture.step, capture.layer_name, "cond")
            assert (mine.timestep, mine.layout) == (capture.timestep, capture.layout)
            for name in ("query", "key", "features"):
                assert torch.allclose(getattr(mine, name), getattr(capture, name), atol=1e-5), name
            call = read[capture.step].attention[capture.layer]
            assert call.value.shape == call.key.shape

    def test_later_layers_are_not_evaluated(self, family: Family, backbone: Backbone) -> None:
        counts = [0, 0]
        handles = []
        for number, layer in enumerate((0, -1)):
            block = backbone.denoisers[0].get_submodule(backbone.layers[layer].name.rpartition(".")[0])

            def count(module: Any, args: Any, number: int = number) -> None:
                counts[number] += 1

            handles.append(block.register_forward_pre_hook(count))

        def look(step: Step) -> None:
            step.read([0])
            step.read([0], blocks=True)

        try:
            latents_of(family, backbone, Doing(look), steps=1)
        finally:
            for handle in handles:
                handle.remove()
        assert counts == [3, 1]

    def test_block_features_are_what_the_block_returns(self, family: Family, backbone: Backbone) -> None:
        own: list[Tensor] = []
        block = backbone.denoisers[0].get_submodule(backbone.layers[0].name.rpartition(".")[0])
        read: list[Any] = []
        latents_of(family, backbone, Doing(lambda step: read.append(step.read([0], blocks=True))), steps=1)
        handle = block.register_forward_hook(lambda m, a, output: own.append(output))
        try:
            latents_of(family, backbone, steps=1)
        finally:
            handle.remove()
        output = own[0][0] if isinstance(own[0], tuple) else own[0]
        assert torch.allclose(read[0].blocks[0].flatten(0, 2), output[0], atol=1e-5)

    # Gradients ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_gradients_are_finite_differences(self, family: Family, backbone: Backbone, checkpointing: bool) -> None:
        weights = [weight for weight in backbone.denoisers[0].parameters() if weight.grad is not None]
        compared: dict[str, tuple[float, float]] = {}

        def measure(step: Step) -> None:
            values = {"latents": step.latents, **step.positions.tensors()}

            def loss(values: dict[str, Tensor]) -> Tensor:
                tables = {name: value for name, value in values.items() if name != "latents"}
                found = step.read(
                    [0, 1], latents=values["latents"], positions=type(step.positions)(**tables), blocks=True
                )
                capture = found.captures[1]
                flow = (capture.query[:, 0] * capture.key[:, 1] * _pattern(capture.key[:, 1])).mean()
                return flow + (found.blocks[0] * _pattern(found.blocks[0])).mean()

            with torch.enable_grad():
                leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
                gradients = torch.autograd.grad(loss(leaves), list(leaves.values()))
            for (name, value), gradient in zip(values.items(), gradients, strict=True):
                direction = gradient / gradient.norm()
                width = 0.02 * float(value.norm()) / value.numel() ** 0.5
                ends = [loss({**values, name: value + sign * width * direction}) for sign in (1, -1)]
                compared[name] = float((ends[0] - ends[1]) / (2 * width)), float(gradient.norm())

        latents_of(family, backbone, Doing(measure), steps=1, gradient_checkpointing=checkpointing)
        assert set(compared) >= {"latents"}
        assert len(compared) in (2, 5)
        for name, (difference, gradient) in compared.items():
            assert gradient > 1e-5, name
            assert difference == pytest.approx(gradient, rel=0.03), name
        assert not weights
        assert all(weight.grad is None for weight in backbone.denoisers[0].parameters())

    def test_minimising_lowers_a_loss_on_latents_and_on_positions(self, family: Family, backbone: Backbone) -> None:
        for what in ("latents", "positions"):
            losses: list[float] = []

            def optimise(step: Step, what: str = what, losses: list[float] = losses) -> None:
                def loss(values: dict[str, Tensor]) -> Tensor:
                    given: dict[str, Any] = (
                        {"latents": values["latents"]}
                        if what == "latents"
                        else {"positions": type(step.positions)(**values)}
                    )
                    capture = step.read([1], **given).captures[1]
                    error = (capture.query * capture.key * _pattern(capture.key)).mean()
                    losses.append(float(error.detach()))
                    return error

                start = {"latents": step.latents} if what == "latents" else step.positions.tensors()
                found = minimise(step, start, loss, learning_rates=[0.02] * 4)
                if what == "latents":
                    step.latents = found["latents"]
                else:
                    step.positions = type(step.positions)(**found)

            plain = latents_of(family, backbone, steps=1)
            result = latents_of(family, backbone, Doing(optimise), steps=1)
            assert losses[-1] < losses[0]
            assert not torch.allclose(plain, result, atol=1e-3)

    def test_a_loss_that_is_not_finite_ends_the_run(self, family: Family, backbone: Backbone) -> None:
        before, good = state_of(backbone), []

        def diverge(step: Step) -> None:
            good.append(step.latents)
            factor = float("nan") if step.number == 1 else 1.0
            loss = lambda values: step.read([0], **values).captures[0].query[..., 0].sum() * factor  # noqa: E731
            step.latents = minimise(step, {"latents": step.latents}, loss, learning_rates=[0.01])["latents"]

        with pytest.raises(GuidanceDivergedError) as caught:
            latents_of(family, backbone, Doing(diverge))
        timestep = backbone.timesteps(3)[1]
        assert str(caught.value) == (
            f"the loss of iteration 0 is not finite at step 1 of 3 (timestep {timestep:g}). The latents with which "
            "that step began are kept as the error's .latents. Lower the learning rate or the scale, or guide fewer "
            "steps."
        )
        assert caught.value.step == 1
        assert torch.equal(caught.value.latents, good[1])
        check_same_state(before, state_of(backbone))

    # Guidance -----------------------------------------------------------------------------------------------------

    @GUIDED
    def test_a_delta_moves_the_guided_prediction_whatever_the_guidance(
        self, family: Family, backbone: Backbone, guided: bool
    ) -> None:
        def by(amount: float) -> Doing:
            return Doing(delta=lambda step, prediction: torch.full_like(prediction, amount))

        predictions = []
        for strategies in ([], [by(0.25), Strategy(), by(0.5)]):
            found: list[Tensor] = []
            with _watched_step(backbone, found):
                latents_of(family, backbone, strategies, guided=guided, steps=1)
            predictions.append(found[0])
        assert torch.allclose(predictions[1], predictions[0] + 0.75, atol=2e-5)

    def test_predict_is_the_conditional_branch(self, family: Family, backbone: Backbone) -> None:
        found: list[tuple[Tensor, Tensor]] = []

        def compare(step: Step, prediction: Tensor) -> None:
            found.append((prediction, step.predict()))

        latents_of(family, backbone, Doing(delta=compare), guided=True, steps=2)
        assert len(found) == 2
        for own, again in found:
            assert torch.allclose(own, again, atol=1e-5)

    def test_injected_keys_and_values_are_attended_to_in_every_branch(self, family: Family, backbone: Backbone) -> None:
        theirs: list[Any] = []

        def put(step: Step) -> None:
            noise = torch.randn(step.latents.shape, generator=torch.Generator().manual_seed(8))
            call = step.read([0], latents=step.schedule.noised(step.latents * 0.1, noise, step.number)).attention[0]
            theirs.append(call)
            step.edit_attention(0, inject(call.key, call.value))

        seen: list[Capture] = []
        outputs = []
        with Probe(backbone, Selection([0], [0], BOTH), seen.append):
            outputs.append(latents_of(family, backbone, Doing(put), guided=True, steps=1))
        outputs.append(latents_of(family, backbone, guided=True, steps=1))
        assert [c.branch for c in seen].count("uncond") == 1
        tokens = seen[0].layout.video_tokens
        video = slice(-tokens, None) if backbone.text_position == "first" else slice(0, tokens)
        for capture in seen:
            assert torch.equal(capture.key.flatten(1, 3), theirs[0].key[0, :, video])
        assert not torch.allclose(outputs[0], outputs[1], atol=1e-3)


def test_bad_input_is_refused_in_full_sentences() -> None:
    name = "cogvideox rotary"
    family, backbone = FAMILIES[name], backbone_of(name)
    arguments = family.arguments(backbone, steps=1)
    with pytest.raises(InvalidInputError) as caught:
        GuidedSampling(backbone, Strategy(), {**arguments, "guidance_rescale": 0.7})
    assert str(caught.value) == (
        "guidance_rescale=0.7 rescales the guided prediction, so that what a strategy adds to it would not arrive. "
        "Leave guidance_rescale out."
    )
    two = {name: embeds.expand(2, -1, -1) for name, embeds in family.conditioning.items()}
    with pytest.raises(InvalidInputError) as caught:
        latents_of(family, backbone, Strategy(), steps=1, arguments=two)
    assert str(caught.value) == (
        "one clip is guided at a time; this call of CogVideoXPipeline makes several. Call it once for each."
    )

    def at_step(do: Any) -> Doing:
        return Doing(do)

    with pytest.raises(UnknownLayerError, match=r"layer 3 does not exist. The backbone has layers 0 to 2."):
        latents_of(family, backbone, at_step(lambda step: step.read([3])), steps=1)
    with pytest.raises(InvalidInputError, match=r"layers is empty"):
        latents_of(family, backbone, at_step(lambda step: step.read([])), steps=1)
    with pytest.raises(InvalidInputError, match=r"must keep the shape \(1, 3, 4, 10, 14\); got \(1, 3, 4, 10\)"):
        latents_of(family, backbone, at_step(lambda step: setattr(step, "latents", step.latents[..., 0])), steps=1)
    with pytest.raises(GuidanceDivergedError, match="edited latents are not finite at step 0 of 1"):
        latents_of(family, backbone, at_step(lambda step: setattr(step, "latents", step.latents / 0)), steps=1)
    with pytest.raises(GuidanceDivergedError, match="what is added to the prediction is not finite"):
        latents_of(family, backbone, Doing(delta=lambda step, p: p * torch.inf), steps=1)


def test_reprs() -> None:
    name = "cogvideox rotary"
    found: list[Any] = []
    strategy = Doing(lambda step: found.extend([repr(step), repr(step.positions), repr(step.read([0, 2]))]))
    latents_of(FAMILIES[name], backbone_of(name), strategy, steps=1)
    assert found == [
        "Step(0 of 1, timestep 999, 3 frames)",
        "RotaryPositions(query_cos, query_sin, key_cos, key_sin: 3 x 5 x 7 x 16)",
        "Reading(layers 0, 2)",
    ]


def _pattern(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(4))


def _reversed_in_time(positions: Any) -> Any:
    return type(positions)(**{name: table.flip(0) for name, table in positions.tensors().items()})


@pytest.mark.parametrize("name", SCHEDULERS)
class TestEveryScheduler:
    test_edit = TestEveryFamily.test_every_branch_sees_the_edit_and_the_scheduler_starts_from_it
    test_same = TestEveryFamily.test_changing_nothing_is_the_plain_pipeline_to_the_bit

    @pytest.fixture
    def family(self, name: str) -> Family:
        return SCHEDULERS[name]

    @pytest.fixture
    def backbone(self, name: str) -> Backbone:
        return backbone_of(name)
