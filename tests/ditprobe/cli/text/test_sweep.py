"""``ditprobe sweep --csv``: the table beside the sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from typer.testing import Result

from analyses.layers.sweep_files import load_sweep

RUN = ("sweep", "--scenes", "0:2", "--at", "-1", "--layers", "3,4", "--no-features")


def test_a_sweep_writes_its_table_and_that_of_its_heads(run: Callable[..., Result]) -> None:
    output = run(*RUN, "--csv", "sweep.csv", "--per-head").output
    assert "table at sweep.csv\ntable at sweep-heads.csv\n" in output
    sweep, table, heads = load_sweep("sweep.nc"), pd.read_csv("sweep.csv"), pd.read_csv("sweep-heads.csv")
    assert (len(table), len(heads)) == (4, 16)
    np.testing.assert_allclose(table.groupby("layer")["accuracy"].mean(), sweep["accuracy"].mean(("clip", "step")))
    np.testing.assert_allclose(heads["head_accuracy"].mean(), sweep["head_accuracy"].mean())


def test_a_table_in_a_taken_place_is_refused_before_the_sweep(run: Callable[..., Result]) -> None:
    Path("sweep-heads.csv").write_text("mine")
    assert "sweep-heads.csv exists already" in run(*RUN, "--csv", "sweep.csv", "--per-head", code=2).output
    assert "cannot hold the table: its suffix must be .csv" in run(*RUN, "--csv", "sweep.txt", code=2).output
    assert not Path("sweep.nc").exists()
