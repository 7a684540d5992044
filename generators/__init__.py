"""Generation steered by queries and keys: guided sampling, attention guidance and motion transfer.

Examples
--------
>>> from generators import sample
>>> sample.__module__
'generators.sampling.sample'
"""

from __future__ import annotations

from store.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
