"""Analyses of queries and keys: attention maps, correspondence, layer selection, tracking and metrics.

Functions on labelled arrays. Only sweeps, tracking and the flow of a reference clip run a model.

Examples
--------
>>> from analyses import harmonic_mean, match_points
>>> match_points.__module__
'analyses.correspondence.matching'
"""

from __future__ import annotations

from store.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
