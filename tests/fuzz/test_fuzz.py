"""A seeded sample of wrong arguments to every public function: only ditprobe's own errors come out."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from fuzz_cases import CASES, NOT_CALLED, World
from fuzz_harness import Attempt, Outcome, attempts, bounded, error_of, run

import analyses
import ditprobe
import generators
import probe
import store

SAMPLE = 12
"""Calls of each function; ``python -m benchmarks.fuzz`` makes all of them."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        with bounded(folder):
            yield World(folder)


def test_every_public_name_is_called_or_says_why_not() -> None:
    public = {name for floor in (ditprobe, store, probe, analyses, generators) for name in floor.__all__}
    called = {case.partition(".")[0] for case in CASES}
    left_out = {name for names in NOT_CALLED for name in names.split()}
    assert public - called - left_out == set()
    assert left_out & called <= {"Backbone", "Recording"}, "those are called through what makes them"


@pytest.mark.usefixtures("registries_as_before")
@pytest.mark.parametrize("case", sorted(CASES))
def test_only_our_own_errors_come_out(world: World, case: str) -> None:
    call, arguments = CASES[case](world)
    error = error_of(call, arguments)
    assert error is None or case in NO_MODEL, f"the valid call of {case} fails: {error!r}"
    outcome = Outcome()
    every = list(attempts(world, [case]))
    for attempt in random.Random(case).sample(every, min(SAMPLE, len(every))):
        outcome.add(attempt, run(world, attempt))
    assert outcome.raw == {}


NO_MODEL = {"load_clip_model", "load_image_encoder", "read_difftrack", "read_mtbench"}
"""Refused in the right way: nothing is there to load or read."""


def test_the_harness_tells_raw_errors_from_our_own() -> None:
    outcome = Outcome()
    outcome.add(Attempt("f", "x", "None"), error_of(lambda x: 1 / x, {"x": 0}))
    outcome.add(Attempt("f", "x", "0"), error_of(store.parse_prompt, {"text": ""}))
    outcome.add(Attempt("f", "x", "1"), None)
    assert (outcome.calls, len(outcome.raw), sum(outcome.typed.values())) == (3, 1, 1)
    assert next(iter(outcome.raw.values())) == "ZeroDivisionError: division by zero"
