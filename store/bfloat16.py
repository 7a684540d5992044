"""bfloat16 without a library for it: its bits as uint16, rounded from wider floats and widened again."""

from __future__ import annotations

from typing import Literal

import numpy as np

StoredDtype = Literal["float16", "bfloat16"]
"""Numbers that a recording stores."""
NAN = np.uint16(0x7FC0)
"""Bits of a NaN."""
_INFINITE = np.uint16(0x7F80)
_MAGNITUDE = np.uint16(0x7FFF)


def rounded(values: np.ndarray) -> np.ndarray:
    """Return the bits of floats as bfloat16, rounded to nearest, ties to even, from float32.

    Parameters
    ----------
    values : float array without NaN
        float64 is rounded to float32 first.

    Returns
    -------
    uint16 array of the same shape

    Examples
    --------
    >>> [hex(bits) for bits in rounded(np.array([1.0, -2.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8]))]
    ['0x3f80', '0xc000', '0x3f80', '0x3f82']
    """
    with np.errstate(over="ignore"):
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = (bits >> np.uint32(16)) & np.uint32(1)
    half += np.uint32(0x7FFF)
    half += bits
    half >>= np.uint32(16)
    return half.astype(np.uint16)


def widened(bits: np.ndarray) -> np.ndarray:
    """Return the float32 values of bfloat16 bits, each exactly.

    Parameters
    ----------
    bits : uint16 array

    Returns
    -------
    float32 array of the same shape

    Examples
    --------
    >>> widened(np.array([0x3F80, 0xC000, 0x7FC0], np.uint16))
    array([ 1., -2., nan], dtype=float32)
    """
    wide = np.left_shift(bits, np.uint32(16), dtype=np.uint32, casting="safe")
    return wide.view(np.float32)


def is_nan(bits: np.ndarray) -> np.ndarray:
    """Tell for each bfloat16 whether it is a NaN, from its bits.

    Examples
    --------
    >>> is_nan(np.array([0x3F80, 0x7F80, 0x7FC0], np.uint16)).tolist()
    [False, False, True]
    """
    found: np.ndarray = (bits & _MAGNITUDE) > _INFINITE
    return found


def is_infinite(bits: np.ndarray) -> np.ndarray:
    """Tell for each bfloat16 whether it is an infinity, from its bits.

    Examples
    --------
    >>> is_infinite(np.array([0x3F80, 0xFF80, 0x7FC0], np.uint16)).tolist()
    [False, True, False]
    """
    found: np.ndarray = (bits & _MAGNITUDE) == _INFINITE
    return found
