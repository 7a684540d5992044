"""Probes, taps and clocks that open and close in any order, twice, after exceptions, and under two threads."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from probe import AttentionTap, Backbone, Capture, Probe, load_backbone
from probe.capture.clock import SamplerClock
from probe.mini import MiniConfig, new_pipeline
from store.errors import ProbeStateError
from store.selection import Selection

PROMPT = "a red disc moves left over blue stripes"


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
        sorted(name for name in sys.modules if name.startswith("probe._retargeted_")),
    )


def opened(backbone: Backbone, sink: Callable[[Capture], object], steps: Any = "all") -> Probe:
    return Probe(backbone, Selection(steps, [0, 1]), sink).__enter__()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_probes_closed_in_any_order_leave_nothing_and_those_open_still_see(tiny: Backbone, order: Any) -> None:
    found: list[list[Capture]] = [[], [], []]
    probes = [opened(tiny, captures.append) for captures in found]
    for closed, number in enumerate(order):
        tiny.generate(PROMPT, steps=2)
        assert [len(captures) for captures in found] == [4 * (1 + min(order.index(n), closed)) for n in range(3)], (
            "a closed probe sees nothing more, an open one everything"
        )
        probes[number].__exit__(None, None, None)
    tiny.generate(PROMPT, steps=2)
    assert sum(map(len, found)) == 4 * 6


def test_an_open_probe_is_not_entered_twice(tiny: Backbone) -> None:
    found: list[Capture] = []
    probe = Probe(tiny, Selection("all", [0]), found.append)
    with probe:
        with pytest.raises(ProbeStateError) as caught:
            probe.__enter__()
        tiny.generate(PROMPT, steps=2)
    assert str(caught.value) == "this probe is open already and cannot be entered twice. Make a second one."
    with probe:  # closed, it may be opened again
        tiny.generate(PROMPT, steps=1)
    tiny.generate(PROMPT, steps=1)
    assert [capture.step for capture in found] == [0, 1, 0]


def test_an_open_tap_or_clock_is_not_entered_twice(tiny: Backbone) -> None:
    tap = AttentionTap({0: tiny.modules[0][0][1]}, print)
    for context in (tap, SamplerClock(tiny.pipeline.scheduler)):
        with context, pytest.raises(ProbeStateError, match="is open already"):
            context.__enter__()


def test_a_second_thread_under_an_open_probe_is_refused_and_the_first_is_captured_whole(tiny: Backbone) -> None:
    found: list[Capture] = []
    errors: list[BaseException] = []
    alone: list[Capture] = []
    with Probe(tiny, Selection("all", [0, 1]), alone.append):
        expected = tiny.generate(PROMPT, seed=1, steps=4)

    def other() -> None:
        try:
            tiny.generate(PROMPT, seed=2, steps=4)
        except BaseException as error:
            errors.append(error)

    def start_another(done: int, steps: int) -> None:
        if done == 2:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    with Probe(tiny, Selection("all", [0, 1]), found.append):
        clip = tiny.generate(PROMPT, seed=1, steps=4, on_step=start_another)
    assert [type(error) for error in errors] == [ProbeStateError]
    assert "second thread" in str(errors[0])
    assert (clip.images == expected.images).all()
    assert [(capture.step, capture.layer) for capture in found] == [
        (step, layer) for step in range(4) for layer in (0, 1)
    ]
    assert all(torch.equal(one.query, same.query) for one, same in zip(found, alone, strict=True))


def test_one_thread_may_open_a_probe_and_another_run_the_model(tiny: Backbone) -> None:
    found: list[Capture] = []
    with Probe(tiny, Selection("all", [0, 1]), found.append):
        thread = threading.Thread(target=lambda: tiny.generate(PROMPT, steps=2))
        thread.start()
        thread.join()
    assert len(found) == 4


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_nothing_is_left_after_exceptions_in_sink_and_body(tiny: Backbone, order: tuple[int, int]) -> None:
    def fail(capture: Capture) -> None:
        raise KeyError("sink")

    probes = [opened(tiny, fail), opened(tiny, fail)]
    with pytest.raises(KeyError, match="sink"):
        tiny.generate(PROMPT, steps=1)
    for number in order:
        probes[number].__exit__(KeyError, KeyError("body"), None)


def test_a_probe_that_cannot_be_opened_leaves_nothing(tiny: Backbone) -> None:
    probe = Probe(tiny, Selection([0], [0, 1]), print)
    last = tiny.modules[0][1][1]
    processor = last.processor
    last.processor = lambda *args, **kwargs: None
    try:
        with pytest.raises(Exception, match="processor"):
            probe.__enter__()
    finally:
        last.processor = processor
    with probe:
        pass


def test_a_processor_that_someone_else_sets_meanwhile_stays_and_ours_is_silent(tiny: Backbone) -> None:
    module, calls = tiny.modules[0][0][1], []
    own = module.processor

    class Over:
        def __init__(self, under: Any) -> None:
            self.under = under

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.under(*args, **kwargs)

    tap = AttentionTap({0: module}, calls.append)
    tap.__enter__()
    module.processor = theirs = Over(module.processor)
    tap.__exit__()
    assert module.processor is theirs
    tiny.generate(PROMPT, steps=1)
    assert calls == []
    module.processor = own


def test_a_wrapper_that_someone_else_puts_over_ours_stays(tiny: Backbone) -> None:
    scheduler, found = tiny.pipeline.scheduler, []
    probe = opened(tiny, found.append)
    ours = scheduler.step
    scheduler.step = theirs = lambda *args, **kwargs: ours(*args, **kwargs)
    probe.__exit__(None, None, None)
    assert scheduler.step is theirs
    tiny.generate(PROMPT, steps=2)
    assert found == []
    del scheduler.step


def test_the_schedule_of_another_run_is_right_while_a_probe_is_open(tiny: Backbone) -> None:
    expected = tiny.timesteps(7)
    tiny.pipeline.scheduler.set_timesteps(3)
    with Probe(tiny, Selection("all", [0, 1]), print):
        assert tiny.timesteps(7) == expected
        assert len(tiny.pipeline.scheduler.timesteps) == 3
