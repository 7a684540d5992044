"""The four cells around a query point, and how a map of matches is read between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from analyses.arrays import cells_as_xy
from probe.backbones.indices import constants
from store.layout import GeometryPreset, TokenLayout


@dataclass(frozen=True, slots=True)
class Corners:
    """Corners at which query points are read in a map over the cells of frame 0.

    Attributes
    ----------
    points : (point, 2) float, (x, y) in pixels
    sources : (source,) int64, the distinct cells that are needed, row-major
    index : (point, 4) int64, the corners of each point as positions in ``sources``
    weights : (point, 4) float, bilinear weights
    """

    points: torch.Tensor
    sources: torch.Tensor
    index: torch.Tensor
    weights: torch.Tensor
    layout: TokenLayout
    preset: GeometryPreset

    @classmethod
    def around(cls, points: torch.Tensor, layout: TokenLayout, preset: GeometryPreset) -> Corners:
        """The corners of points that are known to lie in the image."""
        place = _exact_place(points, layout) if preset == "exact" else _difftrack_place(points, layout)
        size = place.new_tensor((layout.width, layout.height))
        lower = place.floor()
        upper = lower + 1
        fraction = place - lower
        xs, ys = (torch.stack([lower[:, axis], upper[:, axis]], -1) for axis in (0, 1))
        weight_x, weight_y = (torch.stack([1 - fraction[:, axis], fraction[:, axis]], -1) for axis in (0, 1))
        # Outside the grid counts as zero: the exact place never gives it weight, the published one does.
        weight_x = weight_x * ((xs >= 0) & (xs < size[0]))
        weight_y = weight_y * ((ys >= 0) & (ys < size[1]))
        columns = xs.long().clamp(0, layout.width - 1)
        rows = ys.long().clamp(0, layout.height - 1)
        cells = (rows[:, :, None] * layout.width + columns[:, None, :]).flatten(1)
        sources, index = torch.unique(cells, return_inverse=True)
        weights = (weight_y[:, :, None] * weight_x[:, None, :]).flatten(1)
        return cls(points, sources, index, weights, layout, preset)

    def read(self, matches: torch.Tensor) -> torch.Tensor:
        """The matched pixel of every point.

        Parameters
        ----------
        matches : (..., source, 2) float, the (x, y) cell that each source cell matches

        Returns
        -------
        (..., point, 2) float, (x, y) in pixels

        Notes
        -----
        exact interpolates displacements and adds them to the point, so a static clip gives no drift anywhere;
        difftrack interpolates the matched cells themselves.
        """
        dy, dx = self.layout.cell_size
        values = matches.to(self.weights.dtype)
        if self.preset == "exact":
            values = values - cells_as_xy(self.sources, self.layout).to(values.dtype)
        corners = values[..., self.index, :]
        moved = (corners * self.weights[:, :, None]).sum(-2) * constants((dx, dy), values.dtype, values.device)
        return self.points + moved if self.preset == "exact" else moved


def _exact_place(points: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
    place = layout.to_cells(points)
    last = place.new_tensor((layout.width - 1, layout.height - 1))
    return torch.minimum(place.clamp_min(0), last)


def _difftrack_place(points: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
    """Return where the released code samples: normalised by (cells - margin), then read with corners aligned."""
    size = points.new_tensor((layout.width, layout.height))
    margin = layout.width / 64
    return layout.to_cells(points, "difftrack") / (size - margin) * (size - 1)
