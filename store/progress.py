"""Progress of long calls, reported to a callable or shown as a bar in a terminal or notebook."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from store.errors import InvalidInputError

Tell = Callable[..., Any]
"""Called with (done, in all or None where that is not known, and perhaps what is being worked on)."""


@contextmanager
def progress_bar(progress: Tell | bool | None, description: str, *, name: str = "progress") -> Iterator[Tell | None]:
    """Yield what a long call tells its progress to.

    Parameters
    ----------
    progress : callable, bool or None
        A callable is yielded as it is. None shows a bar in a notebook and in an interactive session, and nothing in a
        script; True shows one anywhere, False nowhere.
    description : text of the bar
    name : of the argument, for the error

    Yields
    ------
    callable or None
        To be called with (done, in all[, what is in progress]). None where no progress is wanted.

    Raises
    ------
    InvalidInputError
        For anything else.

    Notes
    -----
    The bar is tqdm's, on standard error; it is gone when the call is over. ``TQDM_DISABLE=1`` in the environment
    silences those not requested with True.

    Examples
    --------
    >>> with progress_bar(print, "counting") as tell:
    ...     tell(1, 2)
    1 2
    >>> with progress_bar(None, "in a script") as tell:
    ...     tell is None
    True
    """
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise InvalidInputError(
            f"{name} must be a callable, True, False or None; got {type(progress).__name__}. Leave it out for a bar in "
            "notebooks."
        )
    if callable(progress):
        yield progress
        return
    if not (somebody_waits() if progress is None else progress):
        yield None
        return
    with ExitStack() as stack:
        yield _Bar(description, stack)


def somebody_waits() -> bool:
    """Return whether this runs in a notebook, or in an interactive session whose standard error is a terminal.

    Examples
    --------
    >>> somebody_waits()
    False
    """
    if os.environ.get("TQDM_DISABLE", "0") not in ("", "0"):  # tqdm's bars for notebooks do not look there
        return False
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is not None and "IPKernelApp" in shell.config:
        return True
    interactive = shell is not None or hasattr(sys, "ps1") or bool(sys.flags.interactive)
    return interactive and sys.stderr is not None and sys.stderr.isatty()


class _Bar:
    """A bar that opens at the first progress report, which states the total."""

    def __init__(self, description: str, stack: ExitStack) -> None:
        self._description = description
        self._stack = stack
        self._bar: Any = None

    def __call__(self, done: int, total: int | None = None, label: str | None = None) -> None:
        text = self._description if label is None else f"{self._description} {label}"
        if self._bar is None:
            self._bar = self._stack.enter_context(_new(text, total))
        self._bar.set_description(text, refresh=False)
        if total != self._bar.total:
            self._bar.reset(total)
        self._bar.update(done - self._bar.n)


def _new(text: str, total: int | None) -> Any:
    with warnings.catch_warnings():
        # without ipywidgets a notebook gets the bar of a terminal, which needs no word
        warnings.filterwarnings("ignore", "IProgress not found")
        from tqdm.auto import tqdm
    return tqdm(desc=text, total=total, leave=False)
