"""Tracking from the whole image to closer and closer crops: the levels of one run, and its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from analyses.tracking.chunks import Chunk, chunk_groups
from analyses.tracking.closer import CloserLook, LevelTracks
from analyses.tracking.crops import CropWindows, crop_scale
from analyses.tracking.grouping import group_points
from analyses.tracking.options import TrackingOptions
from analyses.tracking.propagate import ChunkTokens, Group, Propagator
from analyses.tracking.tokens import LayerTokens
from store.layout import TokenLayout

Tell = Callable[[int, int], object]


@dataclass(eq=False)
class LeveledTracking:
    """Track the queries of a clip at every level.

    Parameters
    ----------
    model : LayerTokens
    options : TrackingOptions
    clip : (height, width) in pixels
    images : of the clip
    length : images of a chunk
    budget_bytes : working memory of one matching
    tell : called with (chunks done, in all); while no crops are known, those of points that do not move are counted
    crops : how many crops each level took, counted while it runs
    """

    model: LayerTokens
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
        anchors = np.unique(queries[:, 0]).astype(int) if self.images > 1 else np.zeros(0, int)
        plans = {int(anchor): self._plan(int(anchor)) for anchor in anchors}
        layout = self.model.layout(2)
        # what each level of each anchor is expected to cost, replaced by what it costs once its crops are known
        expected = {
            (anchor, level): _chunks(groups)
            * expected_crops(queries[queries[:, 0] == anchor], self.clip, layout, self.options, level)
            for anchor, groups in plans.items()
            for level in self.options.levels
        }
        found = [self._unmoved(queries) for _ in self.options.levels]
        for anchor, groups in plans.items():
            mine = np.flatnonzero(queries[:, 0] == anchor)
            self._ahead = sum(expected.values())
            before = self._whole(groups, queries[mine])
            _put(found[0], before, mine)
            for number, level in enumerate(self.options.levels[1:], start=1):
                crops = self._look.crops(before, level)
                self.crops[level] = self.crops.get(level, 0) + len(crops)
                expected[anchor, level] = _chunks(groups) * len(crops)
                self._ahead = sum(expected.values())
                before = self._look.refine(before, groups, level, crops)
                _put(found[number], before, mine)
        return found

    def _plan(self, anchor: int) -> tuple[Group, ...]:
        options = self.options
        return chunk_groups(
            self.images, anchor, self.length, interleaved=options.interleaved, anchored=options.anchored
        )

    def _unmoved(self, queries: np.ndarray) -> LevelTracks:
        """Return tracks of points that stay where they are, certain everywhere."""
        shape = self.images, len(queries)
        height, width = self.model.layout(2).cell_size
        cell = np.array([width, height]) * self._stretch
        tracks = np.repeat(queries[None, :, 1:], self.images, axis=0)
        return LevelTracks(tracks, np.ones(shape), np.zeros(shape), cell, np.zeros(shape), np.zeros(shape, bool))

    def _whole(self, groups: tuple[Group, ...], queries: np.ndarray) -> LevelTracks:
        """Return the tracks that the whole image gives."""
        found = self._unmoved(queries)
        propagator = Propagator(
            self._tokens, self.model.layout(2), self.model.backbone.device, self.options, self.budget_bytes
        )
        for image, state in propagator.propagate(groups, queries[:, 1:] / self._stretch).items():
            found.tracks[image] = state.points * self._stretch
            found.mass[image], found.cycle_error[image] = state.mass, state.cycle_error
            found.looked[image] = True
        return found

    @property
    def _stretch(self) -> np.ndarray:
        """(2,) pixels of the clip for each pixel that the model sees of the whole image."""
        height, width = self.model.size
        return np.array([self.clip[1] / width, self.clip[0] / height])

    @property
    def _look(self) -> CloserLook:
        model = self.model
        return CloserLook(
            self._tokens, model.layout(2), model.backbone.device, self.clip, self.options, self.budget_bytes
        )

    def _tokens(self, chunk: Chunk, windows: CropWindows | None = None) -> ChunkTokens:
        made = self.model.tokens(chunk, windows)
        if self.tell is not None:
            self.tell(self.model.chunks, max(self._ahead, self.model.chunks))
        return made


def expected_crops(
    queries: np.ndarray, clip: tuple[int, int], layout: TokenLayout, options: TrackingOptions, level: int
) -> int:
    """Return how many crops a level takes if no point moves away from its neighbours; 1 for the whole image.

    Parameters
    ----------
    queries : (point, 3), (image, x, y) in pixels, all in one image
    clip : (height, width) in pixels
    layout : the cells that the model sees
    options : TrackingOptions
    level : one of its levels

    Examples
    --------
    >>> queries = np.array([[0, x, y] for x in (5.0, 15.0, 25.0, 35.0) for y in (5.0, 15.0, 25.0, 35.0)])
    >>> expected_crops(queries, (40, 40), TokenLayout(2, 10, 10, 40, 40, 2), TrackingOptions(), 2)
    4
    """
    if level == 1:
        return 1
    scale = crop_scale(clip, (layout.pixel_height, layout.pixel_width), level)
    extent = scale * np.array([layout.pixel_width, layout.pixel_height])
    margin = options.crop_margin * scale * np.array(layout.cell_size[::-1])
    return len(group_points(queries[None, :, 1:], np.ones((1, len(queries)), bool), extent, margin))


def _chunks(groups: tuple[Group, ...]) -> int:
    return sum(len(group) for group in groups)


def _put(whole: LevelTracks, part: LevelTracks, points: np.ndarray) -> None:
    """Put the tracks of some points where they belong."""
    for name in ("tracks", "mass", "cycle_error", "correction", "looked"):
        getattr(whole, name)[:, points] = getattr(part, name)
    whole.cell[:] = part.cell
