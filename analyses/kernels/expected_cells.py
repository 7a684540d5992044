"""Attention whose values are cell coordinates, frame pair by frame pair: no (frame x cell) squared matrix, ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from analyses.arrays import compute_dtype

TILE_BYTES = 32 * 2**20
"""The most that one tile of the attention between two frames takes."""


class ExpectedCells(torch.autograd.Function):
    """The mean target cell of every source cell under its attention to a frame, for every ordered pair of frames.

    ``apply(query, key, cells, scale)`` takes query and key (head, frame, cell, channel), the coordinates (cell, 2) and
    the factor of the product of length heads x channel before the softmax, and returns (frame, frame_to, cell, 2).

    Backward computes the attention again, tile by tile. With m = sum_j W_j c_j, dm/dlogit_j = W_j (c_j - m), so that
    the gradient of a logit is W_j (g . c_j - g . m). There is no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, cells: torch.Tensor, scale: float) -> torch.Tensor:
        """The expected cells."""
        expected = cells.new_empty(query.shape[1], key.shape[1], query.shape[2], 2)
        for frame, frame_to, rows, logits, _, _ in _tiles(query, key, cells.dtype, scale):
            torch.mm(logits.softmax(-1), cells, out=expected[frame, frame_to, rows])
        ctx.save_for_backward(query, key, cells, expected)
        ctx.scale = scale
        return expected

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        """Gradients of query and key."""
        query, key, cells, expected = ctx.saved_tensors
        query_gradient, key_gradient = (torch.zeros_like(tensor, dtype=cells.dtype) for tensor in (query, key))
        for frame, frame_to, rows, logits, source, target in _tiles(query, key, cells.dtype, ctx.scale):
            here = gradient[frame, frame_to, rows]
            mean = (here * expected[frame, frame_to, rows]).sum(-1, keepdim=True)
            change = torch.addmm(-mean, here, cells.T).mul_(logits.softmax(-1))
            query_gradient[:, frame, rows] += _split(change @ target, len(query))
            key_gradient[:, frame_to] += _split(change.T @ source, len(key))
        return query_gradient.mul_(ctx.scale).to(query.dtype), key_gradient.to(key.dtype), None, None


def best_cells(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """(frame, frame_to, cell) int64: the target cell of the largest head-averaged logit, the first of equal ones."""
    best = torch.empty(query.shape[1], key.shape[1], query.shape[2], dtype=torch.int64, device=query.device)
    for frame, frame_to, rows, logits, _, _ in _tiles(query, key, compute_dtype(query, key), 1.0):
        best[frame, frame_to, rows] = logits.argmax(-1)
    return best


def _tiles(
    query: torch.Tensor, key: torch.Tensor, dtype: torch.dtype, scale: float
) -> Iterator[tuple[int, int, slice, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Frame pair, source cells, their logits (source, target), and the two factors of these, heads joined."""
    cells = query.shape[2]
    size = max(1, TILE_BYTES // (cells * dtype.itemsize))
    for frame in range(query.shape[1]):
        sources = _join(query[:, frame], dtype).mul(scale)
        for frame_to in range(key.shape[1]):
            targets = _join(key[:, frame_to], dtype)
            for start in range(0, cells, size):
                rows = slice(start, start + size)
                yield frame, frame_to, rows, sources[rows] @ targets.T, sources[rows], targets


def _join(tokens: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(head, cell, channel) as (cell, head x channel)."""
    return tokens.transpose(0, 1).flatten(1).to(dtype)


def _split(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """(cell, head x channel) as (head, cell, channel)."""
    return tokens.unflatten(1, (heads, -1)).transpose(0, 1)
