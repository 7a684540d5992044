"""A closer look: points tracked again in crops that follow their coarse tracks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from analyses.tracking.chunks import Chunk
from analyses.tracking.compensation import CompensatedWindows, Compensator
from analyses.tracking.covering import cover_pairs
from analyses.tracking.crops import CropWindows, crop_scale, follow
from analyses.tracking.grouping import PointGroup, group_points
from analyses.tracking.options import TrackingOptions
from analyses.tracking.propagate import ChunkTokens, Group, PointState, Propagator
from store.layout import TokenLayout

Plans = list[tuple[tuple[Group, ...], tuple[int, ...]]]
"""Groups of chunks, and the anchors from which each leads to all other images."""


@dataclass(frozen=True, eq=False)
class LevelTracks:
    """Tracks of points at one level.

    Attributes
    ----------
    tracks : (image, point, 2) float64, (x, y) in pixels of the clip
    mass : (image, point), fraction of the matching cost around the match
    cycle_error : (image, point), cells of this level
    cell : (2,) width and height of a cell of this level in pixels of the clip
    correction : (image, point), cells of the level before by which this one moved a point; 0 at the first level
    looked : (image, point) bool, where this level measured the point; elsewhere the level before is kept
    middle : (image, point), distance of a point from the border of its crop, as a fraction of the crop
    """

    tracks: np.ndarray
    mass: np.ndarray
    cycle_error: np.ndarray
    cell: np.ndarray
    correction: np.ndarray
    looked: np.ndarray
    middle: np.ndarray


@dataclass(frozen=True, eq=False)
class CropChoice:
    """Choose the crops of a clip in which points are looked at again.

    Parameters
    ----------
    plans : callable
        Returns the chunks that lead from anchors (point,) to all other images.
    layout : the cells of a chunk
    length : images of a chunk
    clip : (height, width) of the clip in pixels
    options : TrackingOptions
    """

    plans: Callable[[np.ndarray], Plans]
    layout: TokenLayout
    length: int
    clip: tuple[int, int]
    options: TrackingOptions

    def crops(self, coarse: LevelTracks, anchors: np.ndarray, level: int) -> list[PointGroup]:
        """Return the crops in which points are looked at again; a point whose track is trusted nowhere has none."""
        options, scale = self.options, self._scale(level)
        extent = scale * np.array([self.layout.pixel_width, self.layout.pixel_height])
        cell = scale * np.array(self.layout.cell_size[::-1])
        trusted = self._trusted(coarse)
        lost = np.flatnonzero(trusted.sum(0) < 2)  # except in the image of the query
        kept = np.setdiff1d(np.arange(trusted.shape[1]), lost)
        margin, max_crops = options.crop_margin * cell, options.crops_at(level)
        if options.compensates(level, anchors):
            compensator = Compensator(self.clip, extent, margin, cell * level, coarse.cell, max_crops)
            return compensator.groups(coarse.tracks, trusted, anchors, kept)
        tracks, known = coarse.tracks[:, kept], anchors[kept]
        if options.shares_chunks:
            max_chunks = None if max_crops is None else max_crops * count_chunks(self.plans(anchors))
            groups = cover_pairs(tracks, trusted[:, kept], known, extent, margin, self.length, max_chunks=max_chunks)
        else:
            groups = group_points(tracks, trusted[:, kept], extent, margin, anchors=known, max_groups=max_crops)
        return [replace(group, members=kept[group.members]) for group in groups]

    def plans_of(self, crop: PointGroup, anchors: np.ndarray) -> Plans:
        """Return the chunks in which a crop is shown, for points known in images (point,)."""
        if crop.chunk is not None:
            return [(((crop.chunk,),), crop.chunk.anchors)]
        return self.plans(anchors[crop.members])

    def windows_of(self, crop: PointGroup, level: int) -> CropWindows:
        """Return the windows of a crop that the model is shown."""
        windows = follow(crop.centres, self.clip, (self.layout.pixel_height, self.layout.pixel_width), level)
        if crop.motion is None:
            return windows
        return CompensatedWindows(windows.origins, windows.scale, crop.motion)

    def _trusted(self, coarse: LevelTracks) -> np.ndarray:
        trusted: np.ndarray = coarse.cycle_error <= self.options.trusted_cycle_error
        return trusted & ((coarse.tracks >= 0) & (coarse.tracks <= np.array(self.clip[::-1]))).all(-1)

    def _scale(self, level: int) -> float:
        return crop_scale(self.clip, (self.layout.pixel_height, self.layout.pixel_width), level)


@dataclass(frozen=True, eq=False)
class CloserLook(CropChoice):
    """Look at points again in crops of a clip.

    Parameters
    ----------
    tokens : callable
        Returns the :class:`ChunkTokens` of a chunk in crops.
    device : of the tokens
    budget_bytes : working memory of one matching
    """

    tokens: Callable[[Chunk, CropWindows], ChunkTokens]
    device: torch.device
    budget_bytes: int

    def refine(self, coarse: LevelTracks, anchors: np.ndarray, level: int, crops: list[PointGroup]) -> LevelTracks:
        """Return the tracks of a closer level, with those of the level before where this one has no measurement.

        Parameters
        ----------
        coarse : LevelTracks of the level before
        anchors : (point,) the image in which each point is known
        level : magnification
        crops : of :meth:`crops`
        """
        found = self.unlooked(coarse, level)
        for crop in crops:
            self.look_into(crop, self.windows_of(crop, level), coarse, anchors, found)
        return found

    def unlooked(self, coarse: LevelTracks, level: int) -> LevelTracks:
        """Return the tracks of a level before anything was looked at: those of the level before."""
        return LevelTracks(
            coarse.tracks.copy(),
            coarse.mass.copy(),
            coarse.cycle_error.copy(),
            self._scale(level) * np.array(self.layout.cell_size[::-1]),
            np.zeros(coarse.mass.shape),
            np.zeros(coarse.mass.shape, bool),
            np.full(coarse.mass.shape, -np.finfo(float).eps),
        )

    def look_into(
        self, crop: PointGroup, windows: CropWindows, coarse: LevelTracks, anchors: np.ndarray, found: LevelTracks
    ) -> None:
        """Look at the points of one crop, and write accepted results into the tracks of its level.

        Parameters
        ----------
        crop : of :meth:`crops`
        windows : of :meth:`windows_of`
        coarse : LevelTracks of the level before
        anchors : (point,) the image in which each point is known
        found : of :meth:`unlooked`, with the results of other crops
        """
        propagator = Propagator(
            lambda chunk: self.tokens(chunk, windows), self.layout, self.device, self.options, self.budget_bytes
        )
        for groups, images in self.plans_of(crop, anchors):
            members = {anchor: crop.members[anchors[crop.members] == anchor] for anchor in images}
            points = {
                anchor: windows.places(coarse.tracks[anchor, mine], anchor, mine) for anchor, mine in members.items()
            }
            for anchor, states in propagator.propagate(groups, points).items():
                self._put(found, coarse, windows, anchor, members[anchor], states)

    def _put(
        self,
        found: LevelTracks,
        coarse: LevelTracks,
        windows: CropWindows,
        anchor: int,
        mine: np.ndarray,
        states: Mapping[int, PointState],
    ) -> None:
        """Write the accepted results of some points into the tracks.

        If several crops show a point in an image, the one counts in which it lies farthest from the border.
        """
        size = np.array([self.layout.pixel_width, self.layout.pixel_height])
        start = _within(windows.places(coarse.tracks[anchor, mine], anchor, mine), size)
        for image, state in states.items():
            there = windows.positions(state.points, anchor, image, mine)
            middle = np.minimum(start, _within(windows.places(coarse.tracks[image, mine], image, mine), size))
            inside = (middle > found.middle[image, mine]) & (_within(windows.places(there, image, mine), size) >= 0)
            moved = np.linalg.norm((there - coarse.tracks[image, mine]) / coarse.cell, axis=-1)
            taken = inside & (moved <= self.options.max_correction)
            taken &= state.cycle_error <= self.options.max_crop_cycle_error
            told = taken | ~found.looked[image, mine]
            found.cycle_error[image, mine[told]] = state.cycle_error[told]
            found.correction[image, mine[told]] = moved[told]
            best = mine[taken]
            found.tracks[image, best], found.mass[image, best] = there[taken], state.mass[taken]
            found.looked[image, best], found.middle[image, best] = True, middle[taken]


def count_chunks(plans: Plans) -> int:
    """Return the number of chunks in plans."""
    return sum(len(group) for groups, _ in plans for group in groups)


def _within(places: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the distance of places (point, 2) from the border of a crop, as a fraction of it; negative outside."""
    found: np.ndarray = (np.minimum(places, size - places) / size).min(-1)
    return found
