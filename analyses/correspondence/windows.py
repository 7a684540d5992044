"""The cells around the best one, and what they weigh."""

from __future__ import annotations

import torch

from store.layout import TokenLayout


def window_around(
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
    mass : (...) the sum of their cost; cells outside the grid count nothing

    Examples
    --------
    >>> cost = torch.zeros(1, 35)
    >>> cost[0, :2] = torch.tensor([0.75, 0.25])
    >>> mean, mass = window_around(cost, torch.tensor([[0, 0]]), TokenLayout(3, 5, 7, 80, 112, 9), 1)
    >>> mean.tolist(), mass.tolist()
    ([[0.25, 0.0]], [1.0])
    """
    reach = torch.arange(-radius, radius + 1, device=cost.device)
    offsets = torch.stack(torch.meshgrid(reach, reach, indexing="xy"), -1).reshape(-1, 2)
    around = best[..., None, :] + offsets
    size = around.new_tensor((layout.width, layout.height))
    inside = ((around >= 0) & (around < size)).all(-1)
    around = torch.minimum(around.clamp_min(0), size - 1)
    weight = cost.gather(-1, around[..., 1] * layout.width + around[..., 0]) * inside
    mass = weight.sum(-1)
    tiny = torch.finfo(cost.dtype).tiny
    return (around * weight[..., None]).sum(-2) / mass.clamp_min(tiny)[..., None], mass
