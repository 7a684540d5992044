"""Points propagated from the image in which they are known to all others, chunk by chunk; no model is run here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from analyses.correspondence.matching import corners_of
from analyses.correspondence.peaks import Candidates, smoothest_path
from analyses.tracking.aggregation import Aggregation, CellByCell, Support
from analyses.tracking.chunks import Chunk
from analyses.tracking.matching import CostMatcher
from analyses.tracking.options import TrackingOptions
from store.layout import TokenLayout

Group = tuple[Chunk, ...]


@dataclass(frozen=True, eq=False)
class ChunkTokens:
    """Queries and keys of one layer for the images of a chunk.

    Attributes
    ----------
    query, key : (head, frame, cell, channel)
    layout : TokenLayout
    offsets : (frame, 2) float, pixels of the model by which the view of each frame is displaced from that of frame 0;
        None if all frames show the same part of the clip
    """

    query: torch.Tensor
    key: torch.Tensor
    layout: TokenLayout
    offsets: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class PointState:
    """The points in one image.

    Attributes
    ----------
    points : (point, 2) float64, (x, y) in pixels of what the model sees of the query's image
    mass : (point,) fraction of the matching cost around the match
    cycle_error : (point,) cells between where a point came from and where its match leads back to
    """

    points: np.ndarray
    mass: np.ndarray
    cycle_error: np.ndarray


@dataclass(frozen=True, eq=False)
class _ImageMatches:
    """The matches in one image: candidates and cycle error by row, and the displacement (2,) of what is seen."""

    found: Candidates
    cycle_error: torch.Tensor
    offset: torch.Tensor


@dataclass(frozen=True, eq=False)
class Propagator:
    """Propagate points through the chunks of a clip.

    Parameters
    ----------
    tokens : callable
        Returns the :class:`ChunkTokens` of a chunk.
    layout : the cells of a chunk; only its height, width and pixels are read
    device : of the tokens
    options : TrackingOptions
    budget_bytes : working memory of one matching; the costs of one group of chunks come on top
    """

    tokens: Callable[[Chunk], ChunkTokens]
    layout: TokenLayout
    device: torch.device
    options: TrackingOptions
    budget_bytes: int

    def propagate(self, groups: tuple[Group, ...], points: np.ndarray) -> dict[int, PointState]:
        """Return the points (point, 2), known in the first image of the first chunk, in every other image by number."""
        if self.options.anchored:
            return self._from_anchor(groups, points)
        states: dict[int, PointState] = {}
        anchor = groups[0][0].images[0] if groups else 0
        for (chunk,) in groups:
            first = chunk.images[0]
            start = points if first == anchor else states[first].points
            states |= self._from_anchor(((chunk,),), start)
        return states

    def _from_anchor(self, groups: tuple[Group, ...], points: np.ndarray) -> dict[int, PointState]:
        """Return the points, known in the first image of every chunk, in all the others."""
        inside = np.clip(points, 0, [self.layout.pixel_width, self.layout.pixel_height])
        aggregation = self._aggregation(inside)
        match = self._matched_in_clips if self.options.encode == "clip" else self._matched
        matches = {image: one for group in groups for image, one in match(group, aggregation)}
        anchor = groups[0][0].images[0]
        states: dict[int, PointState] = {}
        for order in (
            sorted(i for i in matches if i > anchor),
            sorted((i for i in matches if i < anchor), reverse=True),
        ):
            if order:
                states |= _read(matches, order, aggregation, self._smoothness)
        return states

    def _aggregation(self, points: np.ndarray) -> Aggregation:
        """Return how the costs of these points, which lie in the image, are aggregated."""
        options = self.options
        if options.support:
            return Support.around(torch.as_tensor(points).float().to(self.device), self.layout, options.support)
        return CellByCell.around(corners_of(points, self.layout, options.geometry, self.device))

    @property
    def _matcher(self) -> CostMatcher:
        return CostMatcher(self.options, self.budget_bytes)

    def _matched(self, group: Group, aggregation: Aggregation) -> Iterator[tuple[int, _ImageMatches]]:
        """Yield every image of a group of chunks as soon as its costs are complete."""
        matcher, count = self._matcher, self.options.candidates if self._smoothness else 1
        pending: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}
        for number, chunk in enumerate(group):
            tokens = self.tokens(chunk)
            later = _images_of(group[number + 1 :])
            for frame, cost, cycle_error in matcher.frame_matches(tokens.query, tokens.key, aggregation):
                if frame >= len(chunk.images):
                    break
                image = chunk.images[frame]
                if image not in pending:
                    pending[image] = (cost, cycle_error, 1)
                elif self.options.average:
                    before, way, chunks = pending[image]
                    pending[image] = (before.add_(cost), way + cycle_error, chunks + 1)
                if image not in later:
                    total, way, chunks = pending.pop(image)
                    found = matcher.candidates(total / chunks, aggregation, count)
                    yield image, _ImageMatches(found, way / chunks, _offset(tokens, frame))

    def _matched_in_clips(self, group: Group, aggregation: Aggregation) -> Iterator[tuple[int, _ImageMatches]]:
        """Yield the same for latent frames of several images: matches at their times, straight lines between."""
        matcher = self._matcher
        pending: dict[int, list[_ImageMatches]] = {}
        for number, chunk in enumerate(group):
            tokens = self.tokens(chunk)
            start = aggregation.start[:, None]
            ones = torch.ones(len(start), 1, device=start.device)
            frames = [_ImageMatches(Candidates(start, ones, ones), torch.zeros_like(ones[:, 0]), _offset(tokens, 0))]
            for frame, cost, cycle_error in matcher.frame_matches(tokens.query, tokens.key, aggregation):
                found = matcher.candidates(cost, aggregation, 1)
                frames.append(_ImageMatches(found, cycle_error, _offset(tokens, frame)))
            later = _images_of(group[number + 1 :])
            for place, image in enumerate(chunk.images[1:], start=1):
                if self.options.average or image not in pending:
                    pending.setdefault(image, []).append(_between(frames, tokens.layout.frame_centres, place))
                if image not in later:
                    yield image, _mean(pending.pop(image))

    @property
    def _smoothness(self) -> float:
        """0 if clips are encoded whole: there is no match in every image to choose."""
        return self.options.smoothness if self.options.encode == "images" else 0.0


def _images_of(chunks: Group) -> set[int]:
    """Return the images of chunks without their first ones."""
    return {image for chunk in chunks for image in chunk.images[1:]}


def _offset(tokens: ChunkTokens, frame: int) -> torch.Tensor:
    return torch.zeros(2, device=tokens.query.device) if tokens.offsets is None else tokens.offsets[frame]


def _read(
    matches: dict[int, _ImageMatches], order: list[int], aggregation: Aggregation, smoothness: float
) -> dict[int, PointState]:
    """Return points from matches, for images in the order of time away from the anchor."""
    names = ("places", "costs", "mass")
    found = Candidates(*(torch.stack([getattr(matches[image].found, name) for image in order]) for name in names))
    first = torch.zeros(found.costs.shape[:2], dtype=torch.int64, device=found.costs.device)
    chosen = smoothest_path(found, aggregation.start, smoothness) if smoothness else first
    cells = found.places.gather(2, chosen[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
    mass = found.mass.gather(2, chosen[..., None])[:, :, 0]
    cycle_error = torch.stack([matches[image].cycle_error for image in order])
    offsets = torch.stack([matches[image].offset for image in order])
    at_points = (aggregation.read(cells), aggregation.at_points(mass), aggregation.at_points(cycle_error), offsets)
    tracks, fractions, errors, moved = (values.cpu().double().numpy() for values in at_points)
    return {image: PointState(tracks[n] + moved[n], fractions[n], errors[n]) for n, image in enumerate(order)}


def _between(frames: list[_ImageMatches], centres: np.ndarray, time: float) -> _ImageMatches:
    """Interpolate linearly between the frames around a time; the ends are held."""
    after = int(np.searchsorted(centres, time))
    if after == 0 or after == len(frames):
        return frames[min(after, len(frames) - 1)]
    fraction = (time - centres[after - 1]) / (centres[after] - centres[after - 1])
    return _mean([frames[after - 1], frames[after]], [1 - fraction, fraction])


def _mean(matches: list[_ImageMatches], weights: list[float] | None = None) -> _ImageMatches:
    fractions = weights or [1 / len(matches)] * len(matches)

    def mean(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([fraction * value for fraction, value in zip(fractions, values, strict=True)]).sum(0)

    found = (mean([getattr(one.found, name) for one in matches]) for name in ("places", "costs", "mass"))
    return _ImageMatches(
        Candidates(*found), mean([one.cycle_error for one in matches]), mean([one.offset for one in matches])
    )
