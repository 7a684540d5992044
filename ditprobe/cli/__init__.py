"""The command line: the entry point, options that verbs share, and text for terminals."""

from __future__ import annotations

import sys

from ditprobe.cli import interrupts


def main() -> None:
    """Build the command and run it."""
    interrupts.leave_at_once()
    from ditprobe.cli.app import app

    try:
        app()
    except KeyboardInterrupt:  # a second Ctrl-C, while the first was being reported
        sys.exit(interrupts.INTERRUPTED)
    finally:
        interrupts.ignore()
