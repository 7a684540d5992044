"""Rates at which rotary positions turn each channel of queries and keys from one token to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RotaryAxes:
    """The channels of a head that rotary positions turn along each axis: first by frame, then by row, then by column.

    Neighbouring channels are a pair, turned together; within an axis the first pair turns fastest (Su et al., 2021).
    Where a head is split into halves, a pair is a channel of the first half and the same one of the second.

    Attributes
    ----------
    frame, y, x : channels of each axis
    theta : base of the frequencies: pair i of n channels turns by theta ** (-2 i / n) radians a token; three of them
        where axes have their own
    halves : whether pairs are made of two halves of the head

    Examples
    --------
    >>> RotaryAxes(8, 12, 12).turns()[[0, 2, 8, 10]].round(3).tolist()
    [1.0, 0.1, 1.0, 0.215]
    """

    frame: int
    y: int
    x: int
    theta: float | tuple[float, float, float] = 10_000.0
    halves: bool = False

    def turns(self) -> np.ndarray:
        """(channel,) radians that each channel turns from one token to the next along its own axis."""
        thetas = self.theta if isinstance(self.theta, tuple) else (self.theta,) * 3
        counts = zip(thetas, (self.frame, self.y, self.x), strict=True)
        pairs = np.concatenate([theta ** (-np.arange(0, count, 2) / count) for theta, count in counts])
        return np.tile(pairs, 2) if self.halves else np.repeat(pairs, 2)

    def slow_channels(self, limit: float) -> tuple[int, ...]:
        """The channels that turn by no more than ``limit`` radians a token.

        Examples
        --------
        >>> len(RotaryAxes(8, 12, 12).slow_channels(0.5))
        26
        """
        return tuple(np.flatnonzero(self.turns() <= limit).tolist())
