"""Ctrl-C at any moment: exit code 130 and a line, never a stack trace."""

from __future__ import annotations

import os
import signal
import sys
from _thread import interrupt_main
from threading import Timer
from typing import Any

INTERRUPTED = 130


def leave_at_once() -> None:
    """Make Ctrl-C end the process at once, for the time before a verb runs, when there is nothing to save.

    Some imports would swallow an exception, and others print it with a stack trace.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if a shell has switched Ctrl-C off
        signal.signal(signal.SIGINT, _leave)


def raise_from_now_on() -> None:
    """Make Ctrl-C raise KeyboardInterrupt again, after :func:`leave_at_once`."""
    if signal.getsignal(signal.SIGINT) is _leave:
        sys.unraisablehook = _raise_again
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ignore() -> None:
    """Ignore a further Ctrl-C while the process ends."""
    if signal.getsignal(signal.SIGINT) in (_leave, signal.default_int_handler):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _leave(number: int, frame: Any) -> None:
    os.write(2, b"interrupted.\n")
    os._exit(INTERRUPTED)


def _raise_again(found: Any) -> None:
    """Raise again a KeyboardInterrupt that came in a callback, where Python would print it and continue."""
    if issubclass(found.exc_type, KeyboardInterrupt):
        Timer(0.01, interrupt_main).start()  # raised at once, it would be raised in here and ignored too
    else:
        sys.__unraisablehook__(found)
