"""Crops of single chunks that cover the pairs of a point and an image with few calls of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analyses.tracking.chunks import Chunk
from analyses.tracking.grouping import PointGroup, filled, middles

_MOST_SEEDS = 200
"""Number of points on whose paths crops are centred, evenly spread over those that no crop shows yet."""

_MOST_TIMES = 16
"""Number of images at which paths are compared, evenly spread over those of the clip."""


def cover_pairs(
    tracks: np.ndarray,
    trusted: np.ndarray,
    anchors: np.ndarray,
    extent: np.ndarray,
    margin: np.ndarray,
    length: int,
    *,
    max_chunks: int | None = None,
) -> list[PointGroup]:
    """Cover the pairs of a point and an image with few chunks of crops.

    A pair is covered by a crop in which the point lies well inside both in this image and in the one in which it is
    known. Points therefore share a crop as long as they stay together, and a crop is shown only in images for which it
    is needed. The chunk that covers the most uncovered pairs is taken, until all are covered: the number of pairs
    covered is submodular, so the greedy choice covers at least 63 % as many as the best choice of the same number of
    chunks.

    Parameters
    ----------
    tracks : (image, point, 2) float, coarse tracks, (x, y) in pixels of the clip
    trusted : (image, point) bool, where the coarse track is trusted; at least the image of the query
    anchors : (point,) the image in which each point is known
    extent : (2,) width and height of a crop in pixels of the clip
    margin : (2,) least distance in pixels of a point from the border of its crop
    length : images of a chunk
    max_chunks : int, optional
        Largest number of chunks.

    Returns
    -------
    list of PointGroup
        Each with the chunk of images in which its crop is shown; a point may be in several, and in none.

    Notes
    -----
    Nemhauser, Wolsey and Fisher, "An analysis of approximations for maximizing submodular set functions" (1978).

    Examples
    --------
    Two points stay together in images 1 and 2 and part in image 3, where the second one needs a crop alone:

    >>> tracks = np.full((4, 2, 2), 10.0)
    >>> tracks[3, 1] = 35.0
    >>> how = np.array([20.0, 20.0]), np.array([2.0, 2.0]), 4
    >>> groups = cover_pairs(tracks, np.ones((4, 2), bool), np.zeros(2, int), *how)
    >>> [(group.members.tolist(), group.chunk.images) for group in groups]
    [([0, 1], (0, 1, 2, 3)), ([1], (0, 3))]
    """
    images, points = tracks.shape[:2]
    if not points or images < 2:
        return []
    paths = np.stack([filled(tracks[:, point], trusted[:, point]) for point in range(points)], 1)
    half = extent / 2 - np.minimum(margin, 0.4 * extent)
    left = trusted.copy()
    left[anchors, np.arange(points)] = False
    found: list[PointGroup] = []
    while left.any() and (max_chunks is None or len(found) < max_chunks):
        cover = _Cover(paths, anchors, _centres(paths, np.flatnonzero(left.any(0)), extent), half, length)
        before = len(found)
        for group in cover.groups(left):
            found.append(group)
            if max_chunks is not None and len(found) >= max_chunks:
                break
        if len(found) == before:  # the remaining points lie outside their own crop in the image in which they are known
            break
    return found


def _centres(paths: np.ndarray, open_points: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Return (image, candidate, 2), the paths of some points and the mean paths of the points that stay around them."""
    few = np.linspace(0, len(open_points) - 1, min(len(open_points), _MOST_SEEDS)).astype(int)
    seeds = open_points[np.unique(few)]
    times = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _MOST_TIMES)).astype(int))
    return np.concatenate([paths[:, seeds], middles(paths, times, extent, seeds)], 1)


@dataclass(eq=False)
class _Cover:
    """Choose chunks of crops that are centred on given paths.

    Parameters
    ----------
    paths : (image, point, 2)
    anchors : (point,)
    centres : (image, candidate, 2)
    half : (2,) pixels from the centre of a crop within which a point lies well inside
    length : images of a chunk
    """

    paths: np.ndarray
    anchors: np.ndarray
    centres: np.ndarray
    half: np.ndarray
    length: int

    def __post_init__(self) -> None:
        count, points = self.centres.shape[1], self.paths.shape[1]
        self._known = np.unique(self.anchors)
        self._usable = np.empty((count, len(self.paths), points), bool)
        for number in range(count):
            inside = (np.abs(self.paths - self.centres[:, number, None]) <= self.half + 1e-9).all(-1)
            self._usable[number] = inside & inside[self.anchors, np.arange(points)]

    def groups(self, left: np.ndarray) -> Iterator[PointGroup]:
        """Yield chunks of crops until none covers anything; covered pairs are removed from ``left`` (image, point)."""
        gain = self._gain(left, np.arange(len(left)))
        while True:
            chosen, covered = self._best_chunks(gain)
            best = int(covered.argmax())
            if not covered[best] > 0:
                return
            images = np.flatnonzero(chosen[best])
            usable = self._usable[best][images]
            away = images[:, None] != self.anchors
            mine = np.isin(self.anchors, images) & (usable & away).any(0)
            members = np.flatnonzero(mine)
            left[np.ix_(images, members)] &= ~usable[:, members]
            gain[:, :, images] = self._gain(left, images)
            chunk = Chunk(tuple(images.tolist()), tuple(np.unique(self.anchors[members]).tolist()))
            yield PointGroup(members, self.centres[:, best], chunk=chunk)

    def _gain(self, left: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Return (candidate, anchor, image), the pairs that are not covered of each anchor and some images."""
        found = np.empty((len(self._usable), len(self._known), len(images)), np.int32)
        for number, anchor in enumerate(self._known):
            mine = np.flatnonzero(self.anchors == anchor)
            found[:, number] = (self._usable[:, images][:, :, mine] & left[images][:, mine]).sum(-1)
        return found

    def _best_chunks(self, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the best images (candidate, image) bool of a chunk of each crop, and the pairs that they cover.

        Images are added one by one, each time the one that covers the most pairs.
        """
        count, known, images = gain.shape
        rows = np.arange(count)
        first = gain.reshape(count, -1).argmax(1)
        chosen = np.zeros((count, images), bool)
        chosen[rows, self._known[first // images]] = True
        number = np.full(images, -1)
        number[self._known] = np.arange(known)
        covered = np.zeros(count, gain.dtype)
        for _ in range(self.length - 1):
            more = np.einsum("ck,cki->ci", chosen[:, self._known].astype(gain.dtype), gain)
            more[:, self._known] += np.einsum("cki,ci->ck", gain, chosen.astype(gain.dtype))
            more[chosen] = 0
            best = more.argmax(1)
            added = more[rows, best]
            chosen[rows[added > 0], best[added > 0]] = True
            covered += added
        return chosen, covered
