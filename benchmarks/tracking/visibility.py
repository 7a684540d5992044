"""Visibility as a probability: fitted on tuning scenes, its curve and Brier score on others and on real clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from analyses.arrays import BUDGET_BYTES
from analyses.selection.defaults import matched_with
from analyses.trackers.optical_flow import FlowTracker
from analyses.tracking.levels import LeveledTracking
from analyses.tracking.options import TrackingOptions
from analyses.tracking.tokens import LayerTokens, TrackingRun, chunk_length
from analyses.tracking.visibility import FLOW_WEIGHTS, WEIGHTS, flow_features, visibility_features, within_limits
from benchmarks.mini_quality.real import SIZE, every, left_out, tracked_clips
from benchmarks.tracking.ablation import FIRST
from benchmarks.tracking.clips import real_clips, scene_clips
from probe import Backbone
from store import Clip

TUNING, OTHERS, OTHERS_FIRST = 16, 16, 3000
STRIDES = (1, 4)
_LEVELS = {6: (1,), 9: (1, 2)}
_RIDGE = 1.0
_LOG_ODDS = 1


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of a point and a later image: features (feature, pair), those of the flow but for the log odds, whether it
    is visible, and what the limits and the flow say."""

    features: np.ndarray
    of_flow: np.ndarray
    visible: np.ndarray
    limits: np.ndarray
    flow: np.ndarray

    def with_flow(self, weights: np.ndarray) -> np.ndarray:
        """Features (feature, pair) of the second regression."""
        found = self.of_flow.copy()
        found[_LOG_ODDS] = weights @ self.features
        return found


def visibility_report(backbone: Backbone, layer: int | None, step: int | None) -> str:
    """The tables as Markdown, in whole images and with a closer look."""
    parts = []
    for count, levels in _LEVELS.items():
        tuning = _gathered(backbone, layer, step, scene_clips(FIRST, TUNING), levels)
        fitted = fit(tuning.features, tuning.visible)
        flow = fit(tuning.with_flow(fitted), tuning.visible)
        parts.append(
            f"Levels {levels}, fitted on {TUNING} tuning scenes (seeds {FIRST} and up): `{_listed(fitted)}`, with flow "
            f"`{_listed(flow)}`."
        )
        others = _gathered(backbone, layer, step, scene_clips(OTHERS_FIRST, OTHERS), levels)
        parts.append(f"{OTHERS} other scenes (seeds {OTHERS_FIRST} and up), {others.visible.size} pairs:")
        parts += [_table(others, count, fitted, flow), _curve(others, expit(fitted @ others.features))]
        parts.append(_curve(others, expit(flow @ others.with_flow(fitted)), "with flow, "))
        for stride in STRIDES:
            shown = {f"{SIZE[1]} x {SIZE[0]} px": real_clips(stride)}
            shown["own size"] = {name: clip[::stride] for name, clip in tracked_clips().items()}
            for size, clips in shown.items():
                for name, clip in clips.items():
                    real = _gathered(backbone, layer, step, {name: clip}, levels, SIZE)
                    parts.append(f"{name}, {every(stride)}, {size}, {real.visible.size} pairs:")
                    parts += [_table(real, count, fitted, flow), _areas(real)]
    return "\n\n".join([*parts, left_out()])


def _listed(weights: np.ndarray) -> str:
    return f"[{', '.join(f'{value:.2f}' for value in weights)}]"


def fit(features: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Weights (feature,) of a logistic regression, with a small ridge."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = weights @ features
        value = np.logaddexp(0, np.where(visible, -logits, logits)).sum() + _RIDGE * (weights**2).sum() / 2
        return float(value), features @ (expit(logits) - visible) + _RIDGE * weights

    found: np.ndarray = minimize(loss, np.zeros(len(features)), jac=True, method="BFGS").x
    return found


def _gathered(
    backbone: Backbone,
    layer: int | None,
    step: int | None,
    clips: Mapping[str, Clip],
    levels: tuple[int, ...],
    size: tuple[int, int] | None = None,
) -> _Pairs:
    """All points of image 0 in all later images of clips."""
    number, at, heads = matched_with(backbone, layer, step)
    size, options = size or backbone.default_size[:2], TrackingOptions(levels=levels, crops="follow")
    found = []
    for clip in clips.values():
        if clip.tracks is None or clip.visibility is None:
            raise ValueError("a clip without tracks cannot be measured")
        extent = clip.height, clip.width
        inside = ((clip.tracks[0] >= 0) & (clip.tracks[0] <= extent[::-1])).all(-1)
        mine = np.flatnonzero(clip.visibility[0] & inside)
        queries = np.column_stack([np.zeros(len(mine)), clip.tracks[0, mine]])
        run = TrackingRun("", 50, at % 50, number % len(backbone.layers), heads, 0)
        model = LayerTokens(backbone, clip.images, size, options, run)
        length = chunk_length(backbone, options, size)
        tracks = LeveledTracking(model, options, extent, len(clip), length, BUDGET_BYTES).track(queries)
        features = visibility_features(tracks, extent, queries[:, 0].astype(int))[:, 1:].reshape(_count(levels), -1)
        chained = FlowTracker()(clip.images, queries)
        missed = np.sqrt(1 / chained.confidence - 1)
        zeros = np.zeros(chained.tracks.shape[:2])
        of_flow = flow_features(zeros, tracks, extent, queries[:, 0].astype(int), (chained.tracks, missed))
        limits = within_limits(tracks, options, extent)
        said = (clip.visibility[:, mine], limits, chained.visibility)
        found.append((features, of_flow[:, 1:].reshape(len(of_flow), -1), *(part[1:].ravel() for part in said)))
    parts = zip(*found, strict=True)
    return _Pairs(*(np.concatenate(part, -1) for part in parts))


def _count(levels: tuple[int, ...]) -> int:
    return next(count for count, known in _LEVELS.items() if known == levels)


def _table(pairs: _Pairs, count: int, fitted: np.ndarray, flow: np.ndarray) -> str:
    """Accuracy and Brier score of constants, of the limits, of chained flow, and of the probabilities."""
    known = WEIGHTS[count]
    share, visible = pairs.visible.mean(), pairs.visible
    ways = {
        "all visible": np.ones(visible.size),
        f"the majority ({100 * max(share, 1 - share):.0f} %), a constant of its share": np.full(visible.size, share),
        "limits": pairs.limits.astype(float),
        "chained flow": pairs.flow.astype(float),
        "calibrated, as it is": expit(known @ pairs.features),
        "calibrated, fitted here": expit(fitted @ pairs.features),
        "with flow, as it is": expit(FLOW_WEIGHTS[count] @ pairs.with_flow(known)),
        "with flow, fitted here": expit(flow @ pairs.with_flow(fitted)),
    }
    lines = ["| | accuracy, % | Brier score |", "|---|---:|---:|"]
    for name, probability in ways.items():
        right = ((probability >= 0.5) == visible).mean()
        lines.append(f"| {name} | {100 * right:.1f} | {np.square(probability - visible).mean():.3f} |")
    return "\n".join(lines)


def _curve(pairs: _Pairs, probability: np.ndarray, which: str = "") -> str:
    """Mean stated probability and true share in fifths of its range."""
    bins = np.clip((5 * probability).astype(int), 0, 4)
    columns = [
        (100 * probability[bins == n].mean(), 100 * pairs.visible[bins == n].mean())
        for n in range(5)
        if (bins == n).any()
    ]
    stated, true = (" | ".join(f"{column[row]:.0f}" for column in columns) for row in range(2))
    head = f"| {which}stated probability, mean % | {stated} |"
    return f"{head}\n|---|{'---:|' * len(columns)}\n| truly visible, % | {true} |"


def _areas(pairs: _Pairs) -> str:
    """Area under the curve of each feature alone as a sign of visible pairs, 0.5 being chance."""
    names = ("cycle error", "mass", "border", "largest cycle error", "least mass")
    names += ("closer cycle error", "correction", "taken")
    cells = [
        f"{name} {_area(values, pairs.visible):.2f}" for name, values in zip(names, pairs.features[1:], strict=False)
    ]
    return f"Area under the curve of each feature alone, by its sign or the other: {', '.join(cells)}."


def _area(values: np.ndarray, visible: np.ndarray) -> float:
    if visible.all() or not visible.any():
        return float("nan")
    ranks = np.searchsorted(np.sort(values), values, "left") + np.searchsorted(np.sort(values), values, "right")
    area = ((ranks[visible] / 2).mean() - (visible.sum() / 2)) / (~visible).sum()
    return float(max(area, 1 - area))
