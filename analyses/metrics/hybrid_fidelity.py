"""Hybrid motion fidelity: the shape of whole tracks and the direction of their steps."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.spatial.distance import cdist

from analyses.arrays import as_tensor
from analyses.metrics.motion_fidelity import check_tolerance, step_directions, track_pair, unit_vectors
from store.arguments import Array, checked
from store.checks import number
from store.errors import InvalidInputError

HybridPreset = Literal["exact", "det"]


@checked
def hybrid_motion_fidelity(
    a: Array,
    b: Array,
    *,
    size: tuple[int, int],
    alpha: float = 0.5,
    preset: HybridPreset = "exact",
    tolerance: float = 0.1,
) -> float:
    """Return the similarity of paired tracks in shape and in the direction of each step, at most 1.

    Parameters
    ----------
    a, b : (image, point, 2) torch or numpy, (x, y) in pixels
        Tracks of the generated clip and of its reference, with the same number of images; point n of ``a`` is paired
        with point n of ``b``.
    size : (height, width) in pixels of the clips
        Tracks are divided by it: x by the width, y by the height.
    alpha : 0 to 1
        Weight of the shape; the steps have weight 1 - ``alpha``.
    preset : "exact" or "det"
        "exact", the paper's equation: the mean over points of alpha exp(-d) + (1 - alpha) c, d the discrete Fréchet
        distance, c the mean over steps of the cosine between them, where two static steps count 1, and a static and a
        moving one 0. "det", the released code: compares every point of ``a`` with every point of ``b`` (whose numbers
        may differ); d is the mean distance over all pairs of positions, 1 / (1 + d) replaces exp(-d), and the position
        in image 0 counts as a first step. Of each of the two matrices it takes the row's maximum, averaged over the
        points of ``a``, and it is NaN if any step has no length.
    tolerance : pixels
        Steps shorter than this are static ("exact" only).

    Returns
    -------
    float

    Raises
    ------
    InvalidInputError
        For tracks that cannot be compared (:func:`analyses.metrics.motion_fidelity.track_pair`), a size that does not
        hold them, another preset, or an alpha or tolerance out of range.

    Notes
    -----
    Shi et al., "Decouple and Track" (DeT, 2025), section 3.3.2; docs/definitions.md, section 9. Directions are those of
    the divided tracks, as published. The released script draws 50 random points per run for the distances, the same
    indices in both clips, and omits the distances by default; "det" uses all given points. d is at most the square root
    of 2 within the image, so the shape alone never scores below 0.24.

    Examples
    --------
    The same path, started a quarter of the width further right:

    >>> a = np.array([[[0.0, 0.0]], [[10.0, 5.0]], [[20.0, 5.0]]])
    >>> size = (30, 40)
    >>> round(hybrid_motion_fidelity(a, a + [10, 0], size=size), 3)
    0.889
    """
    check_tolerance(tolerance)
    number(alpha, "alpha", min_value=0, max_value=1)
    paired_for = "Point n of a is paired with point n of b, which" if preset == "exact" else None
    first, second = track_pair(a, b, paired_for=paired_for)
    scale = _scale(size, first, second)
    if preset == "det":
        return _det(first / scale, second / scale, alpha)
    shape = np.exp(-discrete_frechet_distance(first / scale, second / scale))
    products = step_directions(first, tolerance, scale) * step_directions(second, tolerance, scale)
    cosines = products.sum(1) / (len(first) - 1)
    return float(np.mean(alpha * shape + (1 - alpha) * cosines))


def _scale(size: tuple[int, int], *tracks: np.ndarray) -> np.ndarray:
    """Return (width, height); a size is rejected if most positions lie outside it."""
    lengths = np.asarray(size, dtype=np.float64)
    if lengths.shape != (2,) or not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise InvalidInputError(f"size must be (height, width), two positive numbers of pixels; got {size!r}.")
    scale: np.ndarray = lengths[::-1]
    if _share_outside(scale, tracks) > 0.5:
        hint = " Is it (width, height)?" if _share_outside(lengths, tracks) == 0 else ""
        raise InvalidInputError(
            f"most positions lie outside the size of {size[0]} x {size[1]} px (height x width).{hint} Tracks are "
            "(x, y) in pixels, size is (height, width) of the clips that they were found in."
        )
    return scale


def _share_outside(scale: np.ndarray, tracks: tuple[np.ndarray, ...]) -> float:
    outside = [((one < 0) | (one > scale)).any(-1).mean() for one in tracks]
    return float(max(outside))


def _det(a: np.ndarray, b: np.ndarray, alpha: float) -> float:
    """The released code, on tracks already divided by the size."""
    images, points = b.shape[:2]
    positions = b.reshape(-1, 2)
    near = [cdist(track, positions).reshape(-1, images, points).mean((0, 1)).min() for track in a.transpose(1, 0, 2)]
    shape = 1 / (1 + np.array(near))
    first, second = (unit_vectors(np.diff(one, axis=0, prepend=0.0)) for one in (a, b))
    cosines = np.einsum("tnc,tmc->nm", first, second, optimize=True) / images
    return float(alpha * shape.mean() + (1 - alpha) * cosines.max(1).mean())


@checked
def discrete_frechet_distance(a: Array, b: Array) -> np.ndarray:
    """Return the discrete Fréchet distance between paired curves.

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
    D(i-1, j-1))), by dynamic programming over rows, all points at once. It is the largest distance between two walkers
    who follow the curves without turning back, each at the best pace. It is zero exactly for curves that visit the same
    positions in the same order, is symmetric, satisfies the triangle inequality, and is at least the distance between
    the first positions and between the last ones.

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
