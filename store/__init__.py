"""Data at rest: token layout, selection and plan, recordings, clips and synthetic scenes. No torch here."""

from __future__ import annotations

from store.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
