"""How the matching costs of cells become places of points: around each cell alone, or added up over a support."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from analyses.arrays import cells_as_xy
from analyses.correspondence.bilinear import Corners
from analyses.correspondence.peaks import Candidates
from store.layout import TokenLayout

_REACH = 2
"""Cells on each side of a point that take part: two standard deviations of the default."""

_PAD = 1
"""Cells beyond the border that a displaced match may lie in."""

WayBack = Callable[[torch.Tensor], torch.Tensor]
"""(n,) cells of an image to the (n, cell) costs between each and the cells of the query's image."""

Find = Callable[[torch.Tensor, TokenLayout], Candidates]
"""The best match of (row, cell) costs on a grid."""


@dataclass(frozen=True, eq=False)
class CellByCell:
    """Every cell around a point is matched by itself; the point moves by what lies between, as DiffTrack reads it.

    Attributes
    ----------
    corners : Corners
    """

    corners: Corners

    @property
    def sources(self) -> torch.Tensor:
        """(source,) cells of the query's image whose costs are needed."""
        return self.corners.sources

    @property
    def grid(self) -> TokenLayout:
        """What the rows of :meth:`rows` are laid out on."""
        return self.corners.layout

    @property
    def start(self) -> torch.Tensor:
        """(row, 2) float, where on the grid nothing would have moved."""
        return cells_as_xy(self.sources, self.grid).float()

    def rows(self, cost: torch.Tensor, part: slice) -> torch.Tensor:
        """Some rows of what is matched, (row, cell), from (source, cell) costs: here they are the same."""
        return cost[part]

    def wander(self, cost: torch.Tensor, part: slice, back: WayBack, find: Find) -> torch.Tensor:
        """(row,) cells from each source cell to where its best match leads back."""
        cells, index = torch.unique(cost[part].argmax(-1), return_inverse=True)
        home = cells_as_xy(back(cells).argmax(-1)[index], self.grid)
        return (home.cpu() - self.start[part]).norm(dim=-1)

    def read(self, places: torch.Tensor) -> torch.Tensor:
        """(..., row, 2) places on the grid as (..., point, 2) pixels."""
        return self.corners.read(places)

    def at_points(self, values: torch.Tensor) -> torch.Tensor:
        """(..., row) values as (..., point)."""
        weights = self.corners.weights
        shares = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
        return (values.to(shares.dtype)[..., self.corners.index] * shares).sum(-1)


@dataclass(frozen=True, eq=False)
class Support:
    """The costs of the cells around a point, displaced by where each lies and added up: one match for each point.

    What surrounds a point mostly moves with it. So the cost that a point moves by a whole number of cells is the mean,
    over the cells around it, of the cost that each moves by as much, weighted by a Gaussian of its distance from the
    point. A match that one cell alone has finds no support. This is the aggregation of costs over a support window of
    stereo matching (Scharstein and Szeliski, 2002, section 4.2), on the costs of attention.

    Attributes
    ----------
    points : (point, 2) float, (x, y) in pixels
    layout : TokenLayout of the cells
    sources : (source,) int64, the distinct cells that take part, row-major
    index : (point, offset) int64, positions in ``sources``
    weights : (point, offset) float, their sum 1; 0 for cells outside the image
    spread : standard deviation of the Gaussian, in cells
    nearest : (point, 2) int64, the cell (x, y) around which the offsets lie
    """

    points: torch.Tensor
    layout: TokenLayout
    sources: torch.Tensor
    index: torch.Tensor
    weights: torch.Tensor
    spread: float
    nearest: torch.Tensor

    @classmethod
    def around(cls, points: torch.Tensor, layout: TokenLayout, spread: float) -> Support:
        """The cells around points (point, 2) in the image, by a Gaussian of ``spread`` cells.

        Examples
        --------
        >>> layout = TokenLayout(2, 5, 7, 80, 112, 2)
        >>> Support.around(torch.tensor([[0.0, 0.0]]), layout, 1.0).sources.tolist()
        [0, 1, 2, 7, 8, 9, 14, 15, 16]
        """
        points = points.float()
        size = torch.tensor([layout.width, layout.height])
        place = torch.minimum(layout.to_cells(points).clamp_min(0), size - 1)
        nearest = place.round().long()
        around = nearest[:, None] + _offsets()
        squared = (around - place[:, None]).square().sum(-1)
        weights = torch.exp((squared.amin(-1, keepdim=True) - squared) / (2 * spread**2))  # the nearest counts 1
        weights = weights * ((around >= 0) & (around < size)).all(-1)
        around = torch.minimum(around.clamp_min(0), size - 1)
        sources, index = torch.unique(around[..., 1] * layout.width + around[..., 0], return_inverse=True)
        return cls(points, layout, sources, index, weights / weights.sum(-1, keepdim=True), spread, nearest)

    @property
    def grid(self) -> TokenLayout:
        """The cells of the image and one more on every side, for points that leave it."""
        height, width = self.layout.height + 2 * _PAD, self.layout.width + 2 * _PAD
        return TokenLayout(1, height, width, height, width, 1)

    @property
    def start(self) -> torch.Tensor:
        """(point, 2) float, where on the grid nothing would have moved."""
        return (self.nearest + _PAD).float()

    def rows(self, cost: torch.Tensor, part: slice) -> torch.Tensor:
        """Some rows of what is matched, (point, cell of the grid): what it costs to put the nearest cell there."""
        grid, margin = self.grid, _PAD + _REACH
        padded = torch.nn.functional.pad(cost.view(-1, self.layout.height, self.layout.width), (margin,) * 4)
        weights, index = self.weights[part].to(cost), self.index[part].to(cost.device)
        total = cost.new_zeros(len(index), grid.height, grid.width)
        for number, (x, y) in enumerate(_offsets().tolist()):
            moved = padded[:, _REACH + y : _REACH + y + grid.height, _REACH + x : _REACH + x + grid.width]
            total.addcmul_(moved[index[:, number]], weights[:, number, None, None])
        return total.flatten(1)

    def wander(self, cost: torch.Tensor, part: slice, back: WayBack, find: Find) -> torch.Tensor:
        """(point,) cells from each point to where its best match leads back, by the same sums of costs."""
        whole = slice(None)
        here = replace(self, points=self.points[part], nearest=self.nearest[part])
        there = here.read(find(self.rows(cost, part), self.grid).places[:, 0])
        size = there.new_tensor((self.layout.pixel_width, self.layout.pixel_height))
        other = Support.around(torch.minimum(there.clamp_min(0), size), self.layout, self.spread)
        costs = back(other.sources.to(cost.device))
        home = other.read(find(other.rows(costs, whole), other.grid).places[:, 0])
        return ((home - here.points) / self._cell).norm(dim=-1)

    def read(self, places: torch.Tensor) -> torch.Tensor:
        """(..., point, 2) places on the grid as (..., point, 2) pixels."""
        return self.points + (places - self.start) * self._cell

    def at_points(self, values: torch.Tensor) -> torch.Tensor:
        """(..., point) values as they are."""
        return values

    @property
    def _cell(self) -> torch.Tensor:
        height, width = self.layout.cell_size
        return torch.tensor([width, height])


def _offsets() -> torch.Tensor:
    """(offset, 2) int64 cells (x, y) around a point."""
    reach = torch.arange(-_REACH, _REACH + 1)
    return torch.stack(torch.meshgrid(reach, reach, indexing="xy"), -1).reshape(-1, 2)
