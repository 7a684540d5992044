"""Motion fidelity: do the points of a generated clip move as those of its reference do?"""

from __future__ import annotations

from typing import Literal

import numpy as np

from analyses.arrays import BUDGET_BYTES
from analyses.metrics.fidelity_tracks import check_tolerance, step_directions, track_pair, unit_vectors
from store.arguments import Array, checked

MotionPreset = Literal["exact", "ditflow"]


@checked
def motion_fidelity(a: Array, b: Array, *, preset: MotionPreset = "exact", tolerance: float = 0.1) -> float:
    """How well each track finds one of the same directions in the other clip, -1 to 1.

    Two points are as similar as the mean over steps of the cosine between their steps. Each point counts with the most
    similar one of the other clip, wherever that lies: positions and lengths of steps do not matter.

    Parameters
    ----------
    a, b : (image, point, 2) torch or numpy, (x, y) in pixels
        Tracks of the generated clip and of its reference, of the same images.
    preset : "exact" or "ditflow"
        "exact": two static steps agree (1), a static and a moving one do not (0); the mean over the points of ``a``
        and the mean over those of ``b``, averaged. "ditflow", as released: the mean over the points of ``a`` alone,
        each point's similarity with the point of ``b`` of the same number lowered by 1 (a left-over of comparing a
        clip with itself; as many points are needed in both), and NaN as soon as a single step has no length.
    tolerance : pixels
        Steps shorter than this are static ("exact" only).

    Returns
    -------
    float

    Raises
    ------
    InvalidInputError
        For tracks that cannot be compared (:func:`analyses.metrics.fidelity_tracks.track_pair`), another preset, or a
        negative tolerance.

    Notes
    -----
    Yatim et al., "Space-Time Diffusion Features for Zero-Shot Text-Driven Motion Transfer" (2024), used by DiTFlow
    (Pondaven et al., 2025); docs/definitions.md, section 9. The best match of each point is a maximum over many
    points, so clips with a different motion score well above -1, and a clip that holds every direction matches
    everything.

    Examples
    --------
    One point goes right and one stays; in the other clip one goes right, twice as fast, and one left:

    >>> a = np.array([[[0.0, 0.0], [9.0, 9.0]], [[1.0, 0.0], [9.0, 9.0]]])
    >>> b = np.array([[[5.0, 5.0], [9.0, 9.0]], [[7.0, 5.0], [8.0, 9.0]]])
    >>> motion_fidelity(a, a), motion_fidelity(a, b)
    (1.0, 0.5)
    """
    check_tolerance(tolerance)
    if preset == "ditflow":
        return _ditflow(*track_pair(a, b, paired_for="Preset 'ditflow' subtracts an identity matrix, which"))
    first, second = track_pair(a, b)
    rows, columns = _best(step_directions(first, tolerance), step_directions(second, tolerance), len(first) - 1)
    return float(rows.mean() + columns.mean()) / 2


def _ditflow(a: np.ndarray, b: np.ndarray) -> float:
    first, second = (
        unit_vectors(np.diff(tracks, axis=0)).transpose(1, 0, 2).reshape(tracks.shape[1], -1) for tracks in (a, b)
    )
    return float(_best(first, second, len(a) - 1, own=1.0)[0].mean())


def _best(a: np.ndarray, b: np.ndarray, steps: int, own: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The largest mean inner product of each point of ``a`` and of ``b``, less ``own`` where the numbers are equal.

    A block of rows at a time: 10,000 points in both would make a matrix of 800 MB.
    """
    block = max(1, BUDGET_BYTES // (8 * len(b)))
    rows, columns = [], np.full(len(b), -np.inf)
    for start in range(0, len(a), block):
        similarity = a[start : start + block] @ b.T / steps
        if own:
            number = np.arange(len(similarity))
            similarity[number, start + number] -= own
        rows.append(similarity.max(1))
        columns = np.maximum(columns, similarity.max(0))
    return np.concatenate(rows), columns
