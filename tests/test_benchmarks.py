"""Benchmarks answer ``--help`` instead of running, and their samples are what they say."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from analyses.statistics import by_source
from benchmarks.correspondence.interval_coverage import drawn_clips

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
