"""Sweeps, recordings and prompts compared: paired intervals, and seeds as a dim."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sweep_helpers import PROMPT

from analyses import by_seed, compare, plot_comparison, sweep
from analyses.layers.differences import MARK
from probe import Backbone
from probe.recording.record import record
from store import Selection, make_scene
from store.errors import InvalidInputError

LAST = Selection(steps=[-1], layers="all")


def swept(shift: float, clips: list[str], noise: float = 1.0) -> xr.Dataset:
    rng = np.random.default_rng(0)
    values = 50 + rng.normal(size=(len(clips), 2, 3)) * 10
    values = values + shift + noise * np.random.default_rng(1).normal(size=values.shape)
    heads = np.repeat(values[..., None], 2, -1)
    over = ("clip", "step", "layer")
    return xr.Dataset(
        {"accuracy": (over, values, {"units": "%"}), "head_accuracy": ((*over, "head"), heads, {"units": "%"})},
        {"clip": clips, "source": ("clip", clips), "step": [0, 49], "layer": [1, 2, 3], "head": [0, 1]},
        {"threshold_cells": 1.0},
    )


def test_clips_are_paired_by_name_so_that_what_they_share_cancels() -> None:
    names = list("abcdef")
    first, second = swept(3.0, names, 0.0), swept(0.0, names, 0.5)
    found = compare(first, second.isel(clip=[5, 3, 1, 0, 2, 4]), names=("new", "old"))
    expected = (first["accuracy"] - second["accuracy"]).mean("clip")
    np.testing.assert_allclose(found["difference"], expected)
    assert found["apart"].all()
    assert float(found["upper"].max() - found["lower"].min()) < 4  # far less than the clips differ among themselves
    assert (found.attrs["first"], found.attrs["second"], found.attrs["pairs"]) == ("new", "old", 6)
    same = compare(first, first)
    assert not same["apart"].any()


def test_heads_are_compared_at_a_step() -> None:
    found = compare(swept(3.0, list("abcd")), swept(0.0, list("abcd")), measure="head_accuracy")
    assert found["difference"].dims == ("step", "layer", "head")
    figure = plot_comparison(found, step=0)
    np.testing.assert_allclose(figure.data[0].z, found["difference"].sel(step=0), rtol=1e-5)
    with pytest.raises(InvalidInputError, match=r"^step 5 was not compared\. Compared: 0, 49\.$"):
        plot_comparison(found, step=5)


def test_the_picture_parts_at_0_and_marks_what_is_not_told_apart() -> None:
    found = compare(swept(0.0, list("abcd"), 3.0), swept(0.0, list("abcd"), 0.0))
    figure = plot_comparison(found)
    assert figure.data[0].zmin == -figure.data[0].zmax
    assert figure.layout.title.text.startswith("Accuracy: first minus second<br>")
    assert "4 pairs" in figure.layout.title.text
    assert len(figure.data[-1].x) == int((~found["apart"]).sum())
    with pytest.raises(InvalidInputError, match="compared lacks apart, difference, lower, upper"):
        plot_comparison(swept(0.0, ["a"]))


def test_what_cannot_be_compared_is_refused() -> None:
    first = swept(0.0, list("ab"))
    with pytest.raises(InvalidInputError, match="only first has clip b; only second has clip c"):
        compare(first, swept(0.0, list("ac")))
    assert compare(first, swept(0.0, list("ac")), pair="order").attrs["pairs"] == 2
    with pytest.raises(InvalidInputError, match="there are 2 and 1"):
        compare(first, swept(0.0, ["a"]), pair="order")
    with pytest.raises(InvalidInputError, match=r"both hold no 'confidence'\. Both hold: accuracy, head_accuracy\."):
        compare(first, first, measure="confidence")
    with pytest.raises(InvalidInputError, match="differ in their threshold in cells"):
        compare(first, first.assign_attrs(threshold_cells=0.5))
    with pytest.raises(InvalidInputError, match="a sweep can be compared with a sweep alone"):
        compare(first, "a prompt")
    with pytest.raises(InvalidInputError, match="two prompts need backbone and selection"):
        compare("a prompt", "another", selection=LAST)


def test_prompts_are_paired_by_seed(mini: Backbone) -> None:
    other = PROMPT.replace("right", "left")
    found = compare(PROMPT, other, backbone=mini, selection=LAST, seed=[3, 8], steps=2, progress=False)
    assert (found.attrs["measure"], found.attrs["first"], found.attrs["pairs"]) == ("confidence", PROMPT, 2)
    assert np.isfinite(found["lower"]).all()
    same = compare(PROMPT, PROMPT, backbone=mini, selection=LAST, seed=[3, 8], steps=2, progress=False)
    assert float(abs(same["difference"]).max()) == 0
    assert MARK not in same.attrs


def test_recordings_are_compared(mini: Backbone, tmp_path) -> None:
    scenes = [make_scene(seed) for seed in (0, 1)]
    runs = [
        [record(mini, clip, LAST, tmp_path / f"{seed}{n}.zarr", noise="forward", seed=seed, on_step=False)
         for n, clip in enumerate(scenes)]
        for seed in (0, 1)
    ]  # fmt: skip
    found = compare(*runs, clips=scenes, progress=False)
    assert (found.attrs["measure"], found.attrs["pairs"]) == ("accuracy", 2)
    alone = compare(runs[0][0], runs[1][0], progress=False)
    assert (alone.attrs["measure"], alone.attrs["pairs"]) == ("confidence", 1)
    assert np.isnan(alone["lower"]).all()


def test_seeds_are_a_dim(mini: Backbone) -> None:
    scenes = {"a": make_scene(0), "b": make_scene(1)}
    several = sweep(mini, scenes, LAST, seed=[5, 2], progress=False)
    assert several.attrs["draw_seeds"] == [5, 2]
    found = by_seed(several)
    assert (found["seed"].values.tolist(), found["clip"].values.tolist()) == ([5, 2], ["a", "b"])
    for seed in (5, 2):
        alone = sweep(mini, scenes, LAST, seed=seed, progress=False)
        np.testing.assert_array_equal(found["accuracy"].sel(seed=seed), alone["accuracy"])
        np.testing.assert_array_equal(by_seed(alone)["accuracy"].sel(seed=seed), alone["accuracy"])
    with pytest.raises(InvalidInputError, match=r"^seeds must be one or several, each once; got \[1, 1\]\.$"):
        sweep(mini, scenes, LAST, seed=[1, 1])
    with pytest.raises(InvalidInputError, match=r"^2 seeds are 2 draws; got draws=3\. Leave draws out\.$"):
        sweep(mini, scenes, LAST, seed=[1, 2], draws=3)
