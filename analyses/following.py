"""Points followed from the image in which they are known, chunk by chunk; pure, whoever makes the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analyses.candidates import Candidates, candidates_of, smoothest
from analyses.chunks import Chunk
from analyses.corners import Corners, cells_as_xy
from analyses.frame_costs import frame_costs, return_cells
from analyses.matching import corners_of
from analyses.tracking_options import TrackingOptions
from store.layout import TokenLayout

Tokens = Callable[[Chunk], tuple[torch.Tensor, torch.Tensor, TokenLayout]]
Group = tuple[Chunk, ...]


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
    """One image as matched from the source cells."""

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
        corners = corners_of(inside, self.layout, self.options.geometry, torch.device("cpu"))
        match = self._matched_in_clips if self.options.encode == "clip" else self._matched
        seen = {image: one for group in groups for image, one in match(group, corners)}
        anchor = groups[0][0].images[0]
        start = cells_as_xy(corners.sources, self.layout).float()
        places: dict[int, Place] = {}
        for order in (sorted(i for i in seen if i > anchor), sorted((i for i in seen if i < anchor), reverse=True)):
            if order:
                places |= _read(seen, order, corners, start, self.options.stiffness)
        return places

    def _matched(self, group: Group, corners: Corners) -> Iterator[tuple[int, _Seen]]:
        """Every image of a group of chunks as soon as its costs are complete."""
        pending: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}
        for number, chunk in enumerate(group):
            query, key, _ = self.tokens(chunk)
            later = _images_of(group[number + 1 :])
            for frame, cost, wander in self._costs(query, key, corners):
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
                    yield image, _Seen(self._candidates(total / count), (way / count).cpu())

    def _matched_in_clips(self, group: Group, corners: Corners) -> Iterator[tuple[int, _Seen]]:
        """The same for latent frames of several images: matches at their times, straight lines between."""
        pending: dict[int, list[_Seen]] = {}
        for number, chunk in enumerate(group):
            query, key, layout = self.tokens(chunk)
            start = cells_as_xy(corners.sources, layout).float()[:, None]
            ones = torch.ones(len(start), 1)
            frames = [_Seen(Candidates(start, ones, ones), torch.zeros(len(start)))]
            for _, cost, wander in self._costs(query, key, corners):
                frames.append(_Seen(self._candidates(cost), wander.float().cpu()))
            later = _images_of(group[number + 1 :])
            for place, image in enumerate(chunk.images[1:], start=1):
                if self.options.average or image not in pending:
                    pending.setdefault(image, []).append(_between(frames, layout.frame_centres, place))
                if image not in later:
                    yield image, _mean(pending.pop(image))

    def _costs(
        self, query: torch.Tensor, key: torch.Tensor, corners: Corners
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Frame, (source, cell) cost and (source,) cells from each source to where its best match leads back."""
        published = self.options.geometry == "difftrack-tracking"
        how: dict[str, Any] = {
            "divisor": math.sqrt(query.shape[0] if published else query.shape[-1]),
            "budget_bytes": self.budget_bytes,
        }
        sources = corners.sources.to(query.device)
        for frame, cost in frame_costs(query, key, sources, **how):
            if math.isinf(self.options.return_cells):
                yield frame, cost, cost.new_zeros(len(cost))
                continue
            back = return_cells(query, key, frame, cost.argmax(-1), **how)
            away = cells_as_xy(back, corners.layout) - cells_as_xy(sources, corners.layout)
            yield frame, cost, away.to(cost.dtype).norm(dim=-1)

    def _candidates(self, cost: torch.Tensor) -> Candidates:
        options = self.options
        count = options.candidates if options.stiffness else 1
        found = candidates_of(cost, self.layout, count=count, radius=options.window, refine=options.refine)
        return Candidates(*(getattr(found, name).float().cpu() for name in ("places", "costs", "mass")))


def _images_of(chunks: Group) -> set[int]:
    """The images of chunks, their first ones left out."""
    return {image for chunk in chunks for image in chunk.images[1:]}


def _read(
    seen: dict[int, _Seen], order: list[int], corners: Corners, start: torch.Tensor, stiffness: float
) -> dict[int, Place]:
    """Source cells to points, for images in the order of time away from the anchor."""
    names = ("places", "costs", "mass")
    found = Candidates(*(torch.stack([getattr(seen[image].found, name) for image in order]) for name in names))
    first = torch.zeros(found.costs.shape[:2], dtype=torch.int64)
    chosen = smoothest(found, start, stiffness) if stiffness else first
    cells = found.places.gather(2, chosen[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
    mass = found.mass.gather(2, chosen[..., None])[:, :, 0]
    wander = torch.stack([seen[image].wander for image in order])
    weights = corners.weights / corners.weights.sum(-1, keepdim=True).clamp_min(1e-12)

    def at_points(values: torch.Tensor) -> np.ndarray:
        result: np.ndarray = (values[:, corners.index] * weights).sum(-1).double().numpy()
        return result

    tracks = corners.read(cells).double().numpy()
    shares, ways = at_points(mass.to(weights.dtype)), at_points(wander.to(weights.dtype))
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
