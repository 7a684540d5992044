"""Lucas-Kanade from another tracker's answer: subpixel where it holds, the answer itself where it is lost."""

import numpy as np
import pytest

from analyses.trackers.backbone import BackboneTracker
from analyses.trackers.refined import LucasKanadeRefinement
from analyses.trackers.registry import make_tracker
from analyses.trackers.static import StaticTracker
from probe import load_backbone
from store.errors import InvalidInputError


def pattern(shifts):
    y, x = np.mgrid[:64, :80]
    waves = [
        128 + 40 * np.sin((x - a) / 3) + 40 * np.sin((y - b) / 4) + 30 * np.sin((x + y - a - b) / 5) for a, b in shifts
    ]
    return np.repeat(np.stack(waves)[..., None], 3, -1).clip(0, 255).astype(np.uint8)


def test_a_point_that_is_nearly_found_is_found_from_any_image():
    shifts = np.array([[1.3 * n, -0.7 * n] for n in range(4)])
    queries = np.array([[0, 30.0, 30.0], [3, 50.0, 20.5]])
    found = LucasKanadeRefinement(StaticTracker())(pattern(shifts), queries)
    expected = queries[:, 1:] + shifts[:, None] - shifts[queries[:, 0].astype(int)]
    assert np.abs(found.tracks - expected).max() < 0.15
    assert found.details["tracker"] == "nothing moves + LK"


def test_what_is_further_than_the_reach_stays():
    shifts = np.array([[0.0, 0.0], [2.5, 0.0]])
    found = LucasKanadeRefinement(StaticTracker(), reach=1.0)(pattern(shifts), [[0, 30.0, 30.0]])
    np.testing.assert_array_equal(found.tracks[:, 0], [[30.0, 30.0]] * 2)
    with pytest.raises(InvalidInputError, match="reach must be"):
        LucasKanadeRefinement(StaticTracker(), reach=0)


def test_it_has_a_name_of_its_own():
    made = make_tracker("backbone+lk", BackboneTracker(load_backbone("mini")))
    assert isinstance(made, LucasKanadeRefinement)
    with pytest.raises(InvalidInputError, match="needs a backbone"):
        make_tracker("backbone+lk")
