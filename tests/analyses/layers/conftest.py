"""Fixtures of several test modules of this folder."""

from sweep_helpers import mini

__all__ = ["mini"]
