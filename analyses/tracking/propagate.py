"""Points followed from the image in which they are known, chunk by chunk; pure, whoever makes the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analyses.correspondence.matching import corners_of
from analyses.correspondence.peaks import Candidates, candidates_of, smoothest
from analyses.kernels.matching_cost import backward_costs, frame_costs, sources_within
from analyses.tracking.aggregation import CellByCell, Support
from analyses.tracking.chunks import Chunk
from analyses.tracking.options import TrackingOptions
from store.layout import TokenLayout

Tokens = Callable[[Chunk], tuple[torch.Tensor, torch.Tensor, TokenLayout]]
Group = tuple[Chunk, ...]
Reader = CellByCell | Support


@dataclass(frozen=True, eq=False)
class Place:
    """The points in one image.

    Attributes
    ----------
    points : (point, 2) float64, (x, y) in pixels that the model sees
    mass : (point,) share of the matching cost around the match
    wander : (point,) cells between where a point came from and where its match leads back to
    """

    points: np.ndarray
    mass: np.ndarray
    wander: np.ndarray


@dataclass(frozen=True, eq=False)
class _Seen:
    """One image as matched: candidates by row of the reader, and how far the way back misses."""

    found: Candidates
    wander: torch.Tensor


@dataclass(frozen=True, eq=False)
class Follower:
    """Follows points through the chunks of a clip.

    Parameters
    ----------
    tokens : makes query and key (head, frame, cell, channel) and their layout for the images of a chunk
    layout : the cells of a chunk; only its height, width and pixels are read
    options : TrackingOptions
    budget_bytes : working memory of one matching; the costs of one group of chunks are kept besides
    """

    tokens: Tokens
    layout: TokenLayout
    options: TrackingOptions
    budget_bytes: int

    def follow(self, groups: tuple[Group, ...], points: np.ndarray) -> dict[int, Place]:
        """The points (point, 2), known in the first image of the first chunk, in every other image by its number."""
        if self.options.anchored:
            return self._from_anchor(groups, points)
        places: dict[int, Place] = {}
        anchor = groups[0][0].images[0] if groups else 0
        for (chunk,) in groups:
            first = chunk.images[0]
            start = points if first == anchor else places[first].points
            places |= self._from_anchor(((chunk,),), start)
        return places

    def _from_anchor(self, groups: tuple[Group, ...], points: np.ndarray) -> dict[int, Place]:
        """The points, known in the first image of every chunk, in all the others."""
        inside = np.clip(points, 0, [self.layout.pixel_width, self.layout.pixel_height])
        reader = self._reader(inside)
        match = self._matched_in_clips if self.options.encode == "clip" else self._matched
        seen = {image: one for group in groups for image, one in match(group, reader)}
        anchor = groups[0][0].images[0]
        places: dict[int, Place] = {}
        for order in (sorted(i for i in seen if i > anchor), sorted((i for i in seen if i < anchor), reverse=True)):
            if order:
                places |= _read(seen, order, reader, self._stiffness)
        return places

    def _reader(self, points: np.ndarray) -> Reader:
        """How costs become places of these points, which lie in the image."""
        options = self.options
        if options.support:
            return Support.around(torch.as_tensor(points), self.layout, options.support)
        return CellByCell(corners_of(points, self.layout, options.geometry, torch.device("cpu")))

    def _matched(self, group: Group, reader: Reader) -> Iterator[tuple[int, _Seen]]:
        """Every image of a group of chunks as soon as its costs are complete."""
        pending: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}
        for number, chunk in enumerate(group):
            query, key, _ = self.tokens(chunk)
            later = _images_of(group[number + 1 :])
            for frame, cost, wander in self._costs(query, key, reader):
                if frame >= len(chunk.images):
                    break
                image = chunk.images[frame]
                if image not in pending:
                    pending[image] = (cost, wander, 1)
                elif self.options.average:
                    before, way, count = pending[image]
                    pending[image] = (before.add_(cost), way + wander, count + 1)
                if image not in later:
                    total, way, count = pending.pop(image)
                    yield image, _Seen(self._candidates(total / count, reader), way / count)

    def _matched_in_clips(self, group: Group, reader: Reader) -> Iterator[tuple[int, _Seen]]:
        """The same for latent frames of several images: matches at their times, straight lines between."""
        pending: dict[int, list[_Seen]] = {}
        for number, chunk in enumerate(group):
            query, key, layout = self.tokens(chunk)
            start = reader.start[:, None]
            ones = torch.ones(len(start), 1)
            frames = [_Seen(Candidates(start, ones, ones), torch.zeros(len(start)))]
            for _, cost, wander in self._costs(query, key, reader):
                frames.append(_Seen(self._candidates(cost, reader), wander))
            later = _images_of(group[number + 1 :])
            for place, image in enumerate(chunk.images[1:], start=1):
                if self.options.average or image not in pending:
                    pending.setdefault(image, []).append(_between(frames, layout.frame_centres, place))
                if image not in later:
                    yield image, _mean(pending.pop(image))

    def _costs(
        self, query: torch.Tensor, key: torch.Tensor, reader: Reader
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Frame, (source, cell) cost and (row,) cells by which the way back from the best match misses."""
        heads, _, _, channels = query.shape
        how: dict[str, Any] = {
            "divisor": math.sqrt(heads if self.options.scale == "heads" else channels),
            "budget_bytes": self.budget_bytes,
        }
        for frame, cost in frame_costs(query, key, reader.sources.to(query.device), **how):
            if math.isinf(self.options.return_cells):
                yield frame, cost, torch.zeros(len(reader.start))
                continue

            def back(cells: torch.Tensor, frame: int = frame) -> torch.Tensor:
                return backward_costs(query, key, frame, cells, **how)

            parts = self._parts(cost, reader)
            yield frame, cost, torch.cat([reader.wander(cost, part, back, self._best) for part in parts])

    def _parts(self, cost: torch.Tensor, reader: Reader) -> list[slice]:
        """The rows of a reader, so many at a time as the budget holds."""
        rows, grid = len(reader.start), reader.grid
        most = sources_within(self.budget_bytes, grid.height * grid.width, cost.itemsize)
        return [slice(first, first + most) for first in range(0, rows, most)]

    @property
    def _stiffness(self) -> float:
        """None where clips are encoded whole: there is no match in every image to choose."""
        return self.options.stiffness if self.options.encode == "images" else 0.0

    def _candidates(self, cost: torch.Tensor, reader: Reader) -> Candidates:
        count = self.options.candidates if self._stiffness else 1
        parts = [self._best(reader.rows(cost, part), reader.grid, count) for part in self._parts(cost, reader)]
        names = ("places", "costs", "mass")
        return Candidates(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def _best(self, rows: torch.Tensor, grid: TokenLayout, count: int = 1) -> Candidates:
        """The best matches of (row, cell) costs, on the CPU."""
        options = self.options
        found = candidates_of(
            rows, grid, count=count, radius=options.window, refine=options.refine, sharpness=options.sharpness
        )
        return Candidates(*(getattr(found, name).float().cpu() for name in ("places", "costs", "mass")))


def _images_of(chunks: Group) -> set[int]:
    """The images of chunks, their first ones left out."""
    return {image for chunk in chunks for image in chunk.images[1:]}


def _read(seen: dict[int, _Seen], order: list[int], reader: Reader, stiffness: float) -> dict[int, Place]:
    """Matches to points, for images in the order of time away from the anchor."""
    names = ("places", "costs", "mass")
    found = Candidates(*(torch.stack([getattr(seen[image].found, name) for image in order]) for name in names))
    first = torch.zeros(found.costs.shape[:2], dtype=torch.int64)
    chosen = smoothest(found, reader.start, stiffness) if stiffness else first
    cells = found.places.gather(2, chosen[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
    mass = found.mass.gather(2, chosen[..., None])[:, :, 0]
    wander = torch.stack([seen[image].wander for image in order])
    tracks, shares, ways = (
        values.double().numpy() for values in (reader.read(cells), reader.at_points(mass), reader.at_points(wander))
    )
    return {image: Place(tracks[n], shares[n], ways[n]) for n, image in enumerate(order)}


def _between(frames: list[_Seen], centres: np.ndarray, time: float) -> _Seen:
    """Linear between the frames around a time, held at the ends."""
    after = int(np.searchsorted(centres, time))
    if after == 0 or after == len(frames):
        return frames[min(after, len(frames) - 1)]
    share = (time - centres[after - 1]) / (centres[after] - centres[after - 1])
    return _mean([frames[after - 1], frames[after]], [1 - share, share])


def _mean(seen: list[_Seen], weights: list[float] | None = None) -> _Seen:
    shares = weights or [1 / len(seen)] * len(seen)

    def mean(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum(0)

    found = (mean([getattr(one.found, name) for one in seen]) for name in ("places", "costs", "mass"))
    return _Seen(Candidates(*found), mean([one.wander for one in seen]))
