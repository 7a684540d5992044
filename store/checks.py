"""Checks of single arguments, worded the same everywhere.

Each check returns the value in its plain Python kind, or raises :class:`~store.errors.InvalidInputError` with the
argument's name, what it must be and what was given.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from store.errors import InvalidInputError

Choice = TypeVar("Choice")
_FLAGS = (bool, np.bool_)


def one_of(value: Choice, known: Iterable[Any], name: str) -> Choice:
    """Return ``value`` if it is one of the known values.

    Raises
    ------
    InvalidInputError
        Lists the known ones.

    Examples
    --------
    >>> one_of("exact", ("exact", "difftrack"), "preset")
    'exact'
    """
    known = tuple(known)
    if not any(type(value) is type(each) and value == each for each in known):
        raise InvalidInputError(f"unknown {name} {_shown(value)}. Known: {', '.join(map(repr, known))}.")
    return value


def integer(value: Any, name: str, *, least: int | None = None, most: int | None = None) -> int:
    """Return a count or a number in a row as ``int``: Python and NumPy integers, never a flag or a fraction.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> integer(3, "steps", least=1)
    3
    """
    if isinstance(value, _FLAGS):
        raise InvalidInputError(f"{name} must be an int; got the flag {bool(value)}.")
    try:
        number = operator.index(value)
    except (TypeError, ValueError) as error:  # a tensor of floats raises TypeError, one of several values ValueError
        raise InvalidInputError(f"{name} must be an int; got {_shown(value)}.") from error
    _in_range(number, name, least, most)
    return number


def finite(
    value: Any, name: str, *, least: float | None = None, most: float | None = None, above: float | None = None
) -> float:
    """Return a finite number as ``float``; never a flag, a text or NaN.

    Parameters
    ----------
    least, most : inclusive bounds
    above : exclusive lower bound

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> finite(0.5, "scale", above=0)
    0.5
    """
    number = math.nan
    if not isinstance(value, (*_FLAGS, str, bytes)):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            number = math.nan
    if not math.isfinite(number):
        raise InvalidInputError(f"{name} must be a finite number; got {_shown(value)}.")
    if above is not None and not number > above:
        raise InvalidInputError(f"{name} must be above {above:g}; got {number:g}.")
    _in_range(number, name, least, most)
    return number


def flag(value: Any, name: str) -> bool:
    """Return True or False as given; a number or a text is not a flag.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> flag(True, "hard")
    True
    """
    if not isinstance(value, _FLAGS):
        raise InvalidInputError(f"{name} must be True or False; got {_shown(value)}.")
    return bool(value)


def text(value: Any, name: str) -> str:
    """Return a text as given.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> text("a red disc", "prompt")
    'a red disc'
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be text; got {_shown(value)}.")
    return value


def height_and_width(
    size: tuple[int, int] | None, height: int | None = None, width: int | None = None
) -> tuple[int | None, int | None]:
    """Return the two sides of ``size=(height, width)``, or ``height=`` and ``width=`` where it is not given.

    Raises
    ------
    InvalidInputError
        When both are given, or ``size`` is not two whole numbers.

    Examples
    --------
    >>> height_and_width((480, 720)), height_and_width(None, 480)
    ((480, 720), (480, None))
    """
    if size is None:
        return height, width
    if height is not None or width is not None:
        raise InvalidInputError("size=(height, width) was given, and height= or width= too. Give one of them.")
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise InvalidInputError(f"size must be (height, width) in pixels; got {_shown(size)}.")
    return integer(size[0], "height", least=1), integer(size[1], "width", least=1)


def _in_range(number: float, name: str, least: float | None, most: float | None) -> None:
    if least is not None and most is not None and not least <= number <= most:
        raise InvalidInputError(f"{name} must lie between {least:g} and {most:g}; got {number:g}.")
    if least is not None and number < least:
        raise InvalidInputError(f"{name} must be at least {least:g}; got {number:g}.")
    if most is not None and number > most:
        raise InvalidInputError(f"{name} must be at most {most:g}; got {number:g}.")


def _shown(value: object) -> str:
    """A short repr of a simple value, and the type alone of anything that may be large or nested."""
    if isinstance(value, (str, int, float, complex, bytes, type(None))):
        return reprlib.repr(value)
    return type(value).__name__
