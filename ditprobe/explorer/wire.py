"""Answers to a front end: plain values and arrays, as bytes that a browser reads without a library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_LEVELS = {"u1": 255, "u2": 65535}


@dataclass(frozen=True, eq=False)
class Answer:
    """Answer of the controller to one request.

    Attributes
    ----------
    values : JSON values by name; ``error`` alone where the request could not be met
    arrays : little-endian arrays by name, float32 or levels
    scales : for arrays of levels, the largest value of each entry of the first axis
    """

    values: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    scales: Mapping[str, np.ndarray] = field(default_factory=dict)

    def head(self) -> dict[str, Any]:
        """The values, with the name, shape and kind of each array in the order of :meth:`buffers`."""
        listed = []
        for name, array in self.arrays.items():
            told: dict[str, Any] = {"name": name, "shape": list(array.shape), "kind": array.dtype.str[1:]}
            if name in self.scales:
                told["largest"] = [float(value) for value in self.scales[name]]
            listed.append(told)
        return {**self.values, "arrays": listed}

    def buffers(self) -> list[bytes]:
        """The arrays as bytes."""
        return [np.ascontiguousarray(array).tobytes() for array in self.arrays.values()]

    def to_bytes(self) -> bytes:
        """Length of the head as uint32, the head as JSON padded to 8 bytes, then the arrays, each padded likewise."""
        head = json.dumps(self.head(), allow_nan=False).encode()
        head += b" " * (-(len(head) + 4) % 8)
        padded = [part + bytes(-len(part) % 8) for part in self.buffers()]
        return b"".join([len(head).to_bytes(4, "little"), head, *padded])


def as_levels(weights: np.ndarray, kind: str = "u2") -> tuple[np.ndarray, np.ndarray]:
    """Weights as whole levels of the square root of their share of the largest, which keeps small ones apart.

    Parameters
    ----------
    weights : (entry, ...) float, at least 0
    kind : "u1" or "u2"

    Returns
    -------
    levels : (entry, ...) uint8 or uint16; a weight is ``largest * (level / most)**2``
    largest : (entry,) float32

    Examples
    --------
    >>> levels, largest = as_levels(np.array([[0.0, 0.25, 1.0]]), "u1")
    >>> levels.tolist(), largest.tolist()
    ([[0, 128, 255]], [1.0])
    """
    flat = weights.reshape(len(weights), -1)
    largest = flat.max(1).astype(np.float32)
    scaled = flat / np.where(largest > 0, largest, 1)[:, None]
    np.sqrt(scaled, out=scaled)
    scaled *= _LEVELS[kind]
    return np.rint(scaled).astype(f"<{kind}").reshape(weights.shape), largest
