"""Checks of tokens that are made on their device and fetched later, so that no capture waits for an accelerator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from store.errors import InvalidInputError


class TokenChecks:
    """Extremes of several tensors, on their device; errors are raised when the extremes are fetched.

    Examples
    --------
    >>> checks = TokenChecks()
    >>> checks.finite(torch.tensor([1.0, math.nan]), "query")
    >>> checks.raise_for(checks.extremes().numpy())
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: query holds NaN or infinite values. Nothing can be matched with them.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._extremes: list[torch.Tensor] = []
        self._after: list[Callable[[dict[str, float]], None]] = []

    def finite(self, tensor: torch.Tensor, name: str) -> None:
        """Note a tensor that must not hold NaN or infinite values.

        Raises
        ------
        InvalidInputError
            At once for an empty tensor; for other values when fetched.
        """
        if not tensor.numel():
            raise InvalidInputError(f"{name} is empty: shape {tuple(tensor.shape)}.")
        # aminmax lets a NaN through, so one pass without a temporary finds both.
        self._names.append(name)
        self._extremes += torch.aminmax(tensor.detach())

    def products(self, dtype: torch.dtype, channels: int) -> None:
        """Note that products of ``query`` and ``key`` over these channels must fit a data type."""

        def check(largest: dict[str, float]) -> None:
            if largest["query"] * largest["key"] * channels > torch.finfo(dtype).max:
                raise InvalidInputError(
                    f"query and key reach {largest['query']:.3g} and {largest['key']:.3g}: their products overflow, "
                    "and no match could be distinguished from another. Something before the attention has diverged."
                )

        self._after.append(check)

    def extremes(self) -> torch.Tensor:
        """(2 x tensors,) the smallest and the largest value of each, on the device."""
        dtype = torch.float32 if self._extremes[0].device.type == "mps" else torch.float64
        return torch.stack([extreme.to(dtype) for extreme in self._extremes])

    def raise_for(self, extremes: np.ndarray) -> dict[str, float]:
        """Raise for the first tensor that fails; return the largest absolute value of each.

        Raises
        ------
        InvalidInputError
        """
        largest = {}
        for name, (low, high) in zip(self._names, extremes.reshape(-1, 2), strict=True):
            if not (math.isfinite(low) and math.isfinite(high)):
                raise InvalidInputError(f"{name} holds NaN or infinite values. Nothing can be matched with them.")
            largest[name] = max(abs(float(low)), abs(float(high)))
        for check in self._after:
            check(largest)
        return largest

    def finish(self) -> dict[str, float]:
        """Fetch the extremes, waiting for the device once, and raise for invalid ones."""
        return self.raise_for(self.extremes().cpu().numpy())


@dataclass(frozen=True, eq=False)
class Pending:
    """Values that are computed, or still being computed, on a device, and the checks of the tokens they come from."""

    values: dict[str, torch.Tensor]
    checks: TokenChecks


def fetch(pending: Sequence[Pending]) -> list[dict[str, np.ndarray]]:
    """Fetch the values of several captures in one copy, as float64.

    Raises
    ------
    InvalidInputError
        For tokens that hold NaN, or whose products overflow.

    Examples
    --------
    >>> checks = TokenChecks()
    >>> checks.finite(torch.ones(2), "query")
    >>> fetch([Pending({"sum": torch.ones(2).sum()}, checks)])
    [{'sum': array(2.)}]
    """
    if not pending:
        return []
    found = iter(to_host([part for one in pending for part in (one.checks.extremes(), *one.values.values())]))
    fetched = []
    for one in pending:
        one.checks.raise_for(next(found))
        fetched.append({name: next(found) for name in one.values})
    return fetched


def to_host(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """Fetch several float tensors in one copy, by way of the device of the first, as float64.

    Examples
    --------
    >>> [found.shape for found in to_host([torch.zeros(2, 3), torch.ones(())])]
    [(2, 3), ()]
    """
    dtype = torch.float32 if tensors[0].device.type == "mps" else torch.float64
    device = tensors[0].device
    flat = torch.cat([tensor.detach().to(device, dtype).flatten() for tensor in tensors]).cpu().numpy()
    flat = flat.astype(np.float64, copy=False)
    ends = np.cumsum([tensor.numel() for tensor in tensors])
    return [part.reshape(tuple(one.shape)) for part, one in zip(np.split(flat, ends[:-1]), tensors, strict=True)]
