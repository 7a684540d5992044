"""Checks of single arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from store.checks import finite, flag, integer, one_of, text
from store.errors import InvalidInputError


def test_plain_kinds_come_back() -> None:
    assert type(integer(np.int16(3), "n")) is int
    assert type(integer(torch.tensor(3), "n")) is int
    assert type(finite(np.float32(0.5), "x")) is float
    assert type(finite(2, "x")) is float
    assert flag(np.bool_(True), "f") is True
    assert one_of("a", ("a", "b"), "kind") == "a"
    assert text("t", "prompt") == "t"


@pytest.mark.parametrize("value", [True, np.bool_(False), 2.5, 2.0, "3", None, math.nan, [1], np.array([1, 2])])
def test_a_count_is_an_integer(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"n must be an int; got"):
        integer(value, "n")


@pytest.mark.parametrize("value", [True, math.nan, math.inf, -math.inf, "0.5", None, [1.0], 10**400, np.zeros(2), 1j])
def test_a_number_is_finite(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"x must be a finite number; got"):
        finite(value, "x")


@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_a_flag_is_true_or_false(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"hard must be True or False; got"):
        flag(value, "hard")


@pytest.mark.parametrize("value", ["exactly", None, ["exact"], np.array(["exact"]), 1])
def test_unknown_choices_are_named(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"unknown preset .*\. Known: 'exact', 'difftrack'\."):
        one_of(value, ("exact", "difftrack"), "preset")


@pytest.mark.parametrize(
    ("bounds", "value", "message"),
    [
        ({"min_value": 1}, 0, "n must be at least 1; got 0."),
        ({"max_value": 9}, 10, "n must be at most 9; got 10."),
        ({"min_value": 1, "max_value": 9}, 10, "n must lie between 1 and 9; got 10."),
    ],
)
def test_bounds_are_inclusive(bounds: dict[str, int], value: int, message: str) -> None:
    for check in (integer, finite):
        for bound in bounds.values():
            assert check(bound, "n", **bounds) == bound  # type: ignore[operator]
        with pytest.raises(InvalidInputError) as caught:
            check(value, "n", **bounds)  # type: ignore[operator]
        assert str(caught.value) == message


def test_an_exclusive_bound() -> None:
    with pytest.raises(InvalidInputError, match=r"^scale must be above 0; got 0\.$"):
        finite(0.0, "scale", above=0)


def test_what_was_given_is_shown_short() -> None:
    with pytest.raises(InvalidInputError) as caught:
        integer([list(range(10**5))], "n")
    assert str(caught.value) == "n must be an int; got list."
