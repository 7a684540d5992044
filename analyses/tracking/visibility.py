"""Visibility of tracked points: by limits, or as a probability calibrated on scenes."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit

from analyses.tracking.closer import LevelTracks
from analyses.tracking.options import TrackingOptions

WEIGHTS = {
    6: np.array([-3.17, -0.74, 0.88, 2.62, -0.52, 3.84]),
    9: np.array([-2.08, -0.15, 0.41, 2.32, -0.48, 3.55, -1.22, -0.75, 0.12]),
}
"""Weights of the features of :func:`visibility_features`, by their number."""

FLOW_WEIGHTS = {
    6: np.array([0.59, 0.56, -2.01, -1.99, 1.70, 1.61]),
    9: np.array([0.56, 0.61, -1.96, -0.99, 0.83, 1.48]),
}
"""Weights of the features of :func:`flow_features`, by the number of the others."""


def within_limits(levels: list[LevelTracks], options: TrackingOptions, clip: tuple[int, int]) -> np.ndarray:
    """Return (image, point) bool, whether points are within the limits of the options.

    Parameters
    ----------
    levels : tracks of every level
    options : TrackingOptions
        ``max_cycle_error`` and ``min_confidence`` are those of the whole image.
    clip : (height, width) in pixels
    """
    whole, last = levels[0], levels[-1]
    visible: np.ndarray = (whole.cycle_error <= options.max_cycle_error) & (whole.mass >= options.min_confidence)
    if options.max_cycle_error != math.inf:
        visible &= ((last.tracks >= 0) & (last.tracks <= [clip[1], clip[0]])).all(-1)
    return visible


def visibility_features(levels: list[LevelTracks], clip: tuple[int, int], anchors: np.ndarray) -> np.ndarray:
    """Return (feature, image, point), the features that predict visibility: 6, or 9 with a closer look.

    Parameters
    ----------
    levels : tracks of every level; the first with smaller cells is used in addition to the whole image
    clip : (height, width) in pixels
    anchors : (point,) the image in which each point is known

    Returns
    -------
    The constant 1; in the whole image log(1 + cycle error), the fraction of the cost at the match, and the distance
    from the border in cells, limited to -1 to 1; the largest and the smallest of the first two since the image of the
    query; for the closer look log(1 + cycle error), log(1 + correction), and whether it was used.

    Examples
    --------
    A match that is poor in image 1 counts in image 2 too:

    >>> tracks, zeros = np.full((3, 1, 2), 20.0), np.zeros((3, 1))
    >>> mass = np.array([[1.0], [0.25], [0.75]])
    >>> level = LevelTracks(tracks, mass, zeros, np.array([4.0, 4.0]), zeros, zeros > 0, zeros)
    >>> visibility_features([level], (40, 40), np.zeros(1, int))[:, 2, 0].tolist()
    [1.0, 0.0, 0.75, 1.0, 0.0, 0.25]
    """
    whole, last = levels[0], levels[-1]
    border = np.minimum(last.tracks, np.array(clip[::-1]) - last.tracks).min(-1) / whole.cell[0]
    error = np.log1p(whole.cycle_error)
    worst = [_worst_since(error, anchors), -_worst_since(-whole.mass, anchors)]
    features = [np.ones_like(border), error, whole.mass, np.clip(border, -1, 1), *worst]
    closer = next((level for level in levels[1:] if (level.cell < whole.cell).all()), None)
    if closer is not None:
        features += [np.log1p(closer.cycle_error), np.log1p(closer.correction), closer.looked.astype(float)]
    return np.stack(features)


def _worst_since(values: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return (image, point), the largest value since the image of the query, forward and backward in time.

    Examples
    --------
    >>> _worst_since(np.array([[3.0], [1.0], [0.0], [2.0], [1.0]]), np.array([2])).ravel().tolist()
    [3.0, 1.0, 0.0, 2.0, 2.0]
    """
    images = np.arange(len(values))[:, None]
    forward = np.maximum.accumulate(np.where(images >= anchors, values, -np.inf), axis=0)
    backward = np.maximum.accumulate(np.where(images <= anchors, values, -np.inf)[::-1], axis=0)[::-1]
    return np.where(images >= anchors, forward, backward)


def flow_features(
    log_odds: np.ndarray,
    levels: list[LevelTracks],
    clip: tuple[int, int],
    anchors: np.ndarray,
    flow: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return (feature, image, point), the 6 features that predict visibility with the help of optical flow.

    Parameters
    ----------
    log_odds : (image, point), of being visible by the consistency of the matches
    levels, clip, anchors : as of :func:`visibility_features`
    flow : tracks and misses of :func:`analyses.optical_flow.chain_flow`

    Returns
    -------
    The constant 1; the log odds; log(1 + miss); log(1 + distance) from the track of the flow in cells, in this image
    and at its largest since that of the query; and the distance of that track from the border in cells, limited to -1
    to 1.

    Examples
    --------
    The flow stays where the match is, 20 px or 5 cells from the border:

    >>> tracks, zeros = np.full((2, 1, 2), 20.0), np.zeros((2, 1))
    >>> level = LevelTracks(tracks, zeros, zeros, np.array([4.0, 4.0]), zeros, zeros > 0, zeros)
    >>> flow_features(zeros, [level], (40, 40), np.zeros(1, int), (tracks, zeros))[:, 1, 0].tolist()
    [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    """
    tracks, missed = flow
    cell = levels[0].cell[0]
    distance = np.log1p(np.linalg.norm(tracks - levels[-1].tracks, axis=-1) / cell)
    border = np.minimum(tracks, np.array(clip[::-1]) - tracks).min(-1) / cell
    far = _worst_since(distance, anchors)
    return np.stack([np.ones_like(border), log_odds, np.log1p(missed), distance, far, np.clip(border, -1, 1)])


def visibility_probability(
    levels: list[LevelTracks],
    clip: tuple[int, int],
    anchors: np.ndarray,
    flow: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Return (image, point), the probability that points are visible.

    A logistic regression on the consistency of the matches: the cycle error and the sharpness of the match in the whole
    image, in this image and at worst since that of the query, and, with a closer look, its cycle error and correction.
    With ``flow``, a second one on the log odds of the first and the agreement with chained optical flow.

    Parameters
    ----------
    levels, clip, anchors : as of :func:`visibility_features`
    flow : optional, tracks and misses of :func:`analyses.optical_flow.chain_flow`

    Notes
    -----
    Fitted with ``mini`` on tuning scenes; see docs/benchmarks/crops.md for its calibration and Brier scores.
    ``python -m benchmarks.tracking --parts visibility`` fits it again. It also hides points outside the image, since
    one feature is their distance from the border. On real clips the consistency of matches hardly distinguishes hidden
    from visible points, and without flow the probability is too high (docs/benchmarks/crops.md).

    Examples
    --------
    >>> tracks, ones = np.full((2, 1, 2), 20.0), np.ones((2, 1))
    >>> sure = LevelTracks(tracks, ones, 0 * ones, np.array([4.0, 4.0]), 0 * ones, ones < 0, 0 * ones)
    >>> bool(visibility_probability([sure], (40, 40), np.zeros(1, int))[1, 0] > 0.9)
    True
    >>> lost = 9 * ones  # the flow does not lead back to the point
    >>> bool(visibility_probability([sure], (40, 40), np.zeros(1, int), (tracks, lost))[1, 0] > 0.5)
    False
    """
    features = visibility_features(levels, clip, anchors)
    log_odds = np.tensordot(WEIGHTS[len(features)], features, 1)
    if flow is not None:
        weights = FLOW_WEIGHTS[len(features)]
        log_odds = np.tensordot(weights, flow_features(log_odds, levels, clip, anchors, flow), 1)
    found: np.ndarray = expit(log_odds)
    return found
