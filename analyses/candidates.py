"""The best few matches of each source cell in one frame, and the way through them that moves least."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import max_pool2d

from analyses.corners import cells_as_xy
from store.layout import TokenLayout


@dataclass(frozen=True, slots=True)
class Candidates:
    """Peaks of the matching cost of source cells, best first.

    Attributes
    ----------
    places : (..., source, candidate, 2) float, (x, y) in cells, refined where that was asked for
    costs : (..., source, candidate) float, the cost at the peak; 0 for a candidate that is not there
    mass : (..., source, candidate) float, the cost summed over the peak's window, which is what confidence is made of
    """

    places: torch.Tensor
    costs: torch.Tensor
    mass: torch.Tensor


def candidates_of(cost: torch.Tensor, layout: TokenLayout, *, count: int, radius: int, refine: bool) -> Candidates:
    """The highest local maxima of (source, cell) costs.

    Parameters
    ----------
    cost : (source, cell)
    layout : TokenLayout
    count : candidates kept for each source; the first is the plain best cell
    radius : cells on each side of a peak that belong to it
    refine : put each at the cost-weighted mean of its window, which is what ``refine="soft"`` of matching does
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
    around, weight = _window(cost, best, layout, radius)
    mass = weight.sum(-1)
    places = best.to(cost.dtype)
    if refine:
        places = (around * weight[..., None]).sum(-2) / mass.clamp_min(torch.finfo(cost.dtype).tiny)[..., None]
    return Candidates(places, costs, mass)


def _window(
    cost: torch.Tensor, best: torch.Tensor, layout: TokenLayout, radius: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cells (source, candidate, window, 2) around the best ones, and their costs, 0 outside the grid."""
    reach = torch.arange(-radius, radius + 1, device=cost.device)
    offsets = torch.stack(torch.meshgrid(reach, reach, indexing="xy"), -1).reshape(-1, 2)
    around = best[..., None, :] + offsets
    size = around.new_tensor((layout.width, layout.height))
    inside = ((around >= 0) & (around < size)).all(-1)
    around = torch.minimum(around.clamp_min(0), size - 1)
    cells = around[..., 1] * layout.width + around[..., 0]
    weight = cost.gather(-1, cells.flatten(1)).view(cells.shape) * inside
    return around, weight


def smoothest(found: Candidates, start: torch.Tensor, stiffness: float, *, reach: float = 4.0) -> torch.Tensor:
    """Which candidate each source takes in each frame, so that costs are high and moves are short (Viterbi).

    The path maximises the sum of log costs minus ``stiffness`` times the squared move between one frame and the next,
    in cells, of which no more than ``reach`` squared counts: an object may be lost and found elsewhere.

    Parameters
    ----------
    found : Candidates with a leading frame axis, in the order of time away from the query
    start : (source, 2) float, the source cells themselves as (x, y)
    stiffness : 0 takes the best candidate of each frame
    reach : cells beyond which a move costs no more

    Returns
    -------
    (frame, source) int64
    """
    gain = found.costs.log()  # minus infinity where there is no candidate, so that none is taken for a short move
    before, total = start[:, None], gain.new_zeros(len(start), 1)
    back = []
    for places, here in zip(found.places, gain, strict=True):
        move = (places[:, :, None] - before[:, None]).square().sum(-1).clamp_max(reach**2)
        total, origin = (total[:, None] - stiffness * move).max(-1)
        total = total + here
        back.append(origin)
        before = places
    chosen = [total.argmax(-1)]
    for origin in reversed(back[1:]):
        chosen.append(origin.gather(-1, chosen[-1][:, None])[:, 0])
    return torch.stack(chosen[::-1])
