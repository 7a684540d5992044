"""``--levels`` of tracking: refused where it cannot be, counted in a plan, told in the tracks."""

import numpy as np
import pytest

from ditprobe.cli.trackers import MatchingOptions, tracking_cost, tracking_options
from probe import load_backbone
from store.errors import InvalidInputError


def test_levels_are_numbers_that_rise_from_one():
    assert MatchingOptions(levels="1,2,4").level_numbers == (1, 2, 4)
    assert MatchingOptions().level_numbers == (1,)
    for text in ("2", "1,4,2", "all", "1,1"):
        with pytest.raises(InvalidInputError, match="--levels"):
            MatchingOptions(levels=text).check("mini")
    with pytest.raises(InvalidInputError, match="Leave --levels out"):
        MatchingOptions(levels="1,2", preset="difftrack-tracking").check("mini")


def test_a_plan_counts_the_crops():
    mini = load_backbone("mini")
    centres = (np.arange(10) + 0.5) * 4
    grid = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)
    queries = np.column_stack([np.zeros(100), grid])
    calls = [
        tracking_cost(mini, tracking_options("exact", "images", "clean", levels), (12, 40, 40), queries, None, 5)[1]
        for levels in ((1,), (1, 2))
    ]
    assert calls == [3.0, 15.0]  # four crops hold the grid
