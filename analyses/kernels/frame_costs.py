"""The matching cost between the first frame of a chunk and each later one, a frame at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from analyses.arrays import compute_dtype
from analyses.kernels.matching_cost import cost_blocks, sources_within


def frame_costs(
    query: torch.Tensor, key: torch.Tensor, sources: torch.Tensor, *, divisor: float, budget_bytes: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """(frame, (source, cell) cost) for every frame after the first, mean over heads.

    Parameters
    ----------
    query, key : (head, frame, cell, channel) tensors
    sources : (source,) int64, cells of frame 0
    divisor : what the logits are divided by
    budget_bytes : working memory besides the costs themselves, of which those of several frames are made at a time
        where the budget allows

    Raises
    ------
    InvalidInputError
        When the budget does not hold a single source cell.
    """
    dtype = compute_dtype(query, key)
    most = sources_within(budget_bytes, query.shape[2], dtype.itemsize)
    if len(sources) <= most:
        yield from _blocked(query, key, sources, divisor, dtype, budget_bytes)
        return
    for frame in range(1, query.shape[1]):
        pair = [0, frame]
        here = query[:, pair], key[:, pair]
        parts = [next(_blocked(*here, part, divisor, dtype, budget_bytes))[1] for part in sources.split(most)]
        yield frame, torch.cat(parts)


def _blocked(
    query: torch.Tensor, key: torch.Tensor, sources: torch.Tensor, divisor: float, dtype: torch.dtype, budget: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """The same for so many sources as the budget holds."""
    heads = query.shape[0]
    total: torch.Tensor | None = None
    for block in cost_blocks(query, key, sources, divisor=divisor, dtype=dtype, budget_bytes=budget):
        part = block.cost.sum(0)
        total = part if total is None else total.add_(part)
        if block.heads.stop == heads:
            for offset, cost in enumerate(total.div_(heads)):
                yield block.frames.start + 1 + offset, cost
            total = None


def way_back(
    query: torch.Tensor, key: torch.Tensor, frame: int, cells: torch.Tensor, *, divisor: float, budget_bytes: int
) -> torch.Tensor:
    """(n, cell) the cost between each of (n,) cells of another frame and every cell of frame 0.

    The cost of a pair of cells is the same in both directions.
    """
    pair = [frame, 0]
    costs = frame_costs(query[:, pair], key[:, pair], cells, divisor=divisor, budget_bytes=budget_bytes)
    return next(iter(costs))[1]
