"""Parsing of the text of options: numbers, sizes, bytes and seeds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from store.errors import InvalidInputError
from store.selection import Selection

if TYPE_CHECKING:
    pass


_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def numbers(text: str | None, name: str) -> tuple[int, ...] | Literal["all"] | None:
    """Parse a list of numbers; a ``start:stop[:step]`` range excludes its stop, as in Python.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> numbers("3,0:6:2,-1", "layers"), numbers("all", "layers")
    ((3, 0, 2, 4, -1), 'all')
    """
    if text is None or text == "all":
        return text  # type: ignore[return-value]
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?::(-?\d+)(?::(\d+))?)?\s*", part)
        if match is None or match[3] == "0":
            span = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", part)
            meant = f" Both included, that range is '{span[1]}:{int(span[2]) + 1}'." if span else ""
            raise InvalidInputError(
                f"--{name} {text!r}: {part!r} is neither a number nor a range.{meant} Write for example 'all', "
                "'0,3,-1' or '0:50:5'."
            )
        start, stop, step = (None if group is None else int(group) for group in match.groups())
        found.extend([start] if stop is None else range(start, stop, step or 1))  # type: ignore[list-item,arg-type]
    return tuple(found)


def selection(
    layers: str | Iterable[int], at: str, branches: str = "cond", heads: str | None = None, frames: str | None = None
) -> Selection:
    """Build a :class:`Selection` from the text of its options; layers may be numbers already."""
    return Selection(
        numbers(at, "at") or (),
        (numbers(layers, "layers") if isinstance(layers, str) else layers) or (),
        tuple(branch.strip() for branch in branches.split(",")),
        numbers(heads, "heads"),
        numbers(frames, "frames"),
    )


def pixel_size(text: str | None, name: str = "size") -> tuple[int, int] | None:
    """Parse ``HEIGHTxWIDTH``; ``name`` is the option's, for the message.

    Examples
    --------
    >>> pixel_size("480x720")
    (480, 720)
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)\s*[xX]\s*(\d+)", text.strip())
    if match is None:
        raise InvalidInputError(f"--{name} {text!r} is not HEIGHTxWIDTH. Write for example 480x720.")
    return int(match[1]), int(match[2])


def height_and_width(
    size: tuple[int, int] | None, height: int | None, width: int | None
) -> tuple[int | None, int | None]:
    """Height and width from ``--size``, or from the older ``--height`` and ``--width``; None is the backbone's own.

    Examples
    --------
    >>> height_and_width((480, 720), None, None), height_and_width(None, 480, None)
    ((480, 720), (480, None))
    """
    if size is None:
        return height, width
    if height is not None or width is not None:
        raise InvalidInputError("--size is the height and the width. Leave --height and --width out.")
    return size


def byte_count(text: str) -> int:
    """Parse a size such as ``20GB`` into bytes.

    Examples
    --------
    >>> byte_count("1.5 GB")
    1500000000
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b?)", text.strip().lower())
    unit = "" if match is None else match[2].rstrip("b") + "b" if match[2].rstrip("b") else ""
    if match is None or unit not in _UNITS:
        raise InvalidInputError(f"--limit {text!r} is not a size. Write for example 500MB or 20GB.")
    return round(float(match[1]) * _UNITS[unit])


def scene_seeds(text: str) -> tuple[int, ...]:
    """Parse the seeds of ``--scenes``.

    Examples
    --------
    >>> scene_seeds("0:3,7")
    (0, 1, 2, 7)
    """
    seeds = numbers(text, "scenes")
    if seeds is None or seeds == "all" or not seeds:
        raise InvalidInputError(f"--scenes {text!r} names no seeds. Write for example '0:16'.")
    twice = [seed for seed, count in Counter(seeds).items() if count > 1]
    if twice:
        raise InvalidInputError(f"--scenes {text!r} names {twice[0]} twice.")
    return seeds
