"""The matching cost of chosen source cells, in blocks that fit a stated budget.

The cost of a source cell in frame 0 and a target cell in frame f is the mean of two attention weights: the source's
query on the target's key, normalised over the target cells, and the target's query on the source's key, normalised
over the source cells (DiffTrack, section 3; docs/definitions.md, section 2). The first needs one row for each source
cell. The second needs a column of a matrix whose rows are normalised, so every row has to be computed, but no head's
matrix is ever kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from analyses.arrays import compute_dtype
from store.errors import InvalidInputError

# Larger blocks only leave the processor's cache; an accelerator wants all that the budget allows.
_CPU_BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class CostBlock:
    """The cost of some heads and target frames: ``cost`` is (head, frame, source, cell); frames count from 1."""

    heads: slice
    frames: slice
    cost: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Blocking:
    """Numbers of heads, frames and target rows that are taken at once."""

    heads: int
    frames: int
    rows: int

    @classmethod
    def within(
        cls, budget_bytes: int, pairs: tuple[int, int], sources: int, cells: int, dtype: torch.dtype, on_cpu: bool
    ) -> _Blocking:
        heads, frames = pairs
        # Forward rows, backward rows, and their sum over heads with its temporary; then the full product.
        fixed, full = 4 * sources * cells * dtype.itemsize, cells * cells * dtype.itemsize
        if fixed + full > budget_bytes:
            return cls(1, 1, max(1, min(cells, (budget_bytes - fixed) // (cells * dtype.itemsize))))
        limit = min(budget_bytes, _CPU_BLOCK_BYTES) if on_cpu else budget_bytes
        together = max(1, limit // (fixed + full))
        head_block = min(heads, together)
        return cls(head_block, max(1, min(frames, together // head_block)), cells)


def sources_within(budget_bytes: int, cells: int, itemsize: int) -> int:
    """Return how many source cells can be matched at once within the budget.

    Raises
    ------
    InvalidInputError
        When the budget does not hold a single source cell.
    """
    # Half of the budget for the four (source, cell) arrays, the other half for the product that normalises.
    sources = budget_bytes // (8 * cells * itemsize)
    if sources < 1:
        raise InvalidInputError(
            f"budget_bytes={budget_bytes} is too small to match one cell against {cells}. "
            f"Allow at least {8 * cells * itemsize} bytes."
        )
    return sources


@dataclass(frozen=True, slots=True)
class _Scratch:
    """Memory that every block reuses: fresh pages cost as much as the arithmetic."""

    forward: torch.Tensor
    backward: torch.Tensor
    product: torch.Tensor

    @classmethod
    def for_blocks(cls, size: _Blocking, sources: int, cells: int, like: torch.Tensor, dtype: torch.dtype) -> _Scratch:
        pairs = size.heads * size.frames
        sizes = (pairs * sources * cells, pairs * sources * cells, pairs * cells * size.rows)
        return cls(*(torch.empty(count, dtype=dtype, device=like.device) for count in sizes))


def _view(memory: torch.Tensor, *shape: int) -> torch.Tensor:
    return memory[: math.prod(shape)].view(shape)


def _forward(query: torch.Tensor, key: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """Attention of the sources (pair, source, channel) on the cells of a frame (pair, cell, channel)."""
    logits = torch.bmm(query, key.transpose(-1, -2), out=_view(memory, len(key), query.shape[1], key.shape[1]))
    logits.sub_(logits.amax(-1, keepdim=True)).exp_()
    return logits.div_(logits.sum(-1, keepdim=True))


def _backward(
    query: torch.Tensor, key: torch.Tensor, sources: torch.Tensor, rows: int, scratch: _Scratch
) -> torch.Tensor:
    """Attention of a frame's cells (pair, cell, channel) on the sources, as (pair, source, cell).

    The product is taken transposed, (source cell, target cell): the chosen sources are then whole rows, and the
    normaliser of each target is a sum down its column.
    """
    pairs, cells, _ = query.shape
    chosen = _view(scratch.backward, pairs, len(sources), cells)
    for start in range(0, cells, rows):
        block = query[:, start : start + rows].transpose(-1, -2)
        logits = torch.bmm(key, block, out=_view(scratch.product, pairs, cells, block.shape[-1]))
        logits.sub_(logits.amax(-2, keepdim=True)).exp_()
        part = chosen[..., start : start + rows]
        torch.index_select(logits, -2, sources, out=part)
        part.div_(logits.sum(-2, keepdim=True))
    return chosen


def _by_pair(tokens: torch.Tensor, frames: int, dtype: torch.dtype) -> torch.Tensor:
    """(head, frame or 1, cell, channel) as (head * frame, cell, channel) of the dtype.

    Contiguous, so that a live capture and its recording take the same path to the last bit.
    """
    return tokens.to(dtype).contiguous().expand(-1, frames, -1, -1).flatten(0, 1)


def cost_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    sources: torch.Tensor,
    *,
    divisor: float,
    dtype: torch.dtype,
    budget_bytes: int,
) -> Iterator[CostBlock]:
    """The matching cost of the source cells against every later frame, all heads of a frame before the next frame.

    Parameters
    ----------
    query, key : (head, frame, cell, channel) tensors
    sources : (source,) int64, cells of frame 0
    divisor : what the logits are divided by, sqrt(channel) by definition
    dtype : what is computed in
    budget_bytes : memory that one block and its temporaries may take

    Yields
    ------
    CostBlock
        Its cost lives in memory that the next block overwrites.
    """
    heads, frames, cells, _ = query.shape
    on_cpu = query.device.type == "cpu"
    size = _Blocking.within(budget_bytes, (heads, frames - 1), len(sources), cells, dtype, on_cpu)
    scratch = _Scratch.for_blocks(size, len(sources), cells, query, dtype)
    for first in range(1, frames, size.frames):
        frame = slice(first, min(first + size.frames, frames))
        count = frame.stop - frame.start
        for start in range(0, heads, size.heads):
            head = slice(start, min(start + size.heads, heads))
            asked = _by_pair(query[head, :1].index_select(2, sources), count, dtype) / divisor
            cost = _forward(asked, _by_pair(key[head, frame], count, dtype), scratch.forward)
            others = _by_pair(query[head, frame], count, dtype) / divisor
            back = _backward(others, _by_pair(key[head, :1], count, dtype), sources, size.rows, scratch)
            shape = (head.stop - head.start, count, len(sources), cells)
            yield CostBlock(head, slice(frame.start - 1, frame.stop - 1), cost.add_(back).mul_(0.5).view(shape))


def frame_costs(
    query: torch.Tensor, key: torch.Tensor, sources: torch.Tensor, *, divisor: float, budget_bytes: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """(frame, (source, cell) cost) for every frame after the first, mean over heads.

    Parameters
    ----------
    query, key : (head, frame, cell, channel) tensors
    sources : (source,) int64, cells of frame 0
    divisor : what the logits are divided by
    budget_bytes : working memory in addition to the costs; costs of several frames are computed at a time
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
        here = _two_frames(query, 0, frame), _two_frames(key, 0, frame)
        parts = [next(_blocked(*here, part, divisor, dtype, budget_bytes))[1] for part in sources.split(most)]
        yield frame, torch.cat(parts)


def _blocked(
    query: torch.Tensor, key: torch.Tensor, sources: torch.Tensor, divisor: float, dtype: torch.dtype, budget: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the same for as many sources as the budget holds."""
    heads = query.shape[0]
    total: torch.Tensor | None = None
    for block in cost_blocks(query, key, sources, divisor=divisor, dtype=dtype, budget_bytes=budget):
        part = block.cost.sum(0)
        total = part if total is None else total.add_(part)
        if block.heads.stop == heads:
            for offset, cost in enumerate(total.div_(heads)):
                yield block.frames.start + 1 + offset, cost
            total = None


def backward_costs(
    query: torch.Tensor, key: torch.Tensor, frame: int, cells: torch.Tensor, *, divisor: float, budget_bytes: int
) -> torch.Tensor:
    """(n, cell) the cost between each of (n,) cells of another frame and every cell of frame 0.

    The cost of a pair of cells is the same in both directions.
    """
    here = _two_frames(query, frame, 0), _two_frames(key, frame, 0)
    return next(iter(frame_costs(*here, cells, divisor=divisor, budget_bytes=budget_bytes)))[1]


def _two_frames(tokens: torch.Tensor, first: int, second: int) -> torch.Tensor:
    """(head, 2, cell, channel), without an index that would have to be copied to the device."""
    return torch.stack([tokens[:, first], tokens[:, second]], 1)
