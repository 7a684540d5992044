"""Visibility of tracked points: by limits, or as a probability that was calibrated on scenes."""

from __future__ import annotations

import math

import numpy as np

from analyses.tracking.closer import LevelTracks
from analyses.tracking.options import TrackingOptions

WEIGHTS = {
    4: np.array([-3.10, -1.19, 4.73, 2.43]),
    7: np.array([-0.29, -0.90, 3.45, 1.98, -1.55, -2.02, -0.88]),
}
"""Of the features of :func:`visibility_features`, by how many there are."""


def within_limits(levels: list[LevelTracks], options: TrackingOptions, clip: tuple[int, int]) -> np.ndarray:
    """Return (image, point) bool, whether points keep the limits of the options.

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


def visibility_features(levels: list[LevelTracks], clip: tuple[int, int]) -> np.ndarray:
    """Return (feature, image, point), what tells visible points from hidden ones: 4 features, 7 with a closer look.

    Parameters
    ----------
    levels : tracks of every level; the first one with smaller cells counts in addition to the whole image
    clip : (height, width) in pixels

    Returns
    -------
    1, log(1 + cycle error), the fraction of the cost at the match, and cells inside the border, -1 to 1; of the closer
    look log(1 + cycle error), log(1 + correction), and whether it was taken.

    Examples
    --------
    >>> tracks = np.full((2, 1, 2), 20.0)
    >>> sure = LevelTracks(tracks, np.ones((2, 1)), np.zeros((2, 1)), np.array([4.0, 4.0]), *np.zeros((3, 2, 1)))
    >>> visibility_features([sure], (40, 40))[:, 1, 0].tolist()
    [1.0, 0.0, 1.0, 1.0]
    """
    whole, last = levels[0], levels[-1]
    border = np.minimum(last.tracks, np.array(clip[::-1]) - last.tracks).min(-1) / whole.cell[0]
    features = [np.ones_like(border), np.log1p(whole.cycle_error), whole.mass, np.clip(border, -1, 1)]
    closer = next((level for level in levels[1:] if (level.cell < whole.cell).all()), None)
    if closer is not None:
        features += [np.log1p(closer.cycle_error), np.log1p(closer.correction), closer.looked.astype(float)]
    return np.stack(features)


def visibility_probability(levels: list[LevelTracks], clip: tuple[int, int]) -> np.ndarray:
    """Return (image, point), the probability that points are visible.

    A logistic regression on how consistent the matches are: the cycle error and the sharpness of the match in the
    whole image, and, where a closer look was taken, its cycle error and by how much it disagrees.

    Parameters
    ----------
    levels, clip : as of :func:`visibility_features`

    Notes
    -----
    Fitted with ``mini`` on tuning scenes; docs/benchmarks.md has its calibration curve and Brier scores on others.
    ``python -m benchmarks.tracking --parts visibility`` fits it again. Points that lie outside the image are hidden by
    it too, since one feature is their distance from the border. On real clips consistency hardly tells hidden points
    from visible ones (docs/benchmarks.md), and the probability is too high there.

    Examples
    --------
    >>> tracks = np.full((2, 1, 2), 20.0)
    >>> sure = LevelTracks(tracks, np.ones((2, 1)), np.zeros((2, 1)), np.array([4.0, 4.0]), *np.zeros((3, 2, 1)))
    >>> bool(visibility_probability([sure], (40, 40))[1, 0] > 0.9)
    True
    """
    features = visibility_features(levels, clip)
    weights = WEIGHTS[len(features)]
    found: np.ndarray = 1 / (1 + np.exp(-np.tensordot(weights, features, 1)))
    return found
