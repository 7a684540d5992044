"""Fixtures of several test modules of this folder."""

from recording_helpers import recorded

__all__ = ["recorded"]
