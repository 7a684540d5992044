"""Entry point of the command ``ditprobe``; the command itself is built in :mod:`ditprobe.cli.app`."""

from __future__ import annotations

import sys

from ditprobe.cli import interrupts


def main() -> None:
    """Build the command and run it."""
    interrupts.leave_at_once()
    from ditprobe.cli.app import app

    try:
        app()
    except KeyboardInterrupt:  # a second one, while the first was told
        sys.exit(interrupts.INTERRUPTED)
    finally:
        interrupts.ignore()
