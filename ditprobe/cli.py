"""Entry point of the command ``ditprobe``; the command itself is built in :mod:`ditprobe.app`."""

from __future__ import annotations

import sys
from typing import Any

from ditprobe import interrupts


def main() -> None:
    """Build the command and run it."""
    interrupts.leave_at_once()
    from ditprobe.app import app

    try:
        app()
    except KeyboardInterrupt:  # a second one, while the first was told
        sys.exit(interrupts.INTERRUPTED)
    finally:
        interrupts.ignore()


def __getattr__(name: str) -> Any:
    """``app``, built when it is first asked for: building it takes half a second that Ctrl-C may fall into."""
    if name == "app":
        from ditprobe.app import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
