"""Groups of points that move alike and therefore share a crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from analyses.tracking.chunks import Chunk
    from analyses.tracking.compensation import Compensation

_MOST_TIMES = 16
"""Number of images at which paths are compared, evenly spread over those of the clip."""


@dataclass(frozen=True, eq=False)
class PointGroup:
    """Points that share a crop.

    Parameters
    ----------
    members : (member,) int64, numbers of the points
    centres : (image, 2) float, the path that the crop follows, (x, y) in pixels of the clip
    motion : Compensation, optional
        Motion removed from the images; the crop itself then does not move.
    chunk : Chunk, optional
        The images in which the crop is shown; by default all, in the chunks of the whole image.
    """

    members: np.ndarray
    centres: np.ndarray
    motion: Compensation | None = None
    chunk: Chunk | None = None


def group_points(
    tracks: np.ndarray,
    trusted: np.ndarray,
    extent: np.ndarray,
    margin: np.ndarray,
    *,
    anchors: np.ndarray | None = None,
    max_groups: int | None = None,
) -> list[PointGroup]:
    """Cover points with few crops, so that each point lies well inside its crop in every image where it is trusted.

    The crop that holds the most uncovered points is taken, repeatedly, until all are covered. Then each point joins the
    chosen crop in which it lies farthest from the border. The choice is greedy: finding the smallest cover is a hard
    problem (set cover), and the greedy cover is at most a logarithmic factor larger.

    Parameters
    ----------
    tracks : (image, point, 2) float, coarse tracks, (x, y) in pixels of the clip
    trusted : (image, point) bool, where the coarse track is trusted; at least the image of the query
    extent : (2,) width and height of a crop in pixels of the clip
    margin : (2,) least distance in pixels of a point from the border of its crop
    anchors : (point,) the image in which each point is known; image 0 by default
    max_groups : int, optional
        Largest number of crops, those with the most points first. A point that lies well inside none of them joins the
        crop that shows it in the most images, including the one in which it is known; a point that no crop shows has
        none.

    Returns
    -------
    list of PointGroup
        Every point is in one of them, unless ``max_groups`` leaves it out. A single point has its own crop, centred on
        it.

    Notes
    -----
    Chvatal, "A Greedy Heuristic for the Set-Covering Problem" (1979).

    Examples
    --------
    Two points side by side share a crop, a third that moves away does not:

    >>> tracks = np.array([[[10.0, 10.0], [12.0, 10.0], [11.0, 10.0]], [[10.0, 10.0], [12.0, 10.0], [35.0, 10.0]]])
    >>> groups = group_points(tracks, np.ones((2, 3), bool), np.array([20.0, 20.0]), np.array([2.0, 2.0]))
    >>> [group.members.tolist() for group in groups]
    [[0, 1], [2]]
    """
    images, points = tracks.shape[:2]
    if not points:
        return []
    paths = np.stack([filled(tracks[:, point], trusted[:, point]) for point in range(points)], 1)
    times = np.unique(np.linspace(0, images - 1, min(images, _MOST_TIMES)).astype(int))
    candidates = np.concatenate([paths, middles(paths, times, extent)], 1)
    margin = np.minimum(margin, 0.4 * extent)  # so that every point fits in its own crop
    slack = _slack(paths[times], trusted[times], candidates[times], extent, margin)
    open_points = np.ones(points, bool)
    chosen: list[int] = []
    while open_points.any() and (max_groups is None or len(chosen) < max_groups):
        inside = slack[:, open_points] >= 0
        best = int(np.argmax(inside.sum(1)))
        chosen.append(best)
        open_points &= slack[best] < 0
    owner = np.argmax(slack[chosen], axis=0)
    known = np.zeros(points, int) if anchors is None else anchors
    for point in np.flatnonzero(open_points):
        inside = (np.abs(tracks[:, point, None] - candidates[:, chosen]) <= extent / 2).all(-1)
        shown = np.where(inside[known[point]], (inside & trusted[:, point, None]).sum(0), 0)
        owner[point] = int(np.argmax(shown)) if shown.any() else -1
    groups = []
    for number, candidate in enumerate(chosen):
        members = np.flatnonzero(owner == number)
        if len(members):
            groups.append(PointGroup(members, candidates[:, candidate]))
    return groups


def filled(path: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Return a path (image, 2), linear between the images where it is trusted and constant beyond them.

    Examples
    --------
    >>> filled(np.array([[0.0, 1.0], [9.0, 9.0], [4.0, 1.0]]), np.array([True, False, True])).tolist()
    [[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]
    """
    known = np.flatnonzero(trusted)
    images = np.arange(len(path))
    return np.stack([np.interp(images, known, path[known, axis]) for axis in range(2)], -1)


def middles(paths: np.ndarray, times: np.ndarray, extent: np.ndarray, points: np.ndarray | None = None) -> np.ndarray:
    """Return (image, point, 2), the mean path of what stays within half a crop of each of some points (all by default).

    Examples
    --------
    >>> paths = np.array([[[1.0, 1.0], [3.0, 1.0], [30.0, 1.0]]])
    >>> middles(paths, np.array([0]), np.array([8.0, 8.0])).tolist()
    [[[2.0, 1.0], [2.0, 1.0], [30.0, 1.0]]]
    """
    found = []
    for point in range(paths.shape[1]) if points is None else points:
        near = (np.abs(paths[times] - paths[times, point, None]) <= extent / 2).all((0, -1))
        found.append(paths[:, near].mean(1))
    return np.stack(found, 1)


def _slack(
    paths: np.ndarray, trusted: np.ndarray, candidates: np.ndarray, extent: np.ndarray, margin: np.ndarray
) -> np.ndarray:
    """Return (candidate, point), the least distance of a point from the border of its crop; negative outside."""
    rows = []
    for number in range(candidates.shape[1]):
        away = np.abs(paths - candidates[:, None, number])
        inside = ((extent / 2 - margin - away) / extent).min(-1)
        rows.append(np.where(trusted, inside, np.inf).min(0))
    return np.stack(rows)
