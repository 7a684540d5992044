"""Normalisers for matching and for maps of words, kept between requests and computed one at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

_KEPT_BYTES = 64 * 2**20
"""Of what is kept between clicks: see :class:`Normalisers`. Recordings are never held in memory."""


class Normalisers:
    """Normalisers of a record, for matching from a frame or for all rows; the latest are kept."""

    def __init__(self, kept_bytes: int = _KEPT_BYTES) -> None:
        self._kept: OrderedDict[tuple[Any, ...], np.ndarray] = OrderedDict()
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._working = threading.Lock()
        self._wanted: tuple[Any, ...] | None = None

    def of(
        self, where: tuple[Any, ...], compute: Callable[[Callable[[], bool]], np.ndarray | None]
    ) -> np.ndarray | None:
        """Normalisers of a place; None if another place of the same recording was asked for meanwhile.

        Parameters
        ----------
        where : number of the recording, then what tells its places apart
        compute : called where they are not kept, with what tells it to stop
        """
        with self._lock:
            if where in self._kept:
                self._kept.move_to_end(where)
                return self._kept[where]
            self._wanted = where[1:]
        with self._working:  # one at a time: two would take twice as long each
            with self._lock:
                if where in self._kept:
                    return self._kept[where]
            found = compute(lambda: self._wanted != where[1:])
            if found is not None:
                self._keep(where, found)
            return found

    def _keep(self, where: tuple[Any, ...], found: np.ndarray) -> None:
        with self._lock:
            self._kept[where] = found
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self._kept_bytes:
                self._kept.popitem(last=False)
