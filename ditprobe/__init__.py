"""Probe, analyse and steer the attention of video diffusion transformers.

>>> import ditprobe as dp
>>> dp.make_scene(0).images.shape
(6, 40, 40, 3)

Importing ditprobe costs nothing: each name loads on first use. The names are grouped by task in ``__init__.pyi``,
and listed so below.
"""

from __future__ import annotations

from store.lazy import attach_stub, names_by_task

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
__doc__ = f"{__doc__}\n{names_by_task(__file__)}"
