"""Text as a terminal and a reader can take it: characters without an effect, plurals, sizes in one order."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

_KEPT = ("\n", "\t")
# Cc: control, Cf: format (bidi marks among them), Zl and Zp: line and paragraph ends, Cs: half a surrogate pair.
_ACTING = ("Cc", "Cf", "Zl", "Zp", "Cs")


def printable(text: str, *, one_line: bool = False) -> str:
    r"""A text with its control and bidi characters as escapes, so that a terminal shows and does not obey them.

    Parameters
    ----------
    text : str
    one_line : bool
        Escape line ends and tabs too.

    Examples
    --------
    >>> print(printable("a\x1b[2Jb\u202ec"))
    a\x1b[2Jb\u202ec
    >>> print(printable("first\nsecond", one_line=True))
    first\nsecond
    """
    kept = () if one_line else _KEPT
    return "".join(
        letter if letter in kept or unicodedata.category(letter) not in _ACTING else _escaped(letter) for letter in text
    )


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")


def counted(count: float, noun: str, plural: str | None = None) -> str:
    """A number and its noun.

    Examples
    --------
    >>> counted(1, "window"), counted(0.5, "cell"), counted(2, "pass", "passes")
    ('1 window', '0.5 cells', '2 passes')
    """
    number = f"{count:.10g}" if isinstance(count, float) else str(count)
    return f"{number} {noun if count == 1 else plural or f'{noun}s'}"


def pixels(height: float, width: float) -> str:
    """A size in pixels, in the order of ``--size`` and of arrays.

    Examples
    --------
    >>> pixels(480, 720)
    '480 x 720 px (height x width)'
    """
    return f"{height:g} x {width:g} px (height x width)"


def listed(items: Sequence[Any]) -> str:
    """Items as a sentence lists them.

    Examples
    --------
    >>> listed([4]), listed([4, 3]), listed([4, 3, 5])
    ('4', '4 and 3', '4, 3 and 5')
    """
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def duration(seconds: float) -> str:
    """A time span in the largest sensible unit.

    Examples
    --------
    >>> duration(5.25), duration(600), duration(9000)
    ('5.2 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
