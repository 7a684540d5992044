"""Attention whose values are cell coordinates, computed by frame pair, never as a (frame x cell) squared matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from analyses.arrays import compute_dtype
from analyses.kernels.products import product
from probe.execution.autocast import outside_autocast

TILE_BYTES = 32 * 2**20
"""Largest size in bytes of one tile of the attention between two frames."""


@dataclass(frozen=True, eq=False)
class ChosenRows:
    """Source cells for which attention is computed, for each frame pair that has any; other cells are skipped.

    Attributes
    ----------
    pairs : list of (frame, frame_to, (n,) int64 cells on the device, their slice in the result)
    cells : (row,) int64, the cells of all pairs one after the other
    """

    pairs: list[tuple[int, int, torch.Tensor, slice]]
    cells: torch.Tensor

    @classmethod
    def of(cls, mask: torch.Tensor, device: torch.device) -> ChosenRows:
        """Return the cells of a mask (frame, frame_to, cell), in its order, on a device; the mask is on the CPU."""
        cells = mask.nonzero()[:, 2].to(device)
        counts, pairs, count = mask.sum(-1), list[tuple[int, int, torch.Tensor, slice]](), 0
        for frame, frame_to in counts.nonzero().tolist():
            place = slice(count, count + int(counts[frame, frame_to]))
            pairs.append((frame, frame_to, cells[place], place))
            count = place.stop
        return cls(pairs, cells)


class ExpectedCells(torch.autograd.Function):
    """The mean target cell of every source cell under its attention to a frame, for every ordered pair of frames.

    ``apply(query, key, cells, scale, chosen)`` takes query and key (head, frame, cell, channel), the coordinates
    (cell, 2) and the factor of the product of length heads x channel before the softmax, and returns
    (frame, frame_to, cell, 2), or (row, 2) of the :class:`ChosenRows` where they are not None.

    Backward computes the attention again, tile by tile. With m = sum_j W_j c_j, dm/dlogit_j = W_j (c_j - m), so that
    the gradient of a logit is W_j (g . c_j - g . m). There is no second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        cells: torch.Tensor,
        scale: float,
        chosen: ChosenRows | None = None,
    ) -> torch.Tensor:
        """The expected cells."""
        count = (query.shape[1], key.shape[1], query.shape[2]) if chosen is None else (len(chosen.cells),)
        expected = cells.new_empty(*count, 2)
        for place, _, logits, _, source, target in _tiles(query, key, cells.dtype, scale, chosen):
            torch.mm(logits.softmax(-1), cells, out=expected[place])
            del logits, source, target  # before the next tile is computed
        ctx.save_for_backward(query, key, cells, expected)
        ctx.scale, ctx.chosen = scale, chosen
        return expected

    @staticmethod
    @torch.autograd.function.once_differentiable
    @outside_autocast()
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        """Gradients of query and key."""
        query, key, cells, expected = ctx.saved_tensors
        query_gradient, key_gradient = (torch.zeros_like(tensor, dtype=cells.dtype) for tensor in (query, key))
        for place, pair, logits, rows, source, target in _tiles(query, key, cells.dtype, ctx.scale, ctx.chosen):
            here = gradient[place]
            mean = (here * expected[place]).sum(-1, keepdim=True)
            change = torch.addmm(-mean, here, cells.T).mul_(logits.softmax(-1))
            query_gradient[:, pair[0], rows] += _split(change @ target.to(change.dtype), len(query))
            key_gradient[:, pair[1]] += _split(change.T @ source.to(change.dtype), len(key))
            del logits, change, source, target  # before the next tile is computed
        scaled = query_gradient.mul_(ctx.scale).to(query.dtype), key_gradient.mul_(ctx.scale).to(key.dtype)
        return *scaled, None, None, None


def best_cells(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """(frame, frame_to, cell) int64: the target cell of the largest head-averaged logit, the first of equal ones."""
    best = torch.empty(query.shape[1], key.shape[1], query.shape[2], dtype=torch.int64, device=query.device)
    for place, _, logits, _, _, _ in _tiles(query, key, compute_dtype(query, key), 1.0):
        best[place] = logits.argmax(-1)
    return best


_Place = tuple[int, int, slice] | slice
_Rows = slice | torch.Tensor


def _tiles(
    query: torch.Tensor, key: torch.Tensor, dtype: torch.dtype, scale: float, chosen: ChosenRows | None = None
) -> Iterator[tuple[_Place, tuple[int, int], torch.Tensor, _Rows, torch.Tensor, torch.Tensor]]:
    """Place in the result, frame pair, logits (source, target), source cells, and the two factors, heads joined."""
    cells = query.shape[2]
    size = max(1, TILE_BYTES // (cells * dtype.itemsize))
    before, sources = -1, query
    for frame, frame_to, listed, place in _pairs(query, key, chosen):
        if frame != before:
            before, sources = frame, _join(query[:, frame])
        targets = _join(key[:, frame_to])
        for start in range(0, cells if listed is None else len(listed), size):
            if listed is None:
                rows: _Rows = slice(start, min(start + size, cells))
                there: _Place = (frame, frame_to, rows)  # type: ignore[assignment]
            else:
                rows = listed[start : start + size]
                there = slice(place.start + start, place.start + start + len(rows))
            source = sources[rows]
            yield there, (frame, frame_to), product(source, targets, dtype, scale), rows, source, targets
            del source
        del targets


def _pairs(
    query: torch.Tensor, key: torch.Tensor, chosen: ChosenRows | None
) -> list[tuple[int, int, torch.Tensor | None, slice]]:
    if chosen is not None:
        return list(chosen.pairs)
    return [(frame, to, None, slice(0)) for frame in range(query.shape[1]) for to in range(key.shape[1])]


def _join(tokens: torch.Tensor) -> torch.Tensor:
    """(head, cell, channel) as (cell, head x channel)."""
    return tokens.transpose(0, 1).flatten(1)


def _split(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """(cell, head x channel) as (head, cell, channel)."""
    return tokens.unflatten(1, (heads, -1)).transpose(0, 1)
