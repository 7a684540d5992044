"""Parts of a tensor by number, without copying an index to the device at every capture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A small tensor that is copied to a device once, however often it is used. Do not write to it.

    Examples
    --------
    >>> constants((3, 4), torch.int64, torch.device("cpu"))
    tensor([3, 4])
    """
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def take(tensor: Tensor, axis: int, numbers: Sequence[int]) -> Tensor:
    """The entries of these numbers along an axis; a view where the numbers follow one another.

    Examples
    --------
    >>> take(torch.arange(5), 0, [1, 2, 3]), take(torch.arange(5), 0, [0, 4])
    (tensor([1, 2, 3]), tensor([0, 4]))
    """
    first, count = numbers[0], len(numbers)
    if list(numbers) == list(range(first, first + count)):
        return tensor.narrow(axis, first, count)
    return tensor.index_select(axis, constants(tuple(numbers), torch.int64, tensor.device))
