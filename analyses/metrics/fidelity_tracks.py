"""What every comparison of two sets of tracks starts from: checked tracks, and the direction of each step."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyses.arrays import as_tensor
from store.errors import InvalidInputError


def track_pair(a: Any, b: Any, *, paired_for: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of tracks as float64 numpy, refused where motion cannot be compared.

    Parameters
    ----------
    a, b : (image, point, 2) torch or numpy, (x, y) in pixels
    paired_for : what needs as many points in ``a`` as in ``b``, for the message; None where the numbers may differ

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
            f"a has {first.shape[1]} points and b has {second.shape[1]}. {paired_for} needs as many in both."
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
    """Refuse a tolerance that is no number of pixels, zero or more."""
    if not 0 <= tolerance < np.inf:
        raise InvalidInputError(f"tolerance must be a number of pixels, zero or more; got {tolerance}.")


def step_directions(tracks: np.ndarray, tolerance: float, scale: Any = 1.0) -> np.ndarray:
    """The direction of each step of each point, with rest as a direction of its own.

    Parameters
    ----------
    tracks : (image, point, 2) float, (x, y) in pixels
    tolerance : pixels. Shorter steps, and those of no length, are static
    scale : (x, y) lengths that the tracks are divided by before directions are taken

    Returns
    -------
    (point, 3 x step) float
        Three numbers a step, (x, y, static): a unit vector and 0, or (0, 0, 1). The inner product of two points, over
        the number of steps, is then their mean cosine, two static steps counting 1 and a static with a moving one 0.

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
