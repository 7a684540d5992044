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
from analyses.kernels.products import log_sum_exp, multiplies_half, product
from probe.execution.autocast import outside_autocast
from store.errors import InvalidInputError

# Larger products do not fit the processor's cache; an accelerator is fastest with all that the budget allows.
_CPU_BLOCK_BYTES = 3 * 2**18
_SAFE_LOGIT = 80.0
"""Bound on logits below which no exponential leaves the range of float32, so the largest need not be subtracted."""


@dataclass(frozen=True, slots=True)
class CostBlock:
    """The cost of some heads and target frames: ``cost`` is (head, frame, source, cell); frames count from 1."""

    heads: slice
    frames: slice
    cost: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Blocking:
    """Numbers of heads, frames and target rows that are processed at once."""

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
        # whole vectors of the processor
        rows = min(cells, max(32, _CPU_BLOCK_BYTES // (cells * dtype.itemsize) // 32 * 32)) if on_cpu else cells
        block = rows * cells * dtype.itemsize
        together = max(1, budget_bytes // (fixed + block))
        if on_cpu:
            together = max(1, min(together, _CPU_BLOCK_BYTES // block))
        head_block = min(heads, together)
        return cls(head_block, max(1, min(frames, together // head_block)), rows)


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
    """Memory that every block reuses: allocating pages costs as much as the arithmetic."""

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


@outside_autocast()
def _forward(query: torch.Tensor, key: torch.Tensor, rows: int, memory: torch.Tensor, shift: bool) -> torch.Tensor:
    """Attention of the sources (pair, source, channel) on the cells of a frame (pair, cell, channel).

    Queries are scaled for powers of 2, which are several times faster than those of e.
    """
    whole = _view(memory, len(key), query.shape[1], key.shape[1])
    for start in range(0, query.shape[1], rows if len(key) == 1 else max(1, query.shape[1])):
        part = slice(start, start + rows) if len(key) == 1 else slice(None)
        logits = torch.bmm(query[:, part], key.transpose(-1, -2), out=whole[:, part])
        if shift:
            logits.sub_(logits.amax(-1, keepdim=True))
        logits.exp2_()
        logits.div_(logits.sum(-1, keepdim=True))
    return whole


@outside_autocast()
def _backward(
    query: torch.Tensor, key: torch.Tensor, sources: torch.Tensor, rows: int, scratch: _Scratch, shift: bool
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
        if shift:
            logits.sub_(logits.amax(-2, keepdim=True))
        logits.exp2_()
        part = chosen[..., start : start + rows]
        torch.index_select(logits, -2, sources, out=part)
        part.div_(logits.sum(-2, keepdim=True))
    return chosen


def _by_pair(tokens: torch.Tensor, frames: int, dtype: torch.dtype) -> torch.Tensor:
    """(head, frame or 1, cell, channel) as (head * frame, cell, channel) of the dtype.

    Contiguous, so that a live capture and its recording give the same result to the last bit.
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
    fused: bool | None = None,
) -> Iterator[CostBlock]:
    """The matching cost of the source cells against every later frame, all heads of a frame before the next frame.

    Parameters
    ----------
    query, key : (head, frame, cell, channel) tensors
    sources : (source,) int64, cells of frame 0
    divisor : of the logits, sqrt(channel) by definition
    dtype : data type of the computation
    budget_bytes : memory that one block and its temporaries may take
    fused : normalise by the log-sum-exp of a fused attention instead of writing the product of all cells; by default
        for half precision on CUDA, where the captured values are multiplied without conversion

    Yields
    ------
    CostBlock
        Its cost lives in memory that the next block overwrites.
    """
    heads, frames, cells, _ = query.shape
    if fused is None:
        fused = dtype == torch.float32 and multiplies_half(query, key)
    if fused:
        yield from _fused_blocks(query, key, sources, divisor, budget_bytes)
        return
    on_cpu = query.device.type == "cpu"
    shift = not on_cpu or _largest_logit(query, key, divisor) > _SAFE_LOGIT
    factor = math.log2(math.e) / divisor
    size = _Blocking.within(budget_bytes, (heads, frames - 1), len(sources), cells, dtype, on_cpu)
    scratch = _Scratch.for_blocks(size, len(sources), cells, query, dtype)
    for first in range(1, frames, size.frames):
        frame = slice(first, min(first + size.frames, frames))
        count = frame.stop - frame.start
        for start in range(0, heads, size.heads):
            head = slice(start, min(start + size.heads, heads))
            asked = _by_pair(query[head, :1].index_select(2, sources), count, dtype) * factor
            cost = _forward(asked, _by_pair(key[head, frame], count, dtype), size.rows, scratch.forward, shift)
            others = _by_pair(query[head, frame], count, dtype) * factor
            back = _backward(others, _by_pair(key[head, :1], count, dtype), sources, size.rows, scratch, shift)
            shape = (head.stop - head.start, count, len(sources), cells)
            yield CostBlock(head, slice(frame.start - 1, frame.stop - 1), cost.add_(back).mul_(0.5).view(shape))


def _largest_logit(query: torch.Tensor, key: torch.Tensor, divisor: float) -> float:
    """An upper bound on the absolute logits: the product of the largest norms. NaN if a value is NaN."""
    norms = [torch.linalg.vector_norm(part, dim=-1, dtype=compute_dtype(part)) for part in (query, key)]
    bound = float(norms[0].amax() * norms[1].amax()) / divisor
    return math.inf if math.isnan(bound) else bound


def _fused_blocks(
    query: torch.Tensor, key: torch.Tensor, sources: torch.Tensor, divisor: float, budget_bytes: int
) -> Iterator[CostBlock]:
    """The blocks of :func:`cost_blocks` without the product of all cells: two products of the source cells alone."""
    heads, frames, cells, _ = query.shape
    scale = 1 / divisor
    together = max(1, budget_bytes // (4 * 4 * max(1, len(sources)) * cells))
    size = min(heads, together)
    asked, answering = (part[:, :1].index_select(2, sources) for part in (query, key))
    for frame in range(1, frames):
        for start in range(0, heads, size):
            head = slice(start, min(start + size, heads))
            queries, keys = query[head, frame], key[head, frame]
            lse = log_sum_exp(queries[None], key[None, head, 0], scale)
            if lse is None:
                logits = product(queries, key[head, 0], torch.float32, scale)
                lse = logits.logsumexp(-1)[None]
            cost = product(asked[head, 0], keys, torch.float32, scale).softmax(-1)
            back = product(answering[head, 0], queries, torch.float32, scale).sub_(lse[0, :, None].float()).exp_()
            yield CostBlock(head, slice(frame - 1, frame), cost.add_(back).mul_(0.5)[:, None])


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
