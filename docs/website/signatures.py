"""Line breaks of signatures, which mkdocstrings otherwise leaves to a process of ruff for each function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Formatter = Callable[[str, int], str]
DEFINITION, BODY = "def ", ": pass"


def install(rendering: Any) -> None:
    """Let mkdocstrings break signatures here; other code goes to its own formatter."""
    other: Callable[[], Formatter] = rendering._get_formatter

    def formatter(code: str, width: int) -> str:
        ours = code.startswith(DEFINITION) and code.endswith(BODY)
        return broken(code, width) if ours else other()(code, width)

    rendering._get_formatter = lambda: formatter


def broken(code: str, width: int) -> str:
    """Return ``def name(...): pass`` with its parameters on lines of their own.

    Examples
    --------
    >>> print(broken("def grid(rows: int, columns: int = 2) -> tuple[int, int]: pass", 40), end="")
    def grid(
        rows: int, columns: int = 2
    ) -> tuple[int, int]:
        pass
    >>> print(broken('def record(path: str, note: str = "a, b", *, dims: tuple[int, ...] = ()): pass', 40), end="")
    def record(
        path: str,
        note: str = "a, b",
        *,
        dims: tuple[int, ...] = (),
    ):
        pass
    """
    start = code.index("(") + 1
    parts = list(_parts(code[start:]))
    end = start + sum(len(part) + 1 for part in parts)  # each with the comma or the parenthesis after it
    parameters = [part.strip() for part in parts if part.strip()]
    together = f"    {', '.join(parameters)}"
    lines = [together] if len(together) <= width else [f"    {each}," for each in parameters]
    return "\n".join([code[:start], *lines, f"){code[end:].removesuffix(BODY)}:", "    pass", ""])


def _parts(text: str) -> Iterator[str]:
    """Yield what lies between the commas of a list of parameters, up to the parenthesis that closes it."""
    depth, quote, begin = 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[place - 1] != "\\" else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}" and depth:
            depth -= 1
        elif letter == ")" or (letter == "," and not depth):
            yield text[begin:place]
            begin = place + 1
            if letter == ")":
                return
