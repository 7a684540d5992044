"""Aggregation of matching costs into one row for each match: cell by cell, or over the cells around each point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from analyses.arrays import cells_as_xy
from analyses.correspondence.bilinear import Corners
from analyses.correspondence.peaks import Candidates
from probe.backbones.indices import constants
from store.layout import TokenLayout

_REACH = 2
"""Number of cells on each side of a point that are used: two standard deviations of the default."""

_PAD = 1
"""Number of cells beyond the border in which a displaced match may lie."""


@dataclass(frozen=True, eq=False)
class CellByCell:
    """Match every cell around a point separately; the point moves by their bilinear mean, as in DiffTrack.

    Attributes
    ----------
    corners : Corners, the cells around the points and their weights
    cells : (row,) int64, the row-major cell that each row matches
    sources : (source,) int64, the distinct cells among them, whose costs are needed
    index : (row,) int64, positions in ``sources``
    """

    corners: Corners
    cells: torch.Tensor
    sources: torch.Tensor
    index: torch.Tensor

    refines_cycle = False

    @classmethod
    def around(cls, corners: Corners) -> CellByCell:
        """Aggregate the costs of the cells around points."""
        cells = corners.sources
        return cls(corners, cells, cells, torch.arange(len(cells), device=cells.device))

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def grid(self) -> TokenLayout:
        """Layout of the cells of :meth:`aggregate`."""
        return self.corners.layout

    @property
    def start(self) -> torch.Tensor:
        """(row, 2) float, the position on the grid of a point that has not moved."""
        return cells_as_xy(self.cells, self.grid).float()

    def aggregate(self, cost: torch.Tensor, rows: slice) -> torch.Tensor:
        """Return (..., row, cell of the grid) costs of some rows from (..., source, cell) costs."""
        return cost[..., self.index[rows].to(cost.device), :]

    def aggregate_by_frame(self, cost: torch.Tensor) -> torch.Tensor:
        """Return the same as (frame, row, cell of the grid) from (frame, cell, cell), the rows those of each frame."""
        frames, cells, _ = cost.shape
        return cost.flatten(0, 1)[_in_frames(self.sources[self.index], frames, cells)].unflatten(0, (frames, -1))

    def at_matches(self, found: Candidates, rows: slice) -> CellByCell:
        """Return the aggregation at the best matches of some rows (by frame), to match them back."""
        x, y = found.places[..., 0, :].reshape(-1, 2).round().long().T
        cells = y * self.grid.width + x
        sources, index = torch.unique(cells, return_inverse=True)
        return CellByCell(self.corners, cells, sources, index)

    def positions(self, places: torch.Tensor) -> torch.Tensor:
        """Return (row, 2) places on the grid as positions that :meth:`distance` compares."""
        return places

    def distance(self, positions: torch.Tensor, rows: slice) -> torch.Tensor:
        """Return (row,) distances in cells between positions and where some rows start."""
        return (positions - self.start[rows]).norm(dim=-1)

    def read(self, places: torch.Tensor) -> torch.Tensor:
        """Return (..., row, 2) places on the grid as (..., point, 2) pixels."""
        return self.corners.read(places)

    def at_points(self, values: torch.Tensor) -> torch.Tensor:
        """Return (..., row) values as (..., point)."""
        weights = self.corners.weights
        fractions = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
        return (values.to(fractions.dtype)[..., self.corners.index] * fractions).sum(-1)


@dataclass(frozen=True, eq=False)
class Support:
    """Add up the costs of the cells around a point, each displaced by its offset: one match for each point.

    The surroundings of a point mostly move with it. So the cost of moving a point by a whole number of cells is the
    mean, over the cells around it, of their cost of the same move, weighted by a Gaussian of their distance from the
    point. A match of a single cell finds no support. This is the aggregation of costs over a support window of stereo
    matching (Scharstein and Szeliski, 2002, section 4.2), on the costs of attention.

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

    refines_cycle = True

    @classmethod
    def around(cls, points: torch.Tensor, layout: TokenLayout, spread: float) -> Support:
        """Aggregate over the cells around points (point, 2) in the image, by a Gaussian of ``spread`` cells.

        Examples
        --------
        >>> layout = TokenLayout(2, 5, 7, 80, 112, 2)
        >>> Support.around(torch.tensor([[0.0, 0.0]]), layout, 1.0).sources.tolist()
        [0, 1, 2, 7, 8, 9, 14, 15, 16]
        """
        points = points.float()
        size = constants((layout.width, layout.height), torch.int64, points.device)
        place = torch.minimum(layout.to_cells(points).clamp_min(0), size - 1)
        nearest = place.round().long()
        around = nearest[:, None] + _offsets(points.device)
        squared = (around - place[:, None]).square().sum(-1)
        weights = torch.exp((squared.amin(-1, keepdim=True) - squared) / (2 * spread**2))  # the nearest has weight 1
        weights = weights * ((around >= 0) & (around < size)).all(-1)
        around = torch.minimum(around.clamp_min(0), size - 1)
        sources, index = torch.unique(around[..., 1] * layout.width + around[..., 0], return_inverse=True)
        return cls(points, layout, sources, index, weights / weights.sum(-1, keepdim=True), spread, nearest)

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def grid(self) -> TokenLayout:
        """Layout of the cells of the image and one more on every side, for points that leave it."""
        height, width = self.layout.height + 2 * _PAD, self.layout.width + 2 * _PAD
        return TokenLayout(1, height, width, height, width, 1)

    @property
    def start(self) -> torch.Tensor:
        """(point, 2) float, the position on the grid of a point that has not moved."""
        return (self.nearest + _PAD).float()

    def aggregate(self, cost: torch.Tensor, rows: slice) -> torch.Tensor:
        """Return (..., point, cell of the grid), the cost of moving the nearest cell there.

        Parameters
        ----------
        cost : (..., source, cell)
        rows : of the points
        """
        frames = math.prod(cost.shape[:-2])
        index, weights = (values[rows].to(cost.device).repeat(frames, 1) for values in (self.index, self.weights))
        total = self._sum(cost.reshape(-1, cost.shape[-1]), _in_frames(index, frames, cost.shape[-2]), weights)
        return total.view(*cost.shape[:-2], -1, total.shape[-1])

    def aggregate_by_frame(self, cost: torch.Tensor) -> torch.Tensor:
        """Return the same as (frame, point, cell of the grid), where the points are ordered by frame.

        Parameters
        ----------
        cost : (frame, cell, cell)
        """
        frames, cells, _ = cost.shape
        index = _in_frames(self.sources[self.index], frames, cells)
        return self._sum(cost.flatten(0, 1), index, self.weights).unflatten(0, (frames, -1))

    def _sum(self, cost: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """(row, cell of the grid) from costs (map, cell), maps (row, offset) and their weights."""
        grid, margin = self.grid, _PAD + _REACH
        padded = torch.nn.functional.pad(cost.reshape(-1, self.layout.height, self.layout.width), (margin,) * 4)
        weights = weights.to(cost)
        total = cost.new_zeros(len(index), grid.height, grid.width)
        for number, (x, y) in enumerate(_offsets().tolist()):
            moved = padded[:, _REACH + y : _REACH + y + grid.height, _REACH + x : _REACH + x + grid.width]
            total.addcmul_(moved[index[:, number]], weights[:, number, None, None])
        return total.flatten(1)

    def at_matches(self, found: Candidates, rows: slice) -> Support:
        """Return the aggregation around the best matches of some points (by frame), to match them back."""
        there = (self.points[rows] + (found.places[..., 0, :] - self.start[rows]) * self._cell).reshape(-1, 2)
        size = constants((self.layout.pixel_width, self.layout.pixel_height), there.dtype, there.device)
        return Support.around(torch.minimum(there.clamp_min(0), size), self.layout, self.spread)

    def positions(self, places: torch.Tensor) -> torch.Tensor:
        """Return (point, 2) places on the grid as positions that :meth:`distance` compares: pixels."""
        return self.read(places)

    def distance(self, positions: torch.Tensor, rows: slice) -> torch.Tensor:
        """Return (point,) distances in cells between positions and where some points start."""
        return ((positions - self.points[rows]) / self._cell).norm(dim=-1)

    def read(self, places: torch.Tensor) -> torch.Tensor:
        """Return (..., point, 2) places on the grid as (..., point, 2) pixels."""
        return self.points + (places - self.start) * self._cell

    def at_points(self, values: torch.Tensor) -> torch.Tensor:
        """Return (..., point) values as they are."""
        return values

    @property
    def _cell(self) -> torch.Tensor:
        height, width = self.layout.cell_size
        return constants((width, height), torch.float32, self.points.device)


Aggregation = CellByCell | Support


def _in_frames(index: torch.Tensor, frames: int, each: int) -> torch.Tensor:
    """Positions (row, ...) by frame, of which each has ``each``, as positions in all frames."""
    first = torch.arange(frames, device=index.device).mul_(each).repeat_interleave(len(index) // max(frames, 1))
    return index + first.view(-1, *[1] * (index.ndim - 1))


def _offsets(device: torch.device | str = "cpu") -> torch.Tensor:
    """(offset, 2) int64 cells (x, y) around a point."""
    reach = torch.arange(-_REACH, _REACH + 1, device=device)
    return torch.stack(torch.meshgrid(reach, reach, indexing="xy"), -1).reshape(-1, 2)
