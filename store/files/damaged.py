"""Errors of damaged and hostile files, as one typed error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from store.errors import DitprobeError, FormatVersionError, UnsafePickleError
from store.wording import Wording

_LONGEST = 200


@contextmanager
def damage_as(
    kind: type[DitprobeError], problem: str, remedy: Wording | str = "", *, keep: tuple[type[DitprobeError], ...] = ()
) -> Iterator[None]:
    """Turn whatever reading a file raises into the error of its reader.

    Libraries raise dozens of kinds for files that are cut off, altered or forged: ``zlib.error``, ``struct.error``,
    ``TokenError``, ``MemoryError``, ``RecursionError``. What was raised stays the ``__cause__``. Errors that are
    ``kind`` already, an :class:`~store.errors.UnsafePickleError` and a :class:`~store.errors.FormatVersionError` pass
    as they are, and so do ``KeyboardInterrupt`` and ``SystemExit``.

    Parameters
    ----------
    kind : what to raise
    problem : "goat.nc holds no tracks, or it is damaged"
    remedy : a sentence with its full stop
    keep : further kinds that pass as they are

    Examples
    --------
    >>> from store.errors import ClipError
    >>> with damage_as(ClipError, "goat.npz is damaged", "Get it again."):
    ...     {}["tracks"]
    Traceback (most recent call last):
    ...
    store.errors.ClipError: goat.npz is damaged: 'tracks'. Get it again.
    """
    passing: tuple[type[Exception], ...] = (kind, *keep, UnsafePickleError, FormatVersionError)
    try:
        yield
    except Exception as error:
        if isinstance(error, passing):
            raise
        raise kind(f"{problem}: {reason(error)}.", remedy=remedy) from error


def reason(error: BaseException) -> str:
    """The first line of an exception's message without its full stop; its type if the message is empty.

    Examples
    --------
    >>> reason(ValueError("Error -3: bad code.")), reason(EOFError())
    ('Error -3: bad code', 'EOFError')
    """
    if isinstance(error, MemoryError):
        return "its stated size exceeds the memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    lines = str(error).strip().splitlines()
    return shown(lines[0].rstrip(".")) if lines else type(error).__name__


def shown(text: str) -> str:
    """A text from a file, made fit to print: shortened, with ``?`` for each character that is not printable.

    Examples
    --------
    >>> shown("a\x1b[2J")
    'a?[2J'
    """
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return "".join(each if each.isprintable() else "?" for each in short)
