"""Tracking from the whole image to progressively closer crops: the levels of one run, and its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from analyses.tracking.chunks import Chunk, chunk_groups, shared_chunks
from analyses.tracking.closer import CloserLook, CropChoice, LevelTracks, Plans, count_chunks
from analyses.tracking.crops import CropWindows
from analyses.tracking.options import TrackingOptions
from analyses.tracking.propagate import ChunkTokens, Propagator
from probe.backbones.backbone import Backbone
from store.layout import TokenLayout

Tell = Callable[[int, int], object]


class TokenSource(Protocol):
    """Source of the tokens of chunks, such as :class:`LayerTokens`; ``chunks`` counts the passes of the model."""

    backbone: Backbone
    size: tuple[int, int]
    chunks: int

    def layout(self, frames: int) -> TokenLayout:
        """Return the layout of the tokens of at least this many latent frames."""

    def tokens(self, chunk: Chunk, windows: CropWindows | None = None) -> ChunkTokens:
        """Return the queries and keys of a chunk, whole or in crops."""


@dataclass(eq=False)
class LeveledTracking:
    """Track the queries of a clip at every level.

    Parameters
    ----------
    model : TokenSource
    options : TrackingOptions
    clip : (height, width) in pixels
    images : of the clip
    length : images of a chunk
    budget_bytes : working memory of one matching
    tell : called with (chunks done, total); until crops are known, the total assumes points that do not move
    crops : number of crops of each level (of both passes, for a level that comes twice), counted during the run; a crop
        that is shown in a separate chunk counts as one
    """

    model: TokenSource
    options: TrackingOptions
    clip: tuple[int, int]
    images: int
    length: int
    budget_bytes: int
    tell: Tell | None = None
    crops: dict[int, int] = field(default_factory=dict)
    _ahead: int = 0

    def track(self, queries: np.ndarray) -> list[LevelTracks]:
        """Return the tracks of queries (point, 3), (image, x, y) in pixels of the clip, at each level."""
        anchors = queries[:, 0].astype(int)
        plans = self._plans(anchors)
        levels = levels_for(self.options, anchors)
        expected: list[int] = []
        if self.tell is not None:
            expected = expected_chunks(queries, self.clip, self.images, self.model.layout(2), self.length, self.options)
            self._ahead = sum(expected)
        found, look = [self.track_whole(queries)], self.look
        for number, level in enumerate(levels[1:] if plans else (), start=1):
            crops = look.crops(found[-1], anchors, level)
            self.crops[level] = self.crops.get(level, 0) + len(crops)
            if expected:  # the expected cost of the level is replaced by the actual one once its crops are known
                expected[number] = sum(count_chunks(look.plans_of(crop, anchors)) for crop in crops)
                self._ahead = sum(expected)
            found.append(look.refine(found[-1], anchors, level, crops))
        return found

    def _plans(self, anchors: np.ndarray) -> Plans:
        """Return the chunks that lead from some images to all others."""
        return chunk_plans(self.images, np.unique(anchors).tolist(), self.length, self.options)

    def _unmoved(self, queries: np.ndarray) -> LevelTracks:
        """Return tracks of points that do not move, trusted everywhere."""
        shape = self.images, len(queries)
        height, width = self.model.layout(2).cell_size
        cell = np.array([width, height]) * self._stretch
        tracks = np.repeat(queries[None, :, 1:], self.images, axis=0)
        zeros = np.zeros(shape)
        return LevelTracks(tracks, np.ones(shape), zeros, cell, zeros.copy(), np.zeros(shape, bool), zeros.copy())

    def track_whole(self, queries: np.ndarray) -> LevelTracks:
        """Return the tracks that the whole image gives, for queries as of :meth:`track`."""
        found, plans = self._unmoved(queries), self._plans(queries[:, 0].astype(int))
        propagator = Propagator(
            self._tokens, self.model.layout(2), self.model.backbone.device, self.options, self.budget_bytes
        )
        for groups, anchors in plans:
            members = {anchor: np.flatnonzero(queries[:, 0] == anchor) for anchor in anchors}
            points = {anchor: queries[mine, 1:] / self._stretch for anchor, mine in members.items()}
            for anchor, states in propagator.propagate(groups, points).items():
                mine = members[anchor]
                for image, state in states.items():
                    found.tracks[image, mine] = state.points * self._stretch
                    found.mass[image, mine], found.cycle_error[image, mine] = state.mass, state.cycle_error
                    found.looked[image, mine] = True
        return found

    @property
    def _stretch(self) -> np.ndarray:
        """(2,) pixels of the clip for each pixel that the model sees of the whole image."""
        height, width = self.model.size
        return np.array([self.clip[1] / width, self.clip[0] / height])

    @property
    def look(self) -> CloserLook:
        """The closer look of a level."""
        return CloserLook(
            self._plans,
            self.model.layout(2),
            self.length,
            self.clip,
            self.options,
            self._tokens,
            self.model.backbone.device,
            self.budget_bytes,
        )

    def _tokens(self, chunk: Chunk, windows: CropWindows | None = None) -> ChunkTokens:
        made = self.model.tokens(chunk, windows)
        if self.tell is not None:
            self.tell(self.model.chunks, max(self._ahead, self.model.chunks))
        return made


def levels_for(options: TrackingOptions, anchors: np.ndarray) -> tuple[int, ...]:
    """Return the levels of a run: one that is listed twice is used once, unless it is compensated.

    Parameters
    ----------
    options : TrackingOptions
    anchors : (point,) the image in which each point is known

    Examples
    --------
    >>> options = TrackingOptions(levels=(1, 1, 2))
    >>> levels_for(options, np.array([0, 0])), levels_for(options, np.array([0, 3]))
    ((1, 1, 2), (1, 2))
    """
    again = [level for level in options.levels[1:] if options.compensates(level, anchors)]
    once = dict.fromkeys(level for level in options.levels if level not in again)
    return (1, *sorted([*again, *(level for level in once if level > 1)]))


def expected_chunks(
    queries: np.ndarray, clip: tuple[int, int], images: int, layout: TokenLayout, length: int, options: TrackingOptions
) -> list[int]:
    """Return the number of chunks of each level, the whole image first, if no point moves away from its neighbours.

    Parameters
    ----------
    queries : (point, 3), (image, x, y) in pixels
    clip : (height, width) in pixels
    images : of the clip
    layout : the cells that the model sees
    length : images of a chunk
    options : TrackingOptions

    Examples
    --------
    >>> queries = np.array([[0, x, y] for x in (5.0, 15.0, 25.0, 35.0) for y in (5.0, 15.0, 25.0, 35.0)])
    >>> options = TrackingOptions(levels=(1, 1, 2))
    >>> expected_chunks(queries, (40, 40), 12, TokenLayout(2, 10, 10, 40, 40, 2), 6, options)
    [3, 3, 12]
    """
    anchors = queries[:, 0].astype(int)
    plans = chunk_plans(images, np.unique(anchors).tolist(), length, options)
    chunks = count_chunks(plans)
    places = np.repeat(queries[None, :, 1:], images, axis=0)
    zeros = np.zeros(places.shape[:2])
    size = np.array([clip[1], clip[0]]) / [layout.pixel_width, layout.pixel_height]
    still = LevelTracks(places, zeros + 1, zeros, size * layout.cell_size[::-1], zeros, zeros.astype(bool), zeros)

    def plans_of(known: np.ndarray) -> Plans:
        return chunk_plans(images, np.unique(known).tolist(), length, options)

    choice = CropChoice(plans_of, layout, length, clip, options)
    found = [chunks]
    for level in levels_for(options, anchors)[1:] if plans else ():
        crops = choice.crops(still, anchors, level)
        found.append(sum(count_chunks(choice.plans_of(crop, anchors)) for crop in crops))
    return found


def chunk_plans(images: int, anchors: list[int], length: int, options: TrackingOptions) -> Plans:
    """Return the chunks that lead from each of some images to all others.

    Parameters
    ----------
    images : of the clip
    anchors : distinct images in which points are known
    length : images of a chunk
    options : TrackingOptions

    Examples
    --------
    >>> plans = chunk_plans(12, [0, 6], 6, TrackingOptions())
    >>> [(anchors, [chunk.images for (chunk,) in groups]) for groups, anchors in plans]
    [((0, 6), [(0, 1, 4, 6, 8, 11), (0, 2, 5, 6, 9), (0, 3, 6, 7, 10)])]
    >>> [(anchors, len(groups)) for groups, anchors in chunk_plans(12, [0, 6], 6, TrackingOptions(overlapping=True))]
    [((0,), 2), ((6,), 2)]
    """
    if images < 2 or not anchors:
        return []
    few = options.shares_chunks
    if few and len(anchors) > 1:
        return [(tuple((chunk,) for chunk in shared_chunks(images, anchors, length)), tuple(anchors))]
    how = {"interleaved": options.interleaved, "anchored": options.anchored, "overlapping": not few}
    return [(chunk_groups(images, anchor, length, **how), (anchor,)) for anchor in anchors]
