"""Probing video diffusion transformers: their queries and keys, while they sample or look at a clip."""

from __future__ import annotations

from store.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
