"""Attention of the points of the first frame to their own frame, the other frames and the text."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from analyses.arrays import (
    BUDGET_BYTES,
    as_points,
    as_tensor,
    check_visibility,
    compute_dtype,
    query_and_key,
    text_tokens,
)
from analyses.kernels.attention_weights import attention_weights
from probe.execution.autocast import outside_autocast
from store.arguments import Array, check_fields, checked
from store.errors import InvalidInputError
from store.layout import GeometryPreset, TokenLayout

TARGETS = ("self", "cross", "text")
_CPU_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True, eq=False)
class Affinity:
    """Confidence and attention score of the queried points, each over ``target`` = self, cross, text.

    Attributes
    ----------
    confidence : DataArray (target)
        Mean over points of the largest attention weight; for ``cross``, over the later frames as well.
    attention_score : DataArray (target)
        Mean over points of the summed attention weight. The three targets add up to one.
    """

    confidence: xr.DataArray
    attention_score: xr.DataArray

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("confidence", "attention_score"):
            if getattr(self, name).sizes != {"target": len(TARGETS)}:
                raise InvalidInputError(f"{name} needs the dims (target: {len(TARGETS)}).")

    def __repr__(self) -> str:
        rows = (
            f"{name} " + ", ".join(f"{target} {value:.3g}" for target, value in zip(TARGETS, array.values, strict=True))
            for name, array in (("confidence", self.confidence), ("attention score", self.attention_score))
        )
        return f"Affinity({'; '.join(rows)})"


@dataclass(frozen=True, slots=True)
class QueriedRows:
    """Cells of frame 0 that are read, and the frames in which each point counts.

    Attributes
    ----------
    cells : (row,) int64, the distinct cells, row-major
    row : (point,) int64, the row of each point
    shown : (point,) bool, visible in image 0
    seen : (frame, point) bool over all frames, visible in every image of the frame
    """

    cells: torch.Tensor
    row: torch.Tensor
    shown: torch.Tensor
    seen: torch.Tensor
    preset: GeometryPreset

    @classmethod
    def of(
        cls, points: torch.Tensor, visibility: torch.Tensor, layout: TokenLayout, preset: GeometryPreset
    ) -> QueriedRows:
        """The rows of checked points (point, 2) with their visibility (image, point)."""
        wanted = (layout.images, len(points))
        if tuple(visibility.shape) != wanted:
            raise InvalidInputError(
                f"visibility needs the shape (image, point) = {wanted}; got {tuple(visibility.shape)}."
            )
        cells, row = torch.unique(_queried_cells(points, layout, preset), return_inverse=True)
        visible = check_visibility(visibility).to(points.device)
        spans = [layout.images_of(frame) for frame in range(layout.frames)]
        seen = torch.stack([visible[span.start : span.stop].all(0) for span in spans])
        return cls(cells, row, visible[0], seen, preset)


@checked
@outside_autocast()
def affinity(
    query: Array,
    key: Array,
    points: Array,
    visibility: Array,
    layout: TokenLayout,
    text_key: Array | None = None,
    *,
    preset: GeometryPreset = "exact",
    budget_bytes: int = BUDGET_BYTES,
) -> Affinity:
    """Return how much, and how sharply, the queried points attend to their own frame, the other frames and the text.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel) torch or numpy, post-norm and post-RoPE
    points : (point, 2) float, (x, y) in pixels of the clip, in image 0
    visibility : (image, point) bool, over the images of the layout
    layout : TokenLayout
    text_key : (head, token, channel), keys of the text tokens in the same attention; without it ``text`` is NaN
    preset : "exact" reads the cell that holds the point. "difftrack" reproduces the released code, which rounds,
        reads the (y, x) grid with (x, y), and averages over hidden points too
    budget_bytes : working memory beyond input and result

    Returns
    -------
    Affinity

    Raises
    ------
    InvalidInputError
        For tensors that do not fit the layout or hold NaN, and for points outside the image.

    Notes
    -----
    One softmax over all tokens, text and every frame, averaged over heads; only the queried rows are computed.
    Self and scores: points visible in image 0. Cross confidence: (point, frame) pairs visible in all images of the
    frame. NaN where nothing counts. DiffTrack (Nam et al., 2025), section 3.2; docs/definitions.md, section 3.

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> tokens = torch.zeros(2, 3, 5, 7, 4)
    >>> affinity(tokens, tokens, torch.tensor([[3.0, 70.0]]), torch.ones(9, 1, dtype=torch.bool), layout)
    Affinity(confidence self 0.00952, cross 0.00952, text nan; attention score self 0.333, cross 0.667, text nan)
    """
    video_query, video_key = query_and_key(query, key, layout)
    text = None if text_key is None else text_tokens(text_key, video_key)
    checked = as_points(points, layout, video_query.device)
    rows = QueriedRows.of(checked, as_tensor(visibility), layout, preset)
    mean = affinity_values(video_query, video_key, text, rows, budget_bytes=budget_bytes)[0].cpu().numpy()
    return Affinity(*(_by_target(values, name) for values, name in zip(mean, ("confidence", "score"), strict=True)))


@torch.no_grad()
def affinity_values(
    query: torch.Tensor,
    key: torch.Tensor,
    text_key: torch.Tensor | None,
    rows: QueriedRows,
    *,
    per_head: bool = False,
    budget_bytes: int = BUDGET_BYTES,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Confidence and attention score as (2, target), and for each head as (2, head, target) when asked.

    ``query`` and ``key`` are checked (head, frame, cell, channel) tensors, ``text_key`` (head, token, channel).
    """
    heads, frames, cells, channels = query.shape
    dtype = compute_dtype(query, key)
    tokens = frames * cells + (0 if text_key is None else text_key.shape[1])
    # Rows of some heads, the softmax's temporary, the keys as floats, and the sum over heads.
    most = max(1, budget_bytes // (4 * tokens * dtype.itemsize))
    mean = query.new_empty((2, 1, len(rows.cells), frames + 1), dtype=dtype)
    alone = mean.new_empty((2, heads, len(rows.cells), frames + 1)) if per_head else None
    for start in range(0, len(rows.cells), most):
        part = slice(start, start + most)
        chosen = rows.cells[part]
        total = mean.new_zeros((len(chosen), tokens))
        step = max(1, most // max(len(chosen), channels))
        if query.device.type == "cpu":  # larger blocks only leave the processor's cache
            step = max(1, min(step, _CPU_BLOCK_BYTES // (len(chosen) * tokens * dtype.itemsize)))
        for head in (slice(first, first + step) for first in range(0, heads, step)):
            asked, keys = query[head, 0].index_select(1, chosen), key[head].contiguous().flatten(1, 2)
            weights = attention_weights(asked, keys, None if text_key is None else text_key[head], dtype=dtype)
            total += weights.sum(0)
            if alone is not None:
                alone[:, head, part] = _peaks_and_sums(weights, frames, cells)
        mean[:, :, part] = _peaks_and_sums((total / heads)[None], frames, cells)
    return _over_points(mean, rows)[:, 0], None if alone is None else _over_points(alone, rows)


def _peaks_and_sums(weights: torch.Tensor, frames: int, cells: int) -> torch.Tensor:
    """Largest weight and sum within each frame and within the text: (2, head, row, frame + 1), text last."""
    video = weights[..., : frames * cells].unflatten(-1, (frames, cells))
    text = weights[..., frames * cells :]
    parts = [torch.stack([video.amax(-1), video.sum(-1)])]
    if text.shape[-1]:
        parts.append(torch.stack([text.amax(-1, keepdim=True), text.sum(-1, keepdim=True)]))
    else:
        parts.append(weights.new_full((2, *weights.shape[:2], 1), math.nan))
    return torch.cat(parts, -1)


def _over_points(values: torch.Tensor, rows: QueriedRows) -> torch.Tensor:
    """(2, head, row, frame + 1) peaks and sums as (2, head, target) confidence and score, float64 on the device."""
    peaks, sums = values.double()[:, :, rows.row]
    shown = rows.shown.double()
    own = shown if rows.preset == "exact" else torch.ones_like(shown)
    seen = rows.seen[1:].T.double()
    if rows.preset == "exact":
        cross = (peaks[..., 1:-1] * seen).sum((-1, -2)) / seen.sum()
    else:
        cross = ((peaks[..., 1:-1] * seen).sum(-1) / seen.sum(-1).clamp_min(1)).mean(-1)
    confidence = [_mean_over(peaks[..., 0], own), cross, _mean_over(peaks[..., -1], own)]
    score = [_mean_over(part, shown) for part in (sums[..., 0], sums[..., 1:-1].sum(-1), sums[..., -1])]
    return torch.stack([torch.stack(confidence, -1), torch.stack(score, -1)])


def _mean_over(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean over the points that count, with weights 0 and 1: indexing with a mask would wait for the device."""
    return (values * counted).sum(-1) / counted.sum()


def _queried_cells(points: torch.Tensor, layout: TokenLayout, preset: GeometryPreset) -> torch.Tensor:
    """The row-major cell of frame 0 that each point reads."""
    if preset == "exact":
        rows, columns = torch.as_tensor(layout.cell_at(points.cpu().numpy()), device=points.device).T
    else:
        # The released code clips x by the height and y by the width, and then takes x for the row.
        x, y = layout.to_cells(points, "difftrack").round().long().T
        rows, columns = x.clamp(0, layout.height - 1), y.clamp(0, layout.width - 1)
    return rows * layout.width + columns


def _by_target(values: np.ndarray, name: str) -> xr.DataArray:
    attrs = {
        "confidence": {"long_name": "confidence: mean of the largest attention weight", "units": "1"},
        "score": {"long_name": "attention score: mean of the summed attention weight", "units": "1"},
    }[name]
    return xr.DataArray(values, dims="target", coords={"target": list(TARGETS)}, attrs=attrs)
