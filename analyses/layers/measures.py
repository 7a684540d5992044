"""All measures of a sweep on the queries and keys of one layer and step; no model is run here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analyses.arrays import BUDGET_BYTES, as_tensor, query_and_key, text_tokens
from analyses.attention.affinity import affinity_values
from analyses.correspondence.matching import match_feature_sources, match_sources, tracks_of
from analyses.layers.ground_truth import Target, Truth, check_threshold
from analyses.token_checks import Pending, TokenChecks, fetch
from store.arguments import check_fields
from store.checks import flag
from store.errors import InvalidInputError
from store.layout import GeometryPreset, TokenLayout
from store.recordings.provenance import library_versions


@dataclass(frozen=True)
class Measuring:
    """Settings by which every record of a sweep is measured.

    Examples
    --------
    >>> Measuring(threshold_cells=0)
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: threshold_cells must be above 0; got 0.
    """

    preset: GeometryPreset = "exact"
    threshold_cells: float = 0.5
    more_thresholds: tuple[float, ...] = ()
    per_head: bool = False
    min_points: int = 4
    budget_bytes: int = BUDGET_BYTES

    def __post_init__(self) -> None:
        check_fields(self)
        thresholds = [check_threshold(threshold) for threshold in (self.threshold_cells, *self.more_thresholds)]
        if len(set(thresholds)) < len(thresholds):
            raise InvalidInputError(f"threshold_cells names a threshold twice: {', '.join(map(str, thresholds))}.")

    @property
    def thresholds(self) -> tuple[float, ...]:
        """All thresholds if there are several, otherwise none."""
        return (self.threshold_cells, *self.more_thresholds) if self.more_thresholds else ()

    def target(self, truth: Truth, layout: TokenLayout, device: torch.device | str = "cpu") -> Target:
        """The truth prepared for a layout and a device."""
        return Target.of(truth, layout, preset=self.preset, threshold_cells=self.threshold_cells, device=device)

    def values(self, query: Any, key: Any, target: Target, text_key: Any, features: Any) -> dict[str, np.ndarray]:
        """:func:`measure` with these settings."""
        return fetch([self.pending(query, key, target, text_key, features)])[0]

    def pending(self, query: Any, key: Any, target: Target, text_key: Any, features: Any) -> Pending:
        """:func:`measure_on_device` with these settings."""
        return measure_on_device(
            query,
            key,
            target,
            text_key=text_key,
            features=features,
            per_head=self.per_head,
            thresholds=self.thresholds,
            budget_bytes=self.budget_bytes,
        )

    def attrs(self) -> dict[str, Any]:
        """Return the attributes of a sweep that state these settings."""
        return {
            "preset": self.preset,
            "threshold_cells": self.threshold_cells,
            "per_head": self.per_head,
            "min_points": self.min_points,
            "versions": library_versions(),
            **({"thresholds": list(self.thresholds)} if self.thresholds else {}),
        }


def measuring(
    preset: GeometryPreset, threshold_cells: float | Sequence[float], per_head: bool, min_points: int, budget_bytes: int
) -> Measuring:
    """A :class:`Measuring` of one threshold or of several, of which the first is the main one.

    Examples
    --------
    >>> measuring("exact", (1, 0.5), False, 4, 2**20).thresholds
    (1.0, 0.5)
    """
    several = isinstance(threshold_cells, Sequence | np.ndarray) and not isinstance(threshold_cells, str)
    listed: Any = list(threshold_cells) if several else [threshold_cells]  # type: ignore[arg-type]
    if not listed:
        raise InvalidInputError("threshold_cells is empty. Name at least one threshold in cells, or leave it out.")
    first, *more = (check_threshold(threshold) for threshold in listed)
    return Measuring(preset, first, tuple(more), flag(per_head, "per_head"), min_points, budget_bytes)


@torch.no_grad()
def measure(
    query: Any,
    key: Any,
    target: Target,
    *,
    text_key: Any = None,
    features: Any = None,
    per_head: bool = False,
    thresholds: Sequence[float] = (),
    budget_bytes: int = BUDGET_BYTES,
) -> dict[str, np.ndarray]:
    """Every measure of a sweep for one layer and step.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel) torch or numpy, post-norm and post-RoPE
    target : Target, on the device of the query
    text_key : (head, token, channel), optional
    features : (frame, y, x, channel), optional; the attention output with its heads concatenated
    per_head : also measure each head alone
    thresholds : in cells; also measure accuracy and moving accuracy within each of them
    budget_bytes : working memory

    Returns
    -------
    dict of arrays
        ``accuracy``, ``moving_accuracy``, ``feature_accuracy`` (percent, no dims), ``confidence`` and
        ``attention_score`` (target); with ``per_head`` the same, without features, as ``head_...`` with ``head`` as the
        first dim; with ``thresholds`` also ``accuracy_within`` and ``moving_accuracy_within`` (threshold).

    Raises
    ------
    InvalidInputError
        For tensors that do not fit the layout or hold NaN.

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> cells = 9 * torch.eye(35).reshape(1, 1, 5, 7, 35).expand(1, 3, 5, 7, 35)
    >>> still = Truth.of_tracks(np.full((9, 1, 2), 24.0), np.ones((9, 1), bool), layout)
    >>> float(measure(cells, cells, Target.of(still, layout))["accuracy"])
    100.0
    """
    pending = measure_on_device(
        query,
        key,
        target,
        text_key=text_key,
        features=features,
        per_head=per_head,
        thresholds=thresholds,
        budget_bytes=budget_bytes,
    )
    return fetch([pending])[0]


@torch.no_grad()
def measure_on_device(
    query: Any,
    key: Any,
    target: Target,
    *,
    text_key: Any = None,
    features: Any = None,
    per_head: bool = False,
    thresholds: Sequence[float] = (),
    budget_bytes: int = BUDGET_BYTES,
) -> Pending:
    """Measure as :func:`measure` does and leave the result on the device; shapes are checked at once."""
    checks = TokenChecks()
    video_query, video_key = query_and_key(query, key, target.layout, checks)
    text = None if text_key is None else text_tokens(text_key, video_key, checks=checks)
    tokens = None if features is None else _feature_tokens(features, target, checks)
    mean, heads = affinity_values(
        video_query, video_key, text, target.rows, per_head=per_head, budget_bytes=budget_bytes
    )
    values = {"confidence": mean[0], "attention_score": mean[1]}
    if heads is not None:
        values |= {"head_confidence": heads[0], "head_attention_score": heads[1]}
    values |= _accuracies(video_query, video_key, tokens, target, per_head, thresholds, budget_bytes)
    return Pending(values, checks)


def _accuracies(
    query: torch.Tensor,
    key: torch.Tensor,
    features: torch.Tensor | None,
    target: Target,
    per_head: bool,
    thresholds: Sequence[float],
    budget_bytes: int,
) -> dict[str, torch.Tensor]:
    heads = len(query) if per_head else 0
    within = [torch.full((2,), torch.nan, dtype=torch.float64, device=query.device)] * len(thresholds)
    if target.tracks is None:
        found = torch.full((2, 2 + heads), torch.nan, dtype=torch.float64, device=query.device)
    else:
        matches = match_sources(
            query, key, target.corners, preset=target.preset, per_head=per_head, budget_bytes=budget_bytes
        )
        every = [matches.mean[None], _feature_matches(features, matches.mean, target, budget_bytes)[None]]
        every += [matches.heads] if matches.heads is not None else []
        tracks = tracks_of(torch.cat(every), target.corners)
        found = target.accuracies_on_device(tracks)
        within = [target.within(threshold).accuracies_on_device(tracks[:1])[:, 0] for threshold in thresholds]
    of_features = found[0, 1] if features is not None else torch.full_like(found[0, 1], torch.nan)
    values = {"accuracy": found[0, 0], "moving_accuracy": found[1, 0], "feature_accuracy": of_features}
    if per_head:
        values |= {"head_accuracy": found[0, 2:], "head_moving_accuracy": found[1, 2:]}
    if within:
        each = torch.stack(within, -1)
        values |= {"accuracy_within": each[0], "moving_accuracy_within": each[1]}
    return values


def _feature_tokens(features: Any, target: Target, checks: TokenChecks) -> torch.Tensor:
    tokens = as_tensor(features).flatten(1, 2)
    wanted = (target.layout.frames, target.layout.height * target.layout.width)
    if tokens.ndim != 3 or tuple(tokens.shape[:2]) != wanted:
        raise InvalidInputError(
            f"features need the shape (frame, y, x, channel) with {wanted[0]} frames of {target.layout.height} x "
            f"{target.layout.width} cells; got {tuple(as_tensor(features).shape)}."
        )
    checks.finite(tokens, "features")
    return tokens


def _feature_matches(
    tokens: torch.Tensor | None, like: torch.Tensor, target: Target, budget_bytes: int
) -> torch.Tensor:
    if tokens is None:
        return torch.zeros_like(like)
    return match_feature_sources(tokens, target.corners, budget_bytes=budget_bytes).to(like.dtype)
