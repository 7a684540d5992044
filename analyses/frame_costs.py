"""The matching cost between the first frame of a chunk and each later one, a frame at a time; and the way back."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from analyses.costs import cost_blocks
from analyses.tensors import compute_dtype


def frame_costs(
    query: torch.Tensor, key: torch.Tensor, sources: torch.Tensor, *, divisor: float, budget_bytes: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """(frame, (source, cell) cost) for every frame after the first, mean over heads.

    Parameters
    ----------
    query, key : (head, frame, cell, channel) tensors
    sources : (source,) int64, cells of frame 0
    divisor : what the logits are divided by
    budget_bytes : working memory
    """
    heads, dtype = query.shape[0], compute_dtype(query, key)
    total: torch.Tensor | None = None
    for block in cost_blocks(query, key, sources, divisor=divisor, dtype=dtype, budget_bytes=budget_bytes):
        part = block.cost.sum(0)
        total = part if total is None else total.add_(part)
        if block.heads.stop == heads:
            for offset, cost in enumerate(total.div_(heads)):
                yield block.frames.start + 1 + offset, cost
            total = None


def return_cells(
    query: torch.Tensor, key: torch.Tensor, frame: int, cells: torch.Tensor, *, divisor: float, budget_bytes: int
) -> torch.Tensor:
    """(n,) the cell of frame 0 that each of (n,) cells of another frame matches.

    The cost is the same in both directions; only the argmax is over the other axis.
    """
    distinct, index = torch.unique(cells, return_inverse=True)
    pair = [frame, 0]
    costs = frame_costs(query[:, pair], key[:, pair], distinct, divisor=divisor, budget_bytes=budget_bytes)
    _, cost = next(iter(costs))
    return cost.argmax(-1)[index]
