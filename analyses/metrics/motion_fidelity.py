"""Motion fidelity: similarity of the directions in which the points of a generated clip and its reference move."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from analyses.arrays import BUDGET_BYTES, as_tensor
from store.arguments import Array, checked
from store.errors import InvalidInputError

MotionPreset = Literal["exact", "ditflow"]


@checked
def motion_fidelity(a: Array, b: Array, *, preset: MotionPreset = "exact", tolerance: float = 0.1) -> float:
    """Return how well each track is matched by a track with the same directions in the other clip, -1 to 1.

    The similarity of two points is the mean over steps of the cosine between their steps. Each point counts with its
    most similar point in the other clip, wherever that lies: positions and lengths of steps do not matter.

    Parameters
    ----------
    a, b : (image, point, 2) torch or numpy, (x, y) in pixels
        Tracks of the generated clip and of its reference, with the same number of images.
    preset : "exact" or "ditflow"
        "exact": two static steps agree (1), a static and a moving one do not (0); the result averages the means over
        the points of ``a`` and of ``b``. "ditflow", the released code: the mean over the points of ``a`` only, with the
        similarity of each point to the point of ``b`` with the same index lowered by 1 (a remnant of comparing a clip
        with itself; both need the same number of points), and NaN if any step has no length.
    tolerance : pixels
        Steps shorter than this are static ("exact" only).

    Returns
    -------
    float

    Raises
    ------
    InvalidInputError
        For tracks that cannot be compared (:func:`analyses.metrics.motion_fidelity.track_pair`), another preset, or a
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
    """The largest mean inner product of each point of ``a`` and of ``b``, less ``own`` where the indices are equal.

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


def track_pair(a: Any, b: Any, *, paired_for: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of tracks as float64 numpy arrays; tracks whose motion cannot be compared are rejected.

    Parameters
    ----------
    a, b : (image, point, 2) torch or numpy, (x, y) in pixels
    paired_for : start of the message if ``a`` and ``b`` have different numbers of points; None if they may differ

    Raises
    ------
    InvalidInputError
        For other shapes, no points, fewer than two images, values that are not finite, different numbers of images,
        or of points where they are paired.

    Examples
    --------
    >>> a, b = track_pair(np.zeros((3, 4, 2)), np.zeros((3, 5, 2)))
    >>> a.dtype, b.shape
    (dtype('float64'), (3, 5, 2))
    """
    first, second = _checked(a, "a"), _checked(b, "b")
    if len(first) != len(second):
        raise InvalidInputError(
            f"a has {len(first)} images and b has {len(second)}. Motion is compared image by image: cut or resample "
            "one of the clips, and track it again."
        )
    if paired_for is not None and first.shape[1] != second.shape[1]:
        raise InvalidInputError(
            f"a has {first.shape[1]} points and b has {second.shape[1]}. {paired_for} needs equal numbers."
        )
    return first, second


def _checked(tracks: Any, name: str) -> np.ndarray:
    found = as_tensor(tracks).cpu().double().numpy()
    if found.ndim != 3 or found.shape[2] != 2:
        raise InvalidInputError(f"{name} needs the shape (image, point, 2), (x, y) in pixels; got {found.shape}.")
    if not found.shape[1]:
        raise InvalidInputError(f"{name} has no points. Track at least one.")
    if len(found) < 2:
        raise InvalidInputError(f"{name} has tracks of {len(found)} image(s); motion needs at least 2.")
    bad = np.argwhere(~np.isfinite(found).all(-1))
    if len(bad):
        image, point = bad[0].tolist()
        raise InvalidInputError(
            f"{name} is not finite in {len(bad)} places, first at image {image}, point {point}. Leave out the points "
            "that are not known in every image."
        )
    return found


def check_tolerance(tolerance: float) -> None:
    """Raise for a tolerance that is not a number of pixels, zero or more."""
    if not 0 <= tolerance < np.inf:
        raise InvalidInputError(f"tolerance must be a number of pixels, zero or more; got {tolerance}.")


def step_directions(tracks: np.ndarray, tolerance: float, scale: Any = 1.0) -> np.ndarray:
    """The direction of each step of each point, with rest as a separate direction.

    Parameters
    ----------
    tracks : (image, point, 2) float, (x, y) in pixels
    tolerance : pixels. Shorter steps, and those of no length, are static
    scale : (x, y) lengths by which tracks are divided before directions are computed

    Returns
    -------
    (point, 3 x step) float
        Three numbers a step, (x, y, static): a unit vector and 0, or (0, 0, 1). The inner product of two points, over
        the number of steps, is then their mean cosine, where two static steps count 1, and a static and a moving one 0.

    Examples
    --------
    >>> step_directions(np.array([[[0.0, 0.0]], [[3.0, 4.0]], [[3.0, 4.0]]]), 0.1)
    array([[0.6, 0.8, 0. , 0. , 0. , 1. ]])
    """
    steps = np.diff(tracks, axis=0)
    length = np.linalg.norm(steps, axis=-1, keepdims=True)
    static = (length < tolerance) | (length == 0)
    directions = unit_vectors(np.where(static, 1.0, steps / scale))
    result = np.concatenate([np.where(static, 0.0, directions), static], axis=-1)
    return result.transpose(1, 0, 2).reshape(tracks.shape[1], -1)


def unit_vectors(steps: np.ndarray) -> np.ndarray:
    """(..., 2) steps divided by their lengths; NaN for a step of no length, as in published implementations.

    Examples
    --------
    >>> unit_vectors(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [nan, nan]])
    """
    with np.errstate(invalid="ignore"):
        result: np.ndarray = steps / np.linalg.norm(steps, axis=-1, keepdims=True)
    return result
