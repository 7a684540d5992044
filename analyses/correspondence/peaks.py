"""The best few matches of each source cell in one frame, and the path through them that moves least."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import max_pool2d

from analyses.arrays import cells_as_xy
from probe.backbones.indices import constants
from store.layout import TokenLayout


@dataclass(frozen=True, slots=True)
class Candidates:
    """Peaks of the matching cost of source cells, best first.

    Attributes
    ----------
    places : (..., source, candidate, 2) float, (x, y) in cells, refined where that was asked for
    costs : (..., source, candidate) float, the cost at the peak; 0 for a candidate that is not there
    mass : (..., source, candidate) float, the cost summed over the peak's window, from which confidence is computed
    """

    places: torch.Tensor
    costs: torch.Tensor
    mass: torch.Tensor


def find_candidates(
    cost: torch.Tensor, layout: TokenLayout, *, count: int, radius: int, refine: bool, sharpness: float = 1.0
) -> Candidates:
    """The highest local maxima of (source, cell) costs.

    Parameters
    ----------
    cost : (source, cell)
    layout : TokenLayout
    count : candidates kept for each source; the first is the plain best cell
    radius : cells on each side of a peak that belong to it
    refine : move each peak to the cost-weighted mean of its window, as ``refine="soft"`` does in matching
    sharpness : power to which the costs, divided by the highest of each source, are raised for that mean. Above 1,
        cells of low cost pull the mean less towards the middle of the window
    """
    grid = cost.view(len(cost), 1, layout.height, layout.width)
    peaks = cost
    if count > 1:
        highest = max_pool2d(grid, 3, stride=1, padding=1).view_as(cost)
        peaks = torch.where(cost == highest, cost, torch.zeros_like(cost))
    # The plain best cell is first even among equals, which topk orders as it likes.
    ranked = peaks.scatter(-1, cost.argmax(-1, keepdim=True), torch.inf)
    cells = ranked.topk(min(count, cost.shape[1]), dim=-1).indices
    costs = peaks.gather(-1, cells)
    best = cells_as_xy(cells, layout)
    around = cost[:, None].expand(-1, best.shape[1], -1)
    mean, mass = neighbourhood_mean(around, best, layout, radius)
    if refine and sharpness != 1:
        powered = (cost / cost.amax(-1, keepdim=True)).pow_(sharpness)
        mean, _ = neighbourhood_mean(powered[:, None].expand_as(around), best, layout, radius)
    return Candidates(mean if refine else best.to(cost.dtype), costs, mass)


def smoothest_path(found: Candidates, start: torch.Tensor, smoothness: float, *, reach: float = 4.0) -> torch.Tensor:
    """Return which candidate each source takes in each frame, so that costs are high and moves are short (Viterbi).

    The path maximises the sum of log costs minus ``smoothness`` times the squared move between one frame and the next,
    in cells, capped at ``reach`` squared: an object may be lost and found elsewhere.

    Parameters
    ----------
    found : Candidates with a leading frame axis, in the order of time away from the query
    start : (source, 2) float, the source cells themselves as (x, y)
    smoothness : 0 takes the best candidate of each frame
    reach : distance in cells beyond which the penalty of a move no longer grows

    Returns
    -------
    (frame, source) int64
    """
    gain = found.costs.log()  # minus infinity if there is no candidate, so that none is taken for a short move
    before, total = start[:, None], gain.new_zeros(len(start), 1)
    back = []
    for places, here in zip(found.places, gain, strict=True):
        move = (places[:, :, None] - before[:, None]).square().sum(-1).clamp_max(reach**2)
        total, origin = (total[:, None] - smoothness * move).max(-1)
        total = total + here
        back.append(origin)
        before = places
    chosen = [total.argmax(-1)]
    for origin in reversed(back[1:]):
        chosen.append(origin.gather(-1, chosen[-1][:, None])[:, 0])
    return torch.stack(chosen[::-1])


def neighbourhood_mean(
    cost: torch.Tensor, best: torch.Tensor, layout: TokenLayout, radius: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cells within ``radius`` of a cell in both directions.

    Parameters
    ----------
    cost : (..., cell), not negative
    best : (..., 2) integer (x, y)
    layout : TokenLayout
    radius : cells on each side

    Returns
    -------
    mean : (..., 2) the mean (x, y) of those cells, weighted by their cost
    mass : (...) the sum of their cost; cells outside the grid do not count

    Examples
    --------
    >>> cost = torch.zeros(1, 35)
    >>> cost[0, :2] = torch.tensor([0.75, 0.25])
    >>> mean, mass = neighbourhood_mean(cost, torch.tensor([[0, 0]]), TokenLayout(3, 5, 7, 80, 112, 9), 1)
    >>> mean.tolist(), mass.tolist()
    ([[0.25, 0.0]], [1.0])
    """
    reach = torch.arange(-radius, radius + 1, device=cost.device)
    offsets = torch.stack(torch.meshgrid(reach, reach, indexing="xy"), -1).reshape(-1, 2)
    around = best[..., None, :] + offsets
    size = constants((layout.width, layout.height), around.dtype, around.device)
    inside = ((around >= 0) & (around < size)).all(-1)
    around = torch.minimum(around.clamp_min(0), size - 1)
    weight = cost.gather(-1, around[..., 1] * layout.width + around[..., 0]) * inside
    mass = weight.sum(-1)
    tiny = torch.finfo(cost.dtype).tiny
    return (around * weight[..., None]).sum(-2) / mass.clamp_min(tiny)[..., None], mass
