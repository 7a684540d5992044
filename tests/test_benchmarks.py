"""Benchmarks answer ``--help`` instead of running, and their samples are what they say."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from analyses.statistics import by_source
from benchmarks.adapters import runs
from benchmarks.adapters.arms import FYM, Trained, ablations, arms, candidates, splits, weights
from benchmarks.adapters.cost import _clips, _steps
from benchmarks.adapters.measures import NEW
from benchmarks.adapters.runs import Fit
from benchmarks.correspondence.interval_coverage import drawn_clips
from benchmarks.results import Results
from benchmarks.transfer.clips import Case
from generators.adapters.decoupled.follow_your_motion import FollowYourMotion
from generators.transfer.method import PlainBackbone
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from store.errors import InvalidInputError

FOLDER = Path(__file__).parents[1] / "benchmarks"
COMMANDS = {
    ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__main__").removesuffix("__main__"): path
    for path in sorted(FOLDER.rglob("*.py"))
    if 'if __name__ == "__main__"' in path.read_text()
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_benchmark_answers_help_without_running(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = COMMANDS[name]
    assert "ArgumentParser(" in path.read_text(), "it would run, for up to hours"
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    module = ".".join(("benchmarks", *path.relative_to(FOLDER).with_suffix("").parts))
    with pytest.raises(SystemExit) as ended:
        import_module(module).main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_the_benchmarks_that_run_one_after_the_other_exist() -> None:
    assert set(import_module("benchmarks.__main__").NAMES) <= set(COMMANDS)


def test_samples_of_the_coverage_are_drawn_with_replacement() -> None:
    """As from a population without end: a clip that is drawn twice counts as two, so no sample is flattered."""
    values = np.arange(4.0)
    population = xr.Dataset({"accuracy": ("clip", values)}, {"clip": list("abcd"), "source": ("clip", list("abcd"))})
    rng = np.random.default_rng(0)
    sample = drawn_clips(population, 12, rng)
    assert by_source(sample["accuracy"]).sizes["clip"] == 12
    means = [float(by_source(drawn_clips(population, 4, rng)["accuracy"]).mean()) for _ in range(200)]
    assert np.std(means) == pytest.approx(values.std() / 2, rel=0.15), "without replacement it would be 0"


# Adapters ---------------------------------------------------------------------------------------------------------


def test_every_trained_arm_can_be_made_and_its_steps_and_clips_are_counted() -> None:
    backbone = load_backbone(new_pipeline(MiniConfig(layers=2)))
    for name in ("mini", "mini-rope"):
        made = {**arms(name), **ablations(name), **splits(name), **candidates(name), **weights(name)}
        for label, arm in made.items():
            if isinstance(arm, Trained):
                assert arm.new(backbone).parameter_count > 0, label
                assert _steps(arm, name) == [arm.training.steps], label
            elif isinstance(arm, FollowYourMotion):
                assert arm.new_adapter(backbone).parameter_count > 0, label
        assert _clips(arms(name)["DeT"]) == 9, "two prompts with 6 and 2 layers, one with 1, 3, 4 and 5, own caption"
        assert _steps(arms(name)[FYM], name) == [100, 200]
        assert _steps(splits(name)["spatial heads alone"], name) == [100]


def test_a_fit_is_kept_by_the_weights_and_a_line_that_was_cut_off_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = [Fit("mini", Case(seed), PlainBackbone()) for seed in (1, 2)]
    monkeypatch.setattr(runs, "weights_digest", lambda name: "first")
    path = tmp_path / "fits.jsonl"
    path.write_text("".join(json.dumps({fit.key: {"seconds": 1.0}}) + "\n" for fit in fits)[:-9])
    results = Results(path, 1)
    assert results.get(fits[0]) == {"seconds": 1.0}
    assert results.missing([*fits, *fits]) == [fits[1]]
    monkeypatch.setattr(runs, "weights_digest", lambda name: "other")
    assert results.missing(fits) == fits


def test_an_arm_that_is_refused_is_kept_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Fit, which: str) -> None:
        raise InvalidInputError(f"no clip of {which}.")

    monkeypatch.setattr(Fit, "clip", refuse)
    found = Fit("mini", Case(1), PlainBackbone()).measure()
    assert found == {"refused": f"InvalidInputError: no clip of {NEW}."}
