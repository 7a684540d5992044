"""Means and intervals over clips: windows of one clip count as one clip."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from analyses.correspondence.matching import match_points
from analyses.layers.sweep_dataset import with_harmonic_mean
from analyses.metrics.accuracy import matching_accuracy
from analyses.statistics import by_source, interval_levels, mean_over_clips
from store import TokenLayout
from store.errors import InvalidInputError

WINDOWS = {"source": ("clip", ["long", "short", "long", "long"])}


def test_a_long_clip_weighs_as_much_as_a_short_one() -> None:
    values = xr.DataArray(
        [[1.0, np.nan], [10.0, 4.0], [2.0, np.nan], [6.0, np.nan]], dims=("clip", "step"), coords=WINDOWS
    )
    np.testing.assert_array_equal(by_source(values), [[3.0, np.nan], [10.0, 4.0]])
    np.testing.assert_array_equal(mean_over_clips(values), [6.5, 4.0])
    assert np.isnan(mean_over_clips(values * np.nan)).all()


def test_few_clips_get_wider_intervals() -> None:
    levels = [interval_levels(clips)[0] for clips in (2, 5, 20, 1000)]
    assert levels == sorted(levels)
    assert levels[0] < 1e-6
    assert levels[-1] == pytest.approx(0.025, abs=2e-4)
    assert np.isnan(interval_levels(1)).all()


def test_the_harmonic_mean_is_of_the_clips_that_have_an_accuracy() -> None:
    rng = np.random.default_rng(0)
    cross = (("clip", "step", "layer", "target"), rng.random((4, 3, 5, 1)))
    variables = {
        "accuracy": (("clip", "step", "layer"), rng.random((4, 3, 5))),
        "confidence": cross,
        "attention_score": cross,
    }
    names = {"clip": list("abcd"), "source": ("clip", list("abcd")), "target": ["cross"]}
    sweep = xr.Dataset(variables, names)
    sweep["accuracy"][2] = np.nan
    expected = with_harmonic_mean(sweep.drop_isel(clip=2))["harmonic_mean"]
    np.testing.assert_allclose(with_harmonic_mean(sweep)["harmonic_mean"], expected)


def test_queries_whose_products_overflow_are_refused() -> None:
    layout = TokenLayout(3, 5, 7, 80, 112, 9)
    huge = np.full((2, 3, 5, 7, 4), 1e19, np.float32)
    with pytest.raises(InvalidInputError, match=r"^query and key reach 1e\+19 and 1e\+19: their products overflow"):
        match_points(huge, huge, np.array([[56.0, 40.0]]), layout)
    match_points(huge * 1e-4, huge * 1e-4, np.array([[56.0, 40.0]]), layout)


def test_half_visible_points_are_refused() -> None:
    tracks = np.zeros((3, 2, 2))
    with pytest.raises(InvalidInputError, match=r"^visibility must be bool; got float64\. Choose a threshold"):
        matching_accuracy(tracks, tracks, np.full((3, 2), 0.2))
