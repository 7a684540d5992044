"""Visibility of tracked points: by limits, or as a probability calibrated on scenes."""

from __future__ import annotations

import math

import numpy as np

from analyses.tracking.closer import LevelTracks
from analyses.tracking.options import TrackingOptions

WEIGHTS = {
    6: np.array([-3.05, -0.68, 1.24, 2.67, -0.53, 3.32]),
    9: np.array([-0.63, -0.09, 1.39, 1.49, -0.55, 2.43, -1.79, -0.70, -0.33]),
}
"""Weights of the features of :func:`visibility_features`, by their number."""


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


def visibility_probability(levels: list[LevelTracks], clip: tuple[int, int], anchors: np.ndarray) -> np.ndarray:
    """Return (image, point), the probability that points are visible.

    A logistic regression on the consistency of the matches: the cycle error and the sharpness of the match in the whole
    image, in this image and at worst since that of the query, and, with a closer look, its cycle error and correction.

    Parameters
    ----------
    levels, clip, anchors : as of :func:`visibility_features`

    Notes
    -----
    Fitted with ``mini@1`` on tuning scenes; docs/benchmarks.md has its calibration curve and Brier scores on others.
    ``python -m benchmarks.tracking --parts visibility`` fits it again. It also hides points outside the image, since
    one feature is their distance from the border. On real clips consistency hardly distinguishes hidden from visible
    points, and the probability is too high (docs/benchmarks.md).

    Examples
    --------
    >>> tracks, ones = np.full((2, 1, 2), 20.0), np.ones((2, 1))
    >>> sure = LevelTracks(tracks, ones, 0 * ones, np.array([4.0, 4.0]), 0 * ones, ones < 0, 0 * ones)
    >>> bool(visibility_probability([sure], (40, 40), np.zeros(1, int))[1, 0] > 0.9)
    True
    """
    features = visibility_features(levels, clip, anchors)
    found: np.ndarray = 1 / (1 + np.exp(-np.tensordot(WEIGHTS[len(features)], features, 1)))
    return found
