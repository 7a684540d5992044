"""Propagation of points from the image in which they are known to all others, by chunk; no model is run here."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from analyses.correspondence.matching import corners_of
from analyses.correspondence.peaks import Candidates, smoothest_path
from analyses.token_checks import to_host
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
    points : (point, 2) float64, (x, y) in pixels of the query's image as the model sees it
    mass : (point,) fraction of the matching cost around the match
    cycle_error : (point,) distance in cells between a point and the position to which its match leads back
    """

    points: np.ndarray
    mass: np.ndarray
    cycle_error: np.ndarray


@dataclass(frozen=True, eq=False)
class _ImageMatches:
    """The matches in one image: candidates and cycle error by row, and the displacement (2,) of its view."""

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
    budget_bytes : working memory of one matching, in addition to the costs of one group of chunks
    """

    tokens: Callable[[Chunk], ChunkTokens]
    layout: TokenLayout
    device: torch.device
    options: TrackingOptions
    budget_bytes: int

    def propagate(
        self, groups: tuple[Group, ...], points: Mapping[int, np.ndarray]
    ) -> dict[int, dict[int, PointState]]:
        """Return the points in all other images.

        Parameters
        ----------
        groups : of chunks that lead from the images in which points are known
        points : mapping from such an image to its points (point, 2); only one image if chunks are chained

        Returns
        -------
        dict of dict of PointState
            Keys are the image in which points are known, then the other image.
        """
        if self.options.anchored:
            return self._from_anchors(groups, points)
        states: dict[int, PointState] = {}
        ((anchor, here),) = points.items()
        for (chunk,) in groups:
            first = chunk.images[0]
            start = here if first == anchor else states[first].points
            states |= self._from_anchors(((chunk,),), {first: start})[first]
        return {anchor: states}

    def _from_anchors(
        self, groups: tuple[Group, ...], points: Mapping[int, np.ndarray]
    ) -> dict[int, dict[int, PointState]]:
        """Return the points, known in an anchor of every chunk, in all the other images."""
        size = [self.layout.pixel_width, self.layout.pixel_height]
        aggregations = {anchor: self._aggregation(np.clip(here, 0, size)) for anchor, here in points.items()}
        match = self._matched_in_clips if self.options.encode == "clip" else self._matched
        matches: dict[int, dict[int, _ImageMatches]] = {anchor: {} for anchor in points}
        for group in groups:
            for anchor, image, one in match(group, aggregations, matches):
                matches[anchor][image] = one
        states: dict[int, dict[int, PointState]] = {anchor: {} for anchor in points}
        for anchor, found in matches.items():
            for order in (
                sorted(i for i in found if i > anchor),
                sorted((i for i in found if i < anchor), reverse=True),
            ):
                if order:
                    states[anchor] |= _read(found, order, aggregations[anchor], self._smoothness)
        return states

    def _aggregation(self, points: np.ndarray) -> Aggregation:
        """Return the aggregation of the costs of these points, which lie in the image."""
        options = self.options
        if options.support:
            return Support.around(torch.as_tensor(points).float().to(self.device), self.layout, options.support)
        return CellByCell.around(corners_of(points, self.layout, options.geometry, self.device))

    @property
    def _matcher(self) -> CostMatcher:
        return CostMatcher(self.options, self.budget_bytes)

    def _matched(
        self, group: Group, aggregations: Mapping[int, Aggregation], known: Mapping[int, Mapping[int, _ImageMatches]]
    ) -> Iterator[tuple[int, int, _ImageMatches]]:
        """Yield the anchor, the image and the matches of every pair of a group as soon as its costs are complete.

        Pairs known from other groups are left out.
        """
        matcher, count = self._matcher, self.options.candidates if self._smoothness else 1
        pending: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor, int]] = {}
        for number, chunk in enumerate(group):
            tokens = self.tokens(chunk)
            later = _pairs_of(group[number + 1 :])
            for anchor in (anchor for anchor in chunk.anchors if anchor in aggregations):
                aggregation, places = aggregations[anchor], _from(chunk, anchor, known[anchor])
                if len(places) < 2:
                    continue
                offset = _offsets(tokens, places)
                for one in matcher.frame_matches(*_tokens_at(tokens, places), aggregation, candidates=count):
                    image = chunk.images[places[one.frame]]
                    pair, cost, way, chunks = (anchor, image), one.cost, one.cycle_error, 1
                    first = pair not in pending
                    if not first:
                        cost, way, chunks = pending.pop(pair)
                        if self.options.average:
                            cost, way, chunks = cost.add_(one.cost), way + one.cycle_error, chunks + 1
                    if pair in later:
                        pending[pair] = cost.clone() if first else cost, way, chunks
                        continue
                    found = one.found if first else matcher.candidates(cost / chunks, aggregation.grid, count)
                    yield anchor, image, _ImageMatches(found, way / chunks, offset[one.frame])

    def _matched_in_clips(
        self, group: Group, aggregations: Mapping[int, Aggregation], known: Mapping[int, Mapping[int, _ImageMatches]]
    ) -> Iterator[tuple[int, int, _ImageMatches]]:
        """Yield the same for latent frames of several images: matches at their times, interpolated linearly."""
        matcher = self._matcher
        ((anchor, aggregation),) = aggregations.items()
        pending: dict[int, list[_ImageMatches]] = {}
        for number, chunk in enumerate(group):
            tokens = self.tokens(chunk)
            offset = _offsets(tokens, list(range(tokens.query.shape[1])))
            start = aggregation.start[:, None]
            ones = torch.ones(len(start), 1, device=start.device)
            frames = [_ImageMatches(Candidates(start, ones, ones), torch.zeros_like(ones[:, 0]), offset[0])]
            for one in matcher.frame_matches(tokens.query, tokens.key, aggregation):
                frames.append(_ImageMatches(one.found, one.cycle_error, offset[one.frame]))
            later = {image for _, image in _pairs_of(group[number + 1 :])}
            for place, image in enumerate(chunk.images[1:], start=1):
                if self.options.average or image not in pending:
                    pending.setdefault(image, []).append(_between(frames, tokens.layout.frame_centres, place))
                if image not in later:
                    yield anchor, image, _mean(pending.pop(image))

    @property
    def _smoothness(self) -> float:
        """0 if clips are encoded whole, since not every image has matches to choose from."""
        return self.options.smoothness if self.options.encode == "images" else 0.0


def _pairs_of(chunks: Group) -> set[tuple[int, int]]:
    """Return the (anchor, image) pairs of chunks."""
    return {pair for chunk in chunks for pair in chunk.pairs()}


def _from(chunk: Chunk, anchor: int, known: Container[int]) -> list[int]:
    """Return the places of a chunk's images, the anchor's first, without images that are already known."""
    others = [place for place, image in enumerate(chunk.images) if image != anchor and image not in known]
    return [chunk.images.index(anchor), *others]


def _tokens_at(tokens: ChunkTokens, places: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the queries and keys of some frames, in this order."""
    if places == list(range(tokens.query.shape[1])):
        return tokens.query, tokens.key
    return tokens.query[:, places], tokens.key[:, places]


def _offsets(tokens: ChunkTokens, places: list[int]) -> torch.Tensor:
    """Return (frame, 2), the displacements of the views of some frames from that of the first of them."""
    if tokens.offsets is None:
        return torch.zeros(len(places), 2, device=tokens.query.device)
    return tokens.offsets[places] - tokens.offsets[places[0]]


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
    tracks, fractions, errors, moved = to_host(at_points)
    return {image: PointState(tracks[n] + moved[n], fractions[n], errors[n]) for n, image in enumerate(order)}


def _between(frames: list[_ImageMatches], centres: np.ndarray, time: float) -> _ImageMatches:
    """Interpolate linearly between the frames around a time; values are constant beyond the ends."""
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
