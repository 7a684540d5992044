"""Fixtures of several test modules of this folder."""

from track_helpers import backbone, images

__all__ = ["backbone", "images"]
