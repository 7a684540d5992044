"""Correspondence of points of the first frame with later frames, by query-key attention or by features."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch

from analyses.arrays import (
    BUDGET_BYTES,
    as_points,
    as_tensor,
    cells_as_xy,
    check_finite,
    compute_dtype,
    query_and_key,
    restore_kind,
)
from analyses.correspondence.bilinear import Corners
from analyses.correspondence.peaks import neighbourhood_mean
from analyses.kernels.matching_cost import CostBlock, cost_blocks, sources_within
from probe.execution.autocast import outside_autocast
from store.arguments import Array, checked
from store.checks import integer, one_of
from store.errors import InvalidInputError
from store.layout import GeometryPreset, TokenLayout

MatchPreset = Literal["exact", "difftrack", "difftrack-tracking"]
Refine = Literal["soft"] | None
_PRESETS = ("exact", "difftrack", "difftrack-tracking")


@dataclass(frozen=True, slots=True)
class Matches:
    """The matched cell (x, y) of every source cell, by the mean over heads and, if requested, by each head.

    ``mean`` is (frame, source, 2) over the frames after the first; ``heads`` is (head, frame, source, 2) or None.
    """

    mean: torch.Tensor
    heads: torch.Tensor | None


@checked
@torch.no_grad()
@outside_autocast()
def match_points(
    query: Array,
    key: Array,
    points: Array,
    layout: TokenLayout,
    *,
    preset: MatchPreset = "exact",
    refine: Refine = None,
    window: int = 1,
    frame: int = 0,
    budget_bytes: int = BUDGET_BYTES,
) -> Any:
    """The position of each query point in every frame, by the mean over heads of two-way attention.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel) torch or numpy, post-norm and post-RoPE
    points : (point, 2) float, (x, y) in pixels of the clip, in ``frame``; pixel centres at +0.5
    layout : TokenLayout
    preset : "exact" interpolates displacements at the true cell centres. "difftrack" reproduces the released generation
        analysis, "difftrack-tracking" the released tracking evaluation, which divides by sqrt(heads).
    refine : None takes the best cell; "soft" the mean cell around it, weighted by the matching cost
    window : cells on each side of the best one that "soft" averages over
    frame : the latent frame in which the points are
    budget_bytes : working memory beyond input and result

    Returns
    -------
    (frame, point, 2) of the kind of ``query``, (x, y) in pixels. In their own frame they are ``points``, unchanged.

    Raises
    ------
    InvalidInputError
        For tensors that do not fit the layout or hold NaN, and for points outside the image.

    Notes
    -----
    DiffTrack (Nam et al., 2025), section 3.2; docs/definitions.md, sections 1 and 2.

    Examples
    --------
    A static clip: every frame has the same distinct keys.

    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> cells = 9 * torch.eye(35).reshape(1, 1, 5, 7, 35).expand(1, 3, 5, 7, 35)
    >>> match_points(cells, cells, torch.tensor([[3.0, 70.0]]), layout)[2]
    tensor([[ 3., 70.]])
    """
    tokens = _frame_first(*query_and_key(query, key, layout), frame)
    corners = corners_of(points, layout, preset, tokens[0].device)
    found = match_sources(*tokens, corners, preset=preset, refine=refine, window=window, budget_bytes=budget_bytes)
    return restore_kind(query)(_in_order(tracks_of(found.mean, corners), frame))


@checked
@torch.no_grad()
@outside_autocast()
def match_points_by_head(
    query: Array,
    key: Array,
    points: Array,
    layout: TokenLayout,
    *,
    preset: MatchPreset = "exact",
    refine: Refine = None,
    window: int = 1,
    frame: int = 0,
    budget_bytes: int = BUDGET_BYTES,
) -> Any:
    """The position of each query point in every frame, by each head alone.

    Takes what :func:`match_points` takes.

    Returns
    -------
    (head, frame, point, 2) of the kind of ``query``, (x, y) in pixels

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> cells = torch.randn(2, 3, 5, 7, 4)
    >>> match_points_by_head(cells, cells, torch.tensor([[3.0, 70.0]]), layout).shape
    torch.Size([2, 3, 1, 2])
    """
    tokens = _frame_first(*query_and_key(query, key, layout), frame)
    corners = corners_of(points, layout, preset, tokens[0].device)
    found = match_sources(
        *tokens, corners, preset=preset, per_head=True, refine=refine, window=window, budget_bytes=budget_bytes
    )
    return restore_kind(query)(_in_order(tracks_of(cast("torch.Tensor", found.heads), corners), frame))


@checked
@torch.no_grad()
@outside_autocast()
def match_features(
    features: Array,
    points: Array,
    layout: TokenLayout,
    *,
    preset: GeometryPreset = "exact",
    budget_bytes: int = BUDGET_BYTES,
) -> Any:
    """The position of each query point in every frame, by the inner product of features.

    Parameters
    ----------
    features : (frame, y, x, channel) torch or numpy, the attention output with its heads concatenated
    points : (point, 2) float, (x, y) in pixels of the clip, in image 0
    layout : TokenLayout
    preset : "exact" or "difftrack": the geometry, as in :func:`match_points`
    budget_bytes : working memory beyond input and result

    Returns
    -------
    (frame, point, 2) of the kind of ``features``, (x, y) in pixels

    Raises
    ------
    InvalidInputError
        For features that do not fit the layout or hold NaN, and for points outside the image.

    Notes
    -----
    One direction, softmax(F_0 F_f^T) without a scale (DiffTrack): its best cell is that of the product itself.

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> features = torch.eye(35).reshape(1, 5, 7, 35).expand(3, 5, 7, 35)
    >>> match_features(features, torch.tensor([[3.0, 70.0]]), layout)[2]
    tensor([[ 3., 70.]])
    """
    tensor = as_tensor(features)
    wanted = (layout.frames, layout.height, layout.width)
    if tensor.ndim != 4 or tuple(tensor.shape[:3]) != wanted:
        raise InvalidInputError(
            f"features need the shape (frame, y, x, channel) with (frame, y, x) = {wanted}; got {tuple(tensor.shape)}."
        )
    check_finite(tensor, "features")
    corners = corners_of(points, layout, preset, tensor.device)
    found = match_feature_sources(tensor.flatten(1, 2), corners, budget_bytes=budget_bytes)
    return restore_kind(features)(tracks_of(found, corners))


def _frame_first(query: torch.Tensor, key: torch.Tensor, frame: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(head, frame, cell, channel) queries and keys with one frame before all others."""
    frames = query.shape[1]
    if not 0 <= integer(frame, "frame") < frames:
        raise InvalidInputError(f"frame {frame} does not exist: the layout has frames 0 to {frames - 1}.")
    if frame == 0:
        return query, key
    order = [frame, *(other for other in range(frames) if other != frame)]
    return query[:, order], key[:, order]


def _in_order(tracks: torch.Tensor, frame: int) -> torch.Tensor:
    """(..., frame, point, 2) tracks with the first frame moved back to its place."""
    first, others = tracks[..., :1, :, :], tracks[..., 1:, :, :]
    return torch.cat([others[..., :frame, :, :], first, others[..., frame:, :, :]], -3)


def corners_of(points: Any, layout: TokenLayout, preset: MatchPreset, device: torch.device) -> Corners:
    """The cells around checked query points, on the device of the tokens."""
    geometry: GeometryPreset = "exact" if preset == "exact" else "difftrack"
    return Corners.around(as_points(points, layout, device), layout, geometry)


def tracks_of(matches: torch.Tensor, corners: Corners) -> torch.Tensor:
    """(..., frame - 1, source, 2) matched cells as (..., frame, point, 2) pixels, the query points first."""
    later = corners.read(matches)
    first = corners.points.expand(*later.shape[:-3], 1, *corners.points.shape)
    return torch.cat([first, later], -3)


def match_sources(
    query: torch.Tensor,
    key: torch.Tensor,
    corners: Corners,
    *,
    preset: MatchPreset = "exact",
    per_head: bool = False,
    refine: Refine = None,
    window: int = 1,
    budget_bytes: int = BUDGET_BYTES,
) -> Matches:
    """The matched cell of each source cell; ``query`` and ``key`` are checked (head, frame, cell, channel) tensors."""
    one_of(refine, (None, "soft"), "refine")
    integer(integer(window, "window", max_value=1000), "window", min_value=1)
    dtype = compute_dtype(query, key)
    divisor = math.sqrt(query.shape[0] if preset == "difftrack-tracking" else query.shape[-1])
    most = sources_within(budget_bytes, query.shape[2], dtype.itemsize)
    radius = window if refine else 0
    heads, frames, points = query.shape[0], query.shape[1], len(corners.sources)
    mean = query.new_empty((frames - 1, points, 2), dtype=dtype)
    alone = query.new_empty((heads, frames - 1, points, 2), dtype=dtype) if per_head else None
    for start in range(0, points, most):
        part = slice(start, start + most)
        found = Matches(mean[:, part], None if alone is None else alone[:, :, part])
        blocks = cost_blocks(query, key, corners.sources[part], divisor=divisor, dtype=dtype, budget_bytes=budget_bytes)
        _match_blocks(blocks, found, corners.layout, radius, heads)
    return Matches(mean, alone)


def match_feature_sources(
    features: torch.Tensor, corners: Corners, *, budget_bytes: int = BUDGET_BYTES
) -> torch.Tensor:
    """(frame - 1, source, 2) matched cells of checked (frame, cell, channel) features."""
    features = features.to(compute_dtype(features))
    frames, cells, _ = features.shape
    most = sources_within(budget_bytes, cells, features.element_size())
    found = features.new_empty(frames - 1, len(corners.sources), 2)
    for frame in range(1, frames):
        for start in range(0, len(corners.sources), most):
            part = corners.sources[start : start + most]
            product = features[0, part] @ features[frame].T
            found[frame - 1, start : start + most] = cells_as_xy(product.argmax(-1), corners.layout).to(found.dtype)
    return found


def _match_blocks(blocks: Iterable[CostBlock], found: Matches, layout: TokenLayout, radius: int, heads: int) -> None:
    """Fill ``found``, views of the matches of some sources, with the best cells of their costs."""
    total = None
    for block in blocks:
        if found.heads is not None:
            found.heads[block.heads, block.frames] = _best_cell(block.cost, layout, radius)
        total = block.cost.sum(0) if total is None else total.add_(block.cost.sum(0))
        if block.heads.stop == heads:
            found.mean[block.frames] = _best_cell(total, layout, radius)
            total = None


def _best_cell(cost: torch.Tensor, layout: TokenLayout, radius: int) -> torch.Tensor:
    """(..., cell) costs as the best (x, y), or the cost-weighted mean of the cells around it."""
    best = cells_as_xy(cost.argmax(-1), layout)
    return neighbourhood_mean(cost, best, layout, radius)[0] if radius else best.to(cost.dtype)
