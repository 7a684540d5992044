"""The checked casts to float16 and bfloat16 that a recording stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from store import bfloat16
from store.errors import InvalidInputError
from store.files.atomic import aligned_empty
from store.wording import Wording

_EXPONENT = np.uint16(0x7C00)  # all exponent bits set: an infinity or a NaN
_MAGNITUDE = np.uint16(0x7FFF)
_BLOCK = 1 << 17  # values, 256 KB: what stays in the cache of a core


_REMEDY = Wording(
    "Leave this layer out, record with {stored_dtype}, or analyse it while sampling instead of recording it.",
    stored_dtype="bfloat16",
)


class BeyondFloat16Error(InvalidInputError):
    """Values too large for what is stored: float16 by default."""


def to_float16(
    values: Any, shape: tuple[int, ...], what: str, *, copy: bool = True, out: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Values as little-endian float16 in C order, and how many of them the cast changed.

    Parameters
    ----------
    values : float array of ``shape``
    shape : tuple of int
        The shape that is needed.
    what : str
        Names the values in errors.
    copy : bool
        Copy even when nothing has to be cast, so that the caller may reuse the memory.
    out : float16 array of ``shape``, optional
        Where to put the result of a cast or copy; fresh memory costs more than the copy itself.

    Raises
    ------
    InvalidInputError
        For another shape or kind, and values that are not finite.
    BeyondFloat16Error
        For values beyond float16.

    Examples
    --------
    >>> to_float16(np.array([[0.5], [0.1]], np.float32), (2, 1), "query")
    (array([[0.5],
           [0.1]], dtype=float16), 1)
    """
    values = _floats(values, shape, what)
    if values.dtype == np.float16:
        if not copy:
            result = np.ascontiguousarray(values, "<f2")
            flat = result.reshape(-1)
            _copy_finite(flat, flat, what)
            return result, 0
        result = aligned_empty(shape) if out is None else out
        for part, source in zip(result, values, strict=True):
            whole = source if source.flags.c_contiguous else np.ascontiguousarray(source)
            _copy_finite(whole.reshape(-1), part.reshape(-1), what)
        return result, 0
    result, inexact = aligned_empty(shape) if out is None else out, 0
    for part, source in zip(result, values, strict=True):  # one head at a time, which stays in the cache
        with np.errstate(over="ignore", under="ignore"):
            part[...] = source
        _check_finite(part, source, what)
        inexact += int(np.count_nonzero(part.astype(source.dtype) != source))
    return result, inexact


def to_bfloat16(
    values: Any, shape: tuple[int, ...], what: str, *, out: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Values as the bits of bfloat16 in C order, and how many of them the cast changed.

    Parameters
    ----------
    values : float array of ``shape``
    shape, what : as of :func:`to_float16`
    out : uint16 array of ``shape``, optional
        Where to put the result.

    Raises
    ------
    InvalidInputError
        For another shape or kind, and values that are not finite or beyond bfloat16.

    Examples
    --------
    >>> bits, changed = to_bfloat16(np.array([[0.5], [0.1]], np.float32), (2, 1), "query")
    >>> [hex(int(value)) for value in bits[:, 0]], changed
    (['0x3f00', '0x3dcd'], 1)
    """
    values = _floats(values, shape, what)
    result, inexact = aligned_empty(shape).view("<u2") if out is None else out, 0
    for part, source in zip(result, values, strict=True):
        if not np.isfinite(source).all():
            CastPart(0, int(np.count_nonzero(~np.isfinite(source)))).check(what)
        part[...] = bfloat16.rounded(source)
        beyond = int(np.count_nonzero(bfloat16.is_infinite(part)))
        CastPart(0, 0, beyond, float(np.abs(source).max()) if beyond else 0.0).check(what, "bfloat16")
        inexact += int(np.count_nonzero(bfloat16.widened(part) != source))
    return result, inexact


def _floats(values: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != shape or values.dtype.kind != "f":
        raise InvalidInputError(f"{what} must be floats of shape {shape}; got {values.dtype} of shape {values.shape}.")
    return values


def _copy_finite(source: np.ndarray, target: np.ndarray, what: str) -> None:
    """Copy float16 values, unless both are one, and check each block of them while it is in the cache."""
    bits, scratch = target.view(np.uint16), np.empty(_BLOCK, np.uint16)
    for start in range(0, len(target), _BLOCK):
        block = bits[start : start + _BLOCK]
        if source is not target:
            target[start : start + _BLOCK] = source[start : start + _BLOCK]
        if np.bitwise_and(block, _MAGNITUDE, out=scratch[: len(block)]).max() >= _EXPONENT:
            _check_finite(target[start:], target[start:], what)


def _check_finite(cast: np.ndarray, source: np.ndarray, what: str) -> None:
    bits = np.ascontiguousarray(cast).view(np.uint16) & _MAGNITUDE
    if not bits.size or bits.max() < _EXPONENT:
        return
    bad = int(np.count_nonzero(~np.isfinite(source)))
    largest = 0.0 if bad else float(np.abs(source).max())
    CastPart(0, bad, int(np.count_nonzero(bits >= _EXPONENT)), largest).check(what)


@dataclass(frozen=True)
class CastPart:
    """A cast that was made elsewhere: values changed, not finite, beyond what is stored, and the largest size."""

    inexact: int
    not_finite: int = 0
    beyond: int = 0
    largest: float = 0.0

    def check(self, what: str, dtype: bfloat16.StoredDtype = "float16") -> None:
        """Raise for values that a recording of a dtype would lose.

        Raises
        ------
        InvalidInputError
            For values that are not finite.
        BeyondFloat16Error
            For values beyond what is stored.

        Examples
        --------
        >>> CastPart(inexact=3).check("query")
        """
        if self.not_finite:
            raise InvalidInputError(
                f"{what} holds {self.not_finite} values that are not finite; such attention cannot be recorded."
            )
        if self.beyond:
            limit = {"float16": "65504", "bfloat16": "3.39e+38"}[dtype]
            raise BeyondFloat16Error(
                f"{what} holds {self.beyond} values beyond {dtype} (largest {self.largest:g}, limit {limit}); a "
                "recording would lose them.",
                remedy=_REMEDY if dtype == "float16" else "Leave this layer out.",
            )
