"""Fixtures of several test modules of this folder."""

from report_helpers import html, page

__all__ = ["html", "page"]
