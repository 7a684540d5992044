"""The pipe from matching costs to matches: ``costs -> aggregate -> peaks -> positions``.

The cycle check is the same pipe, run from the matches in a frame back to the image of the queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from analyses.correspondence.peaks import Candidates, find_candidates
from analyses.kernels.matching_cost import backward_costs, frame_costs, sources_within
from analyses.tracking.aggregation import Aggregation
from analyses.tracking.options import TrackingOptions


@dataclass(frozen=True)
class CostMatcher:
    """Match the rows of an aggregation in the frames of a chunk, on the device of the tokens.

    Parameters
    ----------
    options : TrackingOptions
    budget_bytes : working memory of one matching
    """

    options: TrackingOptions
    budget_bytes: int

    def frame_matches(
        self, query: torch.Tensor, key: torch.Tensor, aggregation: Aggregation
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Yield the frame, the (source, cell) costs and the (row,) cycle errors of every frame after the first.

        Parameters
        ----------
        query, key : (head, frame, cell, channel)
        aggregation : of the points in frame 0

        Notes
        -----
        The cycle error is the distance, in cells, from where a row starts to where its best match leads back, 0 where
        no limit is set (``max_cycle_error`` infinite).
        """
        heads, _, _, channels = query.shape
        divisor = math.sqrt(heads if self.options.scale == "heads" else channels)
        for frame, cost in frame_costs(
            query, key, aggregation.sources, divisor=divisor, budget_bytes=self.budget_bytes
        ):
            if math.isinf(self.options.max_cycle_error):
                yield frame, cost, torch.zeros(len(aggregation), device=cost.device)
                continue
            errors = []
            for rows in self._parts(cost, aggregation):
                found = self._best(cost, aggregation, rows, 1, aggregation.refines_cycle)
                there = aggregation.at_matches(found, rows)
                back = backward_costs(query, key, frame, there.sources, divisor=divisor, budget_bytes=self.budget_bytes)
                home = self._best(back, there, slice(None), 1, aggregation.refines_cycle)
                errors.append(aggregation.distance(there.positions(home.places[:, 0]), rows))
            yield frame, cost, torch.cat(errors)

    def candidates(self, cost: torch.Tensor, aggregation: Aggregation, count: int) -> Candidates:
        """Return the best ``count`` matches of every row from (source, cell) costs."""
        parts = [
            self._best(cost, aggregation, rows, count, self.options.refine) for rows in self._parts(cost, aggregation)
        ]
        names = ("places", "costs", "mass")
        return Candidates(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def _best(self, cost: torch.Tensor, aggregation: Aggregation, rows: slice, count: int, refine: bool) -> Candidates:
        options = self.options
        found = find_candidates(
            aggregation.aggregate(cost, rows),
            aggregation.grid,
            count=count,
            radius=options.window,
            refine=refine and options.refine,
            sharpness=options.sharpness,
        )
        return Candidates(*(getattr(found, name).float() for name in ("places", "costs", "mass")))

    def _parts(self, cost: torch.Tensor, aggregation: Aggregation) -> list[slice]:
        """Rows of an aggregation, as many at a time as the budget holds."""
        grid = aggregation.grid
        most = sources_within(self.budget_bytes, grid.height * grid.width, cost.itemsize)
        return [slice(first, first + most) for first in range(0, len(aggregation), most)]
