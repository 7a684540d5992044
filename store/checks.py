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
_PLAIN = (str, int, float, complex, bytes, type(None))


def must_be(name: str, wanted: str, value: object) -> InvalidInputError:
    """Return the error of an argument of another kind; ``wanted`` is kept in the error.

    Examples
    --------
    >>> error = must_be("prompt", "text", 3)
    >>> str(error), error.wanted
    ('prompt must be text; got 3.', 'text')
    """
    error = InvalidInputError(f"{name} must be {wanted}; got {shown(value)}.")
    error.wanted = wanted
    return error


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
        raise InvalidInputError(f"unknown {name} {shown(value)}. Known: {', '.join(map(repr, known))}.")
    return value


def integer(value: Any, name: str, *, min_value: int | None = None, max_value: int | None = None) -> int:
    """Return a count or a number in a row as ``int``: Python and NumPy integers, never a flag or a fraction.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> integer(3, "steps", min_value=1)
    3
    """
    if isinstance(value, _FLAGS) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool"):
        raise InvalidInputError(f"{name} must be an int; got the flag {value}.")
    try:
        found = operator.index(value)
    except (TypeError, ValueError, RuntimeError) as error:  # tensors: of floats, of several values, without data
        raise must_be(name, "an int", value) from error
    _in_range(found, name, min_value, max_value)
    return found


def number(value: Any, name: str, *, min_value: float | None = None, max_value: float | None = None) -> float:
    """Return a number as ``float``, infinities included; never a flag, a text, an array or NaN.

    Parameters
    ----------
    min_value, max_value : inclusive bounds

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> number(np.float32(0.5), "fraction")
    0.5
    """
    found = math.nan
    if not isinstance(value, (*_FLAGS, str, bytes)) and not getattr(value, "ndim", 0):
        try:
            found = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            found = math.nan
    if math.isnan(found):
        raise must_be(name, "a number", value)
    _in_range(found, name, min_value, max_value)
    return found


def finite(
    value: Any, name: str, *, min_value: float | None = None, max_value: float | None = None, above: float | None = None
) -> float:
    """Return a finite number as ``float``; never a flag, a text or NaN.

    Parameters
    ----------
    min_value, max_value : inclusive bounds
    above : exclusive lower bound

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> finite(0.5, "scale", above=0)
    0.5
    """
    try:
        found = number(value, name)
    except InvalidInputError:
        found = math.nan
    if not math.isfinite(found):
        raise must_be(name, "a finite number", value)
    if above is not None and not found > above:
        raise InvalidInputError(f"{name} must be above {above:g}; got {found:g}.")
    _in_range(found, name, min_value, max_value)
    return found


def fraction(value: Any, name: str) -> float:
    """Return a number above 0 and at most 1.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> fraction(1, "channels")
    1.0
    """
    found = finite(value, name)
    if not 0 < found <= 1:
        raise InvalidInputError(f"{name} must be above 0 and at most 1; got {found:g}.")
    return found


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
        raise must_be(name, "True or False", value)
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
        raise must_be(name, "text", value)
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
        raise InvalidInputError(f"size must be (height, width) in pixels; got {shown(size)}.")
    return integer(size[0], "height", min_value=1), integer(size[1], "width", min_value=1)


def _in_range(number: float, name: str, min_value: float | None, max_value: float | None) -> None:
    if min_value is not None and max_value is not None and not min_value <= number <= max_value:
        raise InvalidInputError(f"{name} must lie between {min_value:g} and {max_value:g}; got {_number(number)}.")
    if min_value is not None and number < min_value:
        raise InvalidInputError(f"{name} must be at least {min_value:g}; got {_number(number)}.")
    if max_value is not None and number > max_value:
        raise InvalidInputError(f"{name} must be at most {max_value:g}; got {_number(number)}.")


def _number(number: float) -> str:
    return shown(number) if isinstance(number, int) else f"{number:g}"


def shown(value: object) -> str:
    """Return a short repr of a simple value, and the type alone of anything that may be large or nested.

    Examples
    --------
    >>> shown("x" * 1000), shown([1, 2.5]), shown(np.zeros((2, 3)))
    ("'xxxxxxxxxxxx...xxxxxxxxxxxxx'", '[1, 2.5]', 'ndarray of float64 (2, 3)')
    """
    if isinstance(value, int) and abs(value) > 10**30:
        return "an int of more than 30 digits"
    if isinstance(value, _PLAIN):
        return reprlib.repr(value)
    if isinstance(value, (list, tuple)) and len(value) <= 6 and all(isinstance(each, _PLAIN) for each in value):
        return reprlib.repr(value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{type(value).__name__} of {value.dtype} {tuple(value.shape)}"
    return type(value).__name__
