"""Normalisers for matching, kept between requests and computed one at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    pass


_KEPT_BYTES = 64 * 2**20
"""Of what is kept between clicks: see :class:`Normalisers`. Recordings are never held in memory."""


class Normalisers:
    """Normalisers for matching from a frame of a record; the latest are kept, the next one computed."""

    def __init__(self, kept_bytes: int = _KEPT_BYTES) -> None:
        self._kept: OrderedDict[tuple[Any, ...], np.ndarray] = OrderedDict()
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._working = threading.Lock()
        self._wanted: tuple[Any, ...] | None = None

    def of(self, where: tuple[Any, ...], query: np.ndarray, key: np.ndarray) -> np.ndarray | None:
        """Those of a frame of a record; None where another one of the same recording was asked for meanwhile."""
        from analyses.attention.mapped import backward_normalisers

        with self._lock:
            if where in self._kept:
                self._kept.move_to_end(where)
                return self._kept[where]
            self._wanted = where[1:]
        with self._working:  # one at a time: two would take twice as long each
            with self._lock:
                if where in self._kept:
                    return self._kept[where]
            found = backward_normalisers(query, key, where[-1], stopped=lambda: self._wanted != where[1:])
            if found is not None:
                self._keep(where, found)
            return found

    def _keep(self, where: tuple[Any, ...], found: np.ndarray) -> None:
        with self._lock:
            self._kept[where] = found
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self._kept_bytes:
                self._kept.popitem(last=False)
