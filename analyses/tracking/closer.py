"""A closer look: points tracked again in crops that follow their coarse tracks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from analyses.tracking.chunks import Chunk
from analyses.tracking.compensation import CompensatedWindows, Compensator
from analyses.tracking.crops import CropWindows, crop_scale, follow
from analyses.tracking.grouping import PointGroup, group_points
from analyses.tracking.options import TrackingOptions
from analyses.tracking.propagate import ChunkTokens, Group, PointState, Propagator
from store.layout import TokenLayout

Plans = list[tuple[tuple[Group, ...], tuple[int, ...]]]
"""Groups of chunks, and the anchors of which each leads to all other images."""


@dataclass(frozen=True, eq=False)
class LevelTracks:
    """Tracks of points, as one level of looking found them.

    Attributes
    ----------
    tracks : (image, point, 2) float64, (x, y) in pixels of the clip
    mass : (image, point), fraction of the matching cost around the match
    cycle_error : (image, point), cells of this level
    cell : (2,) width and height of a cell of this level in pixels of the clip
    correction : (image, point), cells of the level before by which this one moved a point; 0 at the first level
    looked : (image, point) bool, whether this level speaks of the point there; elsewhere the level before is kept
    """

    tracks: np.ndarray
    mass: np.ndarray
    cycle_error: np.ndarray
    cell: np.ndarray
    correction: np.ndarray
    looked: np.ndarray


@dataclass(frozen=True, eq=False)
class CloserLook:
    """Look at points again in crops of a clip.

    Parameters
    ----------
    tokens : callable
        Returns the :class:`ChunkTokens` of a chunk in crops.
    plans : callable
        Returns the chunks that lead from anchors (point,) to all other images.
    layout : the cells of a chunk
    device : of the tokens
    clip : (height, width) of the clip in pixels
    options : TrackingOptions
    budget_bytes : working memory of one matching
    """

    tokens: Callable[[Chunk, CropWindows], ChunkTokens]
    plans: Callable[[np.ndarray], Plans]
    layout: TokenLayout
    device: torch.device
    clip: tuple[int, int]
    options: TrackingOptions
    budget_bytes: int

    def crops(self, coarse: LevelTracks, anchors: np.ndarray, level: int) -> list[PointGroup]:
        """Return the crops in which points are looked at again; a point that is trusted nowhere has none."""
        options, scale = self.options, self._scale(level)
        extent = scale * np.array([self.layout.pixel_width, self.layout.pixel_height])
        cell = scale * np.array(self.layout.cell_size[::-1])
        trusted = self._trusted(coarse)
        lost = np.flatnonzero(trusted.sum(0) < 2)  # but for the image of the query
        kept = np.setdiff1d(np.arange(trusted.shape[1]), lost)
        margin = options.crop_margin * cell
        if options.compensates(level, anchors):
            compensator = Compensator(self.clip, extent, margin, cell * level, coarse.cell, options.max_crops)
            return compensator.groups(coarse.tracks, trusted, anchors, kept)
        tracks, known = coarse.tracks[:, kept], anchors[kept]
        groups = group_points(tracks, trusted[:, kept], extent, margin, anchors=known, most=options.max_crops)
        return [replace(group, members=kept[group.members]) for group in groups]

    def refine(self, coarse: LevelTracks, anchors: np.ndarray, level: int, crops: list[PointGroup]) -> LevelTracks:
        """Return the tracks of a closer level, those of the level before where this one does not speak.

        Parameters
        ----------
        coarse : LevelTracks of the level before
        anchors : (point,) the image in which each point is known
        level : how many times closer
        crops : of :meth:`crops`
        """
        scale = self._scale(level)
        found = LevelTracks(
            coarse.tracks.copy(),
            coarse.mass.copy(),
            coarse.cycle_error.copy(),
            scale * np.array(self.layout.cell_size[::-1]),
            np.zeros(coarse.mass.shape),
            np.zeros(coarse.mass.shape, bool),
        )
        for crop in crops:
            windows = self._windows(crop, level)
            propagator = Propagator(
                lambda chunk, windows=windows: self.tokens(chunk, windows),  # type: ignore[misc]
                self.layout,
                self.device,
                self.options,
                self.budget_bytes,
            )
            for groups, images in self.plans(anchors[crop.members]):
                members = {anchor: crop.members[anchors[crop.members] == anchor] for anchor in images}
                points = {
                    anchor: windows.places(coarse.tracks[anchor, mine], anchor, mine)
                    for anchor, mine in members.items()
                }
                for anchor, states in propagator.propagate(groups, points).items():
                    self._put(found, coarse, windows, anchor, members[anchor], states)
        return found

    def _windows(self, crop: PointGroup, level: int) -> CropWindows:
        """Return what the model is shown of a crop."""
        windows = follow(crop.centres, self.clip, (self.layout.pixel_height, self.layout.pixel_width), level)
        if crop.motion is None:
            return windows
        return CompensatedWindows(windows.origins, windows.scale, crop.motion)

    def _put(
        self,
        found: LevelTracks,
        coarse: LevelTracks,
        windows: CropWindows,
        anchor: int,
        mine: np.ndarray,
        states: Mapping[int, PointState],
    ) -> None:
        """Put what was found of some points where it belongs, as far as it counts."""
        size = np.array([self.layout.pixel_width, self.layout.pixel_height])
        for image, state in states.items():
            there = windows.positions(state.points, anchor, image, mine)
            seen = np.stack([windows.places(each, image, mine) for each in (there, coarse.tracks[image, mine])])
            inside = ((seen >= 0) & (seen <= size)).all((0, -1))
            moved = np.linalg.norm((there - coarse.tracks[image, mine]) / coarse.cell, axis=-1)
            taken = inside & (moved <= self.options.max_correction)
            taken &= state.cycle_error <= self.options.max_crop_cycle_error
            found.tracks[image, mine[taken]] = there[taken]
            found.mass[image, mine[taken]] = state.mass[taken]
            found.cycle_error[image, mine] = state.cycle_error
            found.correction[image, mine], found.looked[image, mine] = moved, taken

    def _trusted(self, coarse: LevelTracks) -> np.ndarray:
        trusted: np.ndarray = coarse.cycle_error <= self.options.trusted_cycle_error
        return trusted & ((coarse.tracks >= 0) & (coarse.tracks <= np.array(self.clip[::-1]))).all(-1)

    def _scale(self, level: int) -> float:
        return crop_scale(self.clip, (self.layout.pixel_height, self.layout.pixel_width), level)
