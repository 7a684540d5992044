"""The discrete Fréchet distance between curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyses.arrays import as_tensor
from store.arguments import Array, checked
from store.errors import InvalidInputError


@checked
def discrete_frechet_distance(a: Array, b: Array) -> np.ndarray:
    """How far two walkers are apart at worst, each along its curve without turning back, at the best pace for both.

    Parameters
    ----------
    a, b : (image, point, 2) torch or numpy, (x, y) in any unit
        Curve n of ``a`` is compared with curve n of ``b``. The numbers of images may differ.

    Returns
    -------
    (point,) float64 numpy, in the unit of the curves

    Raises
    ------
    InvalidInputError
        For another shape, different numbers of points, no images, or values that are not finite.

    Notes
    -----
    Eiter and Mannila, "Computing Discrete Fréchet Distance" (1994): D(i, j) = max(d(i, j), min(D(i-1, j), D(i, j-1),
    D(i-1, j-1))), by dynamic programming over rows, all points at once. It is zero exactly for curves that visit the
    same positions in the same order, symmetric, fulfils the triangle inequality, and is at least the distance between
    the first and between the last positions.

    Examples
    --------
    Two parallel lines a distance of 2 apart, and one of them walked the other way:

    >>> line = np.array([[[0.0, 0.0]], [[3.0, 0.0]], [[6.0, 0.0]]])
    >>> discrete_frechet_distance(line, line + [0, 2]), discrete_frechet_distance(line, line[::-1])
    (array([2.]), array([6.]))
    """
    first, second = _checked(a, "a"), _checked(b, "b")
    if first.shape[1] != second.shape[1]:
        raise InvalidInputError(
            f"a has {first.shape[1]} curves and b has {second.shape[1]}. Curve n of a is compared with curve n of b."
        )
    above: np.ndarray | None = None
    for positions in first:
        row = np.linalg.norm(second - positions, axis=-1)
        for j in range(len(row)):
            before = [] if above is None else list(above[max(0, j - 1) : j + 1])
            before += [row[j - 1]] if j else []
            if before:
                row[j] = np.maximum(row[j], np.minimum.reduce(before))
        above = row
    return row[-1]


def _checked(curves: Any, name: str) -> np.ndarray:
    found = as_tensor(curves).cpu().double().numpy()
    if found.ndim != 3 or found.shape[2] != 2 or not len(found):
        raise InvalidInputError(f"{name} needs the shape (image, point, 2) and at least one image; got {found.shape}.")
    if not np.isfinite(found).all():
        raise InvalidInputError(f"{name} holds values that are not finite.")
    return found
