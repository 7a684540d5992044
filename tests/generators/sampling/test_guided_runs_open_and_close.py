"""Guided runs that open twice, close in any order, meet a second thread, or a scheduler that someone wrapped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from diffusers import CogVideoXDDIMScheduler

from generators import GuidedSampling, Step, Strategy, sample
from generators.sampling.scheduler import EditedSteps
from probe import Backbone, load_backbone
from probe.attention.edit import AttentionEdit
from probe.mini import MiniConfig, new_pipeline
from store.errors import ProbeStateError, UnsupportedBackboneError
from store.layout import TokenLayout

PROMPT = "a red disc moves left over blue stripes"


class Brighter(Strategy):
    def before(self, step: Step) -> None:
        step.latents = step.latents + 0.2


@pytest.fixture
def tiny() -> Iterator[Backbone]:
    """A backbone of which each test checks that nothing is left on it."""
    backbone = load_backbone(new_pipeline(MiniConfig(images=2, height=16, width=16, layers=2)), device="cpu")
    before = state(backbone)
    yield backbone
    assert state(backbone) == before


def state(backbone: Backbone) -> Any:
    transformer, scheduler = backbone.pipeline.transformer, backbone.pipeline.scheduler
    return (
        [id(module.processor) for _, module in backbone.modules[0]],
        {name: id(value) for name, value in vars(scheduler).items() if callable(value)},
        [list(hooks) for hooks in (transformer._forward_pre_hooks, transformer._forward_hooks)],
        [weight.requires_grad for weight in transformer.parameters()],
        [vars(module).get("gradient_checkpointing") for module in transformer.modules()],
        ["_gradient_checkpointing_func" in vars(module) for module in transformer.modules()],
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_guided_runs_closed_in_any_order_leave_nothing(
    tiny: Backbone, order: tuple[int, int], checkpointing: bool
) -> None:
    arguments = tiny.arguments(PROMPT, steps=2)
    runs = [GuidedSampling(tiny, Brighter(), arguments, gradient_checkpointing=checkpointing) for _ in range(2)]
    for run in runs:
        run.__enter__()
    for number in order:
        runs[number].__exit__()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_attention_edits_closed_in_any_order_leave_nothing_and_the_open_one_still_edits(
    tiny: Backbone, order: tuple[int, int]
) -> None:
    _, module = tiny.modules[0][0]
    processor, calls = module.processor, [0, 0]

    def counted(number: int) -> Any:
        def editor(attention: Any, attend: Any) -> Any:
            calls[number] += 1
            return attend(attention)

        return editor

    layout: TokenLayout = tiny.layout(16, 16, 2)
    edits = [AttentionEdit({0: module}, {0: [counted(number)]}, layout, "first") for number in range(2)]
    for edit in edits:
        edit.__enter__()
    tiny.generate(PROMPT, steps=1)
    edits[order[0]].__exit__()
    tiny.generate(PROMPT, steps=1)
    edits[order[1]].__exit__()
    tiny.generate(PROMPT, steps=1)
    assert calls == ([1, 2] if order == (0, 1) else [2, 1])
    assert module.processor is processor


def test_an_open_guided_run_or_editing_of_steps_is_not_entered_twice(tiny: Backbone) -> None:
    started: list[Any] = []

    class Counted(Brighter):
        def start(self, run: Any) -> None:
            started.append(run)

    guided = GuidedSampling(tiny, Counted(), tiny.arguments(PROMPT, steps=2))
    for context in (guided, EditedSteps(tiny.pipeline.scheduler, lambda latents: None)):
        with context, pytest.raises(ProbeStateError, match="is open already"):
            context.__enter__()
    assert len(started) == 1


def test_a_second_thread_under_a_guided_run_is_refused(tiny: Backbone) -> None:
    errors: list[BaseException] = []
    expected = sample(tiny, PROMPT, Brighter(), steps=3)

    def other() -> None:
        try:
            tiny.generate(PROMPT, seed=2, steps=3)
        except BaseException as error:
            errors.append(error)

    def start_another(done: int, steps: int) -> None:
        if done == 1:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    clip = sample(tiny, PROMPT, Brighter(), steps=3, on_step=start_another)
    assert [type(error) for error in errors] == [ProbeStateError]
    assert np.array_equal(clip.images, expected.images)


@pytest.mark.parametrize("keyword", [False, True])
def test_a_scheduler_step_that_another_tool_wrapped_without_its_signature_is_edited(
    tiny: Backbone, keyword: bool
) -> None:
    expected = sample(tiny, PROMPT, Brighter(), steps=3)
    scheduler = tiny.pipeline.scheduler
    own = scheduler.step

    def bare(*args: Any, **kwargs: Any) -> Any:  # another tool's wrapper, without functools.wraps
        return own(*args, **kwargs)

    def named(*args: Any, **kwargs: Any) -> Any:
        names = ("model_output", "timestep", "sample")
        return own(**dict(zip(names, args, strict=False)), **kwargs)

    scheduler.step = named if keyword else bare
    try:
        clip = sample(tiny, PROMPT, Brighter(), steps=3)
        assert scheduler.step is (named if keyword else bare)
    finally:
        del scheduler.step
    assert np.array_equal(clip.images, expected.images)


def test_a_step_without_a_sample_is_refused_by_name() -> None:
    class Odd(CogVideoXDDIMScheduler):
        def step(self, model_output: Any, timestep: Any) -> Any:
            return model_output

    with pytest.raises(UnsupportedBackboneError, match="its step takes no argument named 'sample'"):
        EditedSteps(Odd(), lambda latents: None)
    scheduler = CogVideoXDDIMScheduler()
    with (
        EditedSteps(scheduler, lambda latents: None),
        pytest.raises(UnsupportedBackboneError, match="was called without a sample"),
    ):
        scheduler.step()
