"""Motion compensation: coarse motion is removed from clips, so that points that move differently share a crop."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from analyses.tracking.crops import CropWindows
from analyses.tracking.grouping import PointGroup, filled, group_points

_ALIKE = 1.0
"""Largest difference in motion, in cells of the level before, between points that are moved together."""

_MOST_TIMES, _MOST_SEEDS = 16, 400
"""Numbers of images at which motions are compared, and of points whose motion is tried for a group, evenly spread."""

_UNLIKE = 4.0
"""Distance in cells of a guide that weighs as much as a difference in motion of one cell."""


@dataclass(frozen=True, eq=False)
class Compensation:
    """Places at which points are shown in every image, and the positions in the clip of their surroundings.

    Parameters
    ----------
    places : (point, 2) float, (x, y) in pixels of the clip, positions in the image to which all are aligned
    paths : (image, point, 2) float, coarse paths, shared by points that move alike
    sites : (site,) int64, the points whose surroundings are shown; each pixel moves with the site nearest to it
    """

    places: np.ndarray
    paths: np.ndarray
    sites: np.ndarray

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.places[self.sites])

    def sources(self, places: np.ndarray, image: int) -> np.ndarray:
        """Return the positions (..., 2) in an image of the content shown at places (..., 2).

        Examples
        --------
        The left point stays, the right one moves down by 3 px, each with what lies around it:

        >>> paths = np.array([[[2.0, 5.0], [8.0, 5.0]], [[2.0, 5.0], [8.0, 8.0]]])
        >>> motion = Compensation(paths[0], paths, np.arange(2))
        >>> motion.sources(np.array([[3.0, 4.0], [9.0, 4.0]]), 1).tolist()
        [[3.0, 4.0], [9.0, 7.0]]
        """
        nearest = self.sites[self._tree.query(places)[1]]
        found: np.ndarray = places + (self.paths[image] - self.places)[nearest]
        return found


@dataclass(frozen=True, eq=False)
class CompensatedWindows(CropWindows):
    """A crop of every image with the coarse motion removed.

    Parameters
    ----------
    origins : (image, 2) float, the same for every image
    scale : as of :class:`CropWindows`
    motion : Compensation
    """

    motion: Compensation

    def places(self, positions: np.ndarray, image: int, points: np.ndarray) -> np.ndarray:
        """Return the places at which positions (point, 2) of the clip are shown, each moved with its point."""
        motion = self.motion
        return super().places(positions - motion.paths[image, points] + motion.places[points], image, points)

    def positions(self, places: np.ndarray, anchor: int, image: int, points: np.ndarray) -> np.ndarray:
        """Return the positions (point, 2) in an image of matches at places (point, 2) of the crop."""
        motion = self.motion
        found = super().positions(places, anchor, image, points)
        return found + motion.paths[image, points] - motion.places[points]

    def key(self, image: int, origin: np.ndarray) -> tuple[object, ...]:
        """Return a key that identifies this view of an image."""
        return image, self

    def show(self, video: np.ndarray, image: int, origin: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return an image as the model sees it, with the arguments of :meth:`CropWindows.show`.

        Beyond the image, its border is repeated.
        """
        x, y = (edge + self.scale * (np.arange(count) + 0.5) for edge, count in zip(origin, size[::-1], strict=True))
        sources = self.motion.sources(np.stack(np.meshgrid(x, y), -1), image)
        return sampled(video[image], sources, self.scale)


def sampled(image: np.ndarray, places: np.ndarray, scale: float) -> np.ndarray:
    """Return the colours (..., 3) uint8 of an image (y, x, 3) at places (..., 2), (x, y) in pixels.

    Uses cubic splines; an image that is shown smaller (``scale`` above 1) is first downsampled to avoid aliasing.
    Beyond the image, its border is repeated.

    Examples
    --------
    >>> image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, -1)
    >>> sampled(image, np.array([[1.5, 2.5], [-9.0, 0.5]]), 1.0)[:, 0].tolist()
    [9, 0]
    """
    height, width = image.shape[:2]
    if scale > 1:
        small = max(1, round(width / scale)), max(1, round(height / scale))
        image = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(small, Image.Resampling.BICUBIC))
    size = np.array([image.shape[1], image.shape[0]])
    x, y = np.moveaxis(np.clip(places * size / [width, height] - 0.5, 0, size - 1), -1, 0)
    colours = [map_coordinates(image[..., c].astype(np.float32), [y, x], mode="nearest") for c in range(3)]
    return np.clip(np.rint(np.stack(colours, -1)), 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Compensator:
    """Cover points with few crops that are compensated for their motion.

    All points are aligned to the image in which most of them are known; a point that is not known there is placed where
    it would be if it moved with a neighbour.

    Parameters
    ----------
    clip : (height, width) of the clip
    extent : (2,) width and height of a crop in pixels of the clip
    margin : (2,) least distance in pixels of a point from the border of its crop; not applied if a crop holds the whole
        image
    whole, before : (2,) width and height of a cell of the whole image and of the level before
    max_groups : int, optional
        Largest number of crops.
    """

    clip: tuple[int, int]
    extent: np.ndarray
    margin: np.ndarray
    whole: np.ndarray
    before: np.ndarray
    max_groups: int | None = None

    def groups(
        self, tracks: np.ndarray, trusted: np.ndarray, anchors: np.ndarray, kept: np.ndarray | None = None
    ) -> list[PointGroup]:
        """Return the points of each crop, with the motion that is removed from it.

        Parameters
        ----------
        tracks : (image, point, 2) float, coarse tracks, (x, y) in pixels of the clip
        trusted : (image, point) bool, where the coarse track is trusted; at least the image of the query
        anchors : (point,) the image in which each point is known
        kept : (member,) int64, the points to look at; all by default

        Examples
        --------
        Points that part share a crop:

        >>> tracks = np.array([[[10.0, 10.0], [20.0, 10.0]], [[10.0, 10.0], [35.0, 10.0]]])
        >>> four = np.array([4.0, 4.0])
        >>> compensator = Compensator((40, 40), 5 * four, 0.5 * four, four, four)
        >>> groups = compensator.groups(tracks, np.ones((2, 2), bool), np.zeros(2, int))
        >>> [group.members.tolist() for group in groups]
        [[0, 1]]
        """
        images, points = tracks.shape[:2]
        rest = np.arange(points) if kept is None else kept
        if not len(rest):
            return []
        paths = np.stack([filled(tracks[:, point], trusted[:, point]) for point in range(points)], 1)
        places = _places(paths, trusted, int(np.bincount(anchors[rest], minlength=images).argmax()), self.whole)
        moved = paths.copy()
        moved[:, rest] = _together(paths[:, rest], places[rest], trusted[:, rest], _ALIKE * self.before)
        own = anchors[rest], rest
        moved[own] = paths[own]  # queries are shown at their own positions
        everywhere = Compensation(places, moved, np.sort(rest))
        return [
            PointGroup(rest[group.members], np.repeat(group.centres[:1], images, 0), everywhere)
            for group in self._crops(places[rest])
        ]

    def _crops(self, places: np.ndarray) -> list[PointGroup]:
        """Return crops that hold places (point, 2), all of one image."""
        size, rest = np.array(self.clip[::-1]), np.arange(len(places))
        found = []
        if (self.extent >= size * (1 - 1e-9)).all():
            inside = ((places >= 0) & (places <= size)).all(-1)
            found = [PointGroup(rest[inside], size[None] / 2)] if inside.any() else []
            rest = rest[~inside]
        left = None if self.max_groups is None else self.max_groups - len(found)
        if left == 0:
            return found
        more = group_points(
            places[None, rest], np.ones((1, len(rest)), bool), self.extent, self.margin, max_groups=left
        )
        tiles = _tiles(places[rest], self.extent)
        more = tiles if len(tiles) < len(more) else more
        return found + [PointGroup(rest[group.members], group.centres) for group in more]


def _tiles(places: np.ndarray, extent: np.ndarray) -> list[PointGroup]:
    """Return the fewest crops in rows and columns that hold places (point, 2), without empty ones."""
    if not len(places):
        return []
    low, span = places.min(0), places.max(0) - places.min(0)
    parts = np.maximum(np.ceil(span / extent), 1).astype(int)
    number = np.minimum(((places - low) / np.maximum(span, 1e-9) * parts).astype(int), parts - 1)
    tiles, owner = np.unique(number, axis=0, return_inverse=True)
    centres = low + span * (tiles + 0.5) / parts
    return [PointGroup(np.flatnonzero(owner.ravel() == tile), centre[None]) for tile, centre in enumerate(centres)]


def _places(paths: np.ndarray, trusted: np.ndarray, image: int, cell: np.ndarray) -> np.ndarray:
    """Return the positions (point, 2) of points in an image, or where they would be if they moved with a neighbour.

    A point that is not known there is moved, from the nearest image in which it is known, along with a point that is
    near and moves similarly. It may end up outside the clip.
    """
    found = paths[image].copy()
    sure = np.flatnonzero(trusted[image])
    for point in np.flatnonzero(~trusted[image]) if len(sure) else ():
        known = np.flatnonzero(trusted[:, point])
        last = known[np.abs(known - image).argmin()]
        guides = sure[trusted[last, sure]]
        if len(guides):
            both = trusted[known][:, guides]
            ways = (paths[known][:, guides] - paths[last, guides]) - (paths[known, point] - paths[last, point])[:, None]
            differs = (np.linalg.norm(ways / cell, axis=-1) * both).sum(0) / both.sum(0)
            away = np.linalg.norm((paths[last, guides] - paths[last, point]) / cell, axis=-1)
            guide = guides[(away + _UNLIKE * differs).argmin()]
            found[point] = paths[last, point] + paths[image, guide] - paths[last, guide]
    return found


def _together(paths: np.ndarray, places: np.ndarray, trusted: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Return paths (image, point, 2) in which points that move alike share the mean of their motion.

    So the content between points that move alike is not torn apart. The motion shared by most points is found first,
    then that shared by most of the others; then each point joins the motion most similar to its own.
    """
    images, points = trusted.shape
    times = np.unique(np.linspace(0, images - 1, min(images, _MOST_TIMES)).astype(int))
    moved = paths - places
    seeds = np.unique(np.linspace(0, points - 1, min(points, _MOST_SEEDS)).astype(int))
    apart = np.stack([_apart(moved[times], moved[times, seed, None], alike) for seed in seeds])
    left, motions = np.ones(points, bool), []
    while left[seeds].any():
        shared = (apart <= 1) & left
        mine = shared[(shared.sum(1) * left[seeds]).argmax()]
        motions.append(moved[:, mine].mean(1))
        left &= ~mine
    owner = np.stack([_apart(moved[times], motion[times, None], alike) for motion in motions]).argmin(0)
    found = paths.copy()
    for number in np.unique(owner):
        mine = owner == number
        found[:, mine] = places[mine] + moved[:, mine].mean(1, keepdims=True)
    return found


def _apart(moved: np.ndarray, others: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Return the distance (point,) between motions (image, point, 2) in units of ``alike``, its 0.9 quantile."""
    found: np.ndarray = np.quantile(np.linalg.norm((moved - others) / alike, axis=-1), 0.9, axis=0)
    return found
