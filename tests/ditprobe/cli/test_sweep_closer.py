"""``ditprobe sweep --closer``: its table, its file, its plan, and options that have no use with it."""

from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from analyses.layers.sweep_files import load_sweep

Run = Callable[..., Result]


def test_layers_are_measured_in_crops_that_follow(run: Run) -> None:
    words = ("sweep", "--scenes", "0:1", "--layers", "4,5", "--closer", 2, "--max-crops", 1, "--out", "closer.nc")
    dry = run(*words, "--dry-run").output
    assert "1 clip: one pass of the model for each window of a clip, and at most 1 pass for its crops" in dry
    assert not Path("closer.nc").exists()
    printed = run(*words, "--per-head").output
    assert "crops 2 times closer that follow layer 5" in printed
    found = load_sweep("closer.nc")
    assert found["layer"].values.tolist() == [4, 5]
    assert found["head_closer_accuracy"].sizes["head"] == 4
    assert f"the tracks that the crops follow: {float(found['coarse_accuracy'][0]):.1f} %" in printed
    assert "closer.nc" in run(*words, code=2).output


def test_what_has_no_use_with_it_is_refused(run: Run) -> None:
    words = ("sweep", "--scenes", "0:1", "--closer", 2)
    assert "--at has no use with --closer" in run(*words, "--at", "0", code=2).output
    assert "--prompt has no use with --closer" in run(*words, "--prompt", "a dog", code=2).output
    assert "Add --closer 2" in run("sweep", "--scenes", "0:1", "--max-crops", 2, code=2).output
