"""``--levels`` of tracking: rejected where it cannot be, counted in a plan, told in the tracks."""

import numpy as np
import pytest

from ditprobe.cli.trackers import MatchingOptions, tracking_cost, tracking_options
from probe import load_backbone
from store.errors import InvalidInputError


def test_levels_are_numbers_that_begin_with_one_and_do_not_fall():
    assert MatchingOptions(levels="1,2,4").level_numbers == (1, 2, 4)
    assert MatchingOptions().level_numbers == (1,)
    for text in ("2", "1,4,2", "all"):
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
        for levels in ((1,), (1, 2), (1, 1, 2))
    ]
    assert calls == [3.0, 15.0, 18.0]  # four crops hold the grid


def test_a_plan_counts_no_more_crops_than_are_allowed():
    options = MatchingOptions(levels="1,2", max_crops=2)
    options.check("mini")
    mini, place = load_backbone("mini"), [[0, x, y] for x in (2.0, 38.0) for y in (2.0, 38.0)]
    run = options.settings(mini)
    assert run["options"].max_crops == 2
    calls = tracking_cost(mini, run["options"], (12, 40, 40), np.array(place), None, 5)[1]
    assert calls == 9.0  # three of the whole images, and three of each of two crops
    with pytest.raises(InvalidInputError, match="--max-crops counts the crops of a closer look"):
        MatchingOptions(max_crops=2).check("mini")
    with pytest.raises(InvalidInputError, match="--crops says how a closer look is taken"):
        MatchingOptions(crops="follow").check("mini")
    assert MatchingOptions(levels="1,2", crops="follow").settings(mini)["options"].crops == "follow"


def test_visibility_is_an_option_of_our_procedure_alone():
    options = MatchingOptions(visibility="flow")
    options.check("mini")
    assert options.settings(load_backbone("mini"))["options"].visibility == "flow"
    with pytest.raises(InvalidInputError, match="Leave --visibility out"):
        MatchingOptions(visibility="flow", preset="difftrack-tracking").check("mini")
