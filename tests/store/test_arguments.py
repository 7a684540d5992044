"""Arguments checked against annotations: what passes, what is rejected, and how it is worded."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pytest
import torch
import xarray as xr

from store.arguments import Array, check_fields, check_kind, checked, checked_but
from store.errors import InvalidInputError


class Named(Protocol):
    name: str


PASSES = [
    (3, int),
    (np.int64(3), int),
    (math.inf, float),
    (np.float32(0.5), float),
    (2, float),
    (np.bool_(True), bool),
    (None, int | None),
    ("a", Literal["a", "b"]),
    (None, Literal["a"] | None),
    ([1, 2], tuple[int, ...]),
    (range(10**6), Iterable[int]),
    (np.array([1, 2]), Sequence[int]),
    ((1, 2), tuple[int, int]),
    ({"a": 1.0, "b": math.nan}, Mapping[str, float]),
    (len, Callable[[Any], int]),
    ("a/path", str | Path),
    ([[1.0, 2.0]], Array),
    (torch.ones(2), Array),
    (xr.DataArray([1.0]), Array),
    (np.ma.masked_array([1.0]), Array),
    (inspect.signature(len).parameters["obj"], Named),
    (object(), Any),
]
REFUSED = [
    (True, int, "x must be an int; got the flag True"),
    (2.5, int, "x must be an int; got 2.5"),
    (10**30, int, "x must lie between"),
    (np.array(3), int, "x must be an int; got ndarray of int64"),
    (math.nan, float, "x must be a number; got nan"),
    ("1", float, "x must be a number; got '1'"),
    (1, bool, "x must be True or False; got 1"),
    (None, str, "x must be text; got None"),
    ("c", Literal["a", "b"], "unknown x 'c'. Known: 'a', 'b'."),
    ("ab", list[int], "x must be a list or another iterable; got 'ab'"),
    ([1, "b"], list[int], "x must be integers; got one that is 'b'"),
    ((1, 2, 3), tuple[int, int], "x must be 2 values"),
    ([("a", 1)], Mapping[str, int], "x must be a mapping"),
    ({"a": "b"}, Mapping[str, int], "x['a'] must be an int; got 'b'"),
    (3, str | Path, "x must be text or a path; got 3"),
    ("a\0b", str | Path, "x must be a path"),
    ([[1], [1, 2]], Array, "x must be an array of numbers"),
    (np.array([None]), Array, "x must be an array of numbers"),
    (np.ma.masked_array([1.0], [True]), Array, "x is a masked array, and the mask would be lost"),
    (torch.ones(2, dtype=torch.complex64), Array, "x must be an array of numbers that are real"),
    (xr.DataArray(["a"]), xr.DataArray, "x must be an array of numbers"),
    (3, Named, "x must be a Named (it lacks name)"),
    (3, Callable[[], int], "x must be callable; got 3"),
]


@pytest.mark.parametrize(("value", "hint"), PASSES)
def test_what_an_annotation_says_passes(value: Any, hint: Any) -> None:
    check_kind(value, hint, "x")


@pytest.mark.parametrize(("value", "hint", "message"), REFUSED)
def test_anything_else_is_refused_by_the_name_of_the_argument(value: Any, hint: Any, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_kind(value, hint, "x")
    assert str(caught.value).startswith(message)


@checked
def scaled(values: Array, by: float = 2.0, *, names: Iterable[str] = ()) -> float:
    del names
    return float(np.sum(values)) * by


def test_a_checked_function_is_the_function_in_all_else() -> None:
    assert scaled([1.0, 2.0], by=0.5) == 1.5
    assert list(inspect.signature(scaled).parameters) == ["values", "by", "names"]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        scaled()  # type: ignore[call-arg]
    with pytest.raises(InvalidInputError, match="by must be a number; got 'x'"):
        scaled([1.0], "x")  # type: ignore[arg-type]


def test_a_function_may_word_some_of_its_arguments_itself() -> None:
    @checked_but("prompt")
    def words(prompt: str, most: int) -> int:
        return len(str(prompt)) + most

    assert words(7, 1) == 2  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="most must be an int"):
        words("a", "b")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Settings:
    steps: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


def test_fields_of_a_dataclass_are_checked() -> None:
    assert Settings(3, ("a",)).steps == 3
    with pytest.raises(InvalidInputError, match=r"steps must be an int; got 2\.5"):
        Settings(2.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="names must be texts; got one that is 3"):
        Settings(3, (3,))  # type: ignore[arg-type]
