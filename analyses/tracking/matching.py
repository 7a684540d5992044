"""The pipe from matching costs to matches: ``costs -> aggregate -> peaks -> positions``.

The cycle check runs the same pipe from the matches in a frame back to the image of the queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from analyses.arrays import compute_dtype
from analyses.correspondence.peaks import Candidates, find_candidates
from analyses.kernels.matching_cost import backward_costs, frame_costs, sources_within
from analyses.tracking.aggregation import Aggregation
from analyses.tracking.options import TrackingOptions
from store.layout import TokenLayout


@dataclass(frozen=True, eq=False)
class FrameMatches:
    """The rows of an aggregation in one frame.

    Attributes
    ----------
    frame : int
    cost : (row, cell of the grid) aggregated costs
    found : Candidates of those costs
    cycle_error : (row,) distance in cells between the start of a row and the position to which its best match leads
        back
    """

    frame: int
    cost: torch.Tensor
    found: Candidates
    cycle_error: torch.Tensor


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
        self, query: torch.Tensor, key: torch.Tensor, aggregation: Aggregation, *, candidates: int = 1
    ) -> Iterator[FrameMatches]:
        """Yield the matches in every frame after the first.

        Parameters
        ----------
        query, key : (head, frame, cell, channel)
        aggregation : of the points in frame 0
        candidates : number of best matches that are kept

        Notes
        -----
        The cycle error is 0 where no limit is set (``max_cycle_error`` infinite). The cost of a pair of cells is the
        same in both directions, so the costs of all cells of frame 0, if they fit the budget, are used for the backward
        matches as well, and several frames are matched at once.
        """
        heads, _, cells, channels = query.shape
        divisor = math.sqrt(heads if self.options.scale == "heads" else channels)
        way_back = not math.isinf(self.options.max_cycle_error)
        itemsize = compute_dtype(query, key).itemsize
        fit = sources_within(self.budget_bytes, cells, itemsize)
        whole = way_back and cells <= fit
        sources = torch.arange(cells, device=query.device) if whole else aggregation.sources
        together = 1
        if whole or not way_back:
            together = min(fit // len(sources), self._rows(aggregation, itemsize) // len(aggregation))
        costs = frame_costs(query, key, sources, divisor=divisor, budget_bytes=self.budget_bytes)
        while block := list(islice(costs, max(1, together))):
            frame = block[0][0]
            cost = torch.stack([one for _, one in block])
            forward = cost[:, aggregation.sources] if whole else cost

            def home(there: Aggregation, cost: torch.Tensor = cost, frame: int = frame) -> torch.Tensor:
                if whole:
                    return there.aggregate_by_frame(cost.transpose(1, 2))
                back = backward_costs(query, key, frame, there.sources, divisor=divisor, budget_bytes=self.budget_bytes)
                return there.aggregate(back[None], slice(None))

            parts = []
            for rows in _split(len(aggregation), self._rows(aggregation, itemsize)):
                total = aggregation.aggregate(forward, rows)
                found = self.candidates(total, aggregation.grid, candidates)
                errors = self._cycle_error(total, found, aggregation, rows, home if way_back else None)
                parts.append(_Rows(total, found, errors))
            yield from _by_frame(frame, parts)

    def candidates(self, cost: torch.Tensor, grid: TokenLayout, count: int) -> Candidates:
        """Return the best ``count`` matches of every row from aggregated (..., row, cell of the grid) costs."""
        return self._best(cost, grid, count, self.options.refine)

    def _cycle_error(
        self,
        total: torch.Tensor,
        found: Candidates,
        aggregation: Aggregation,
        rows: slice,
        home: Callable[[Aggregation], torch.Tensor] | None,
    ) -> torch.Tensor:
        """(frame, row) cycle errors in cells: from the starts of rows to where their best matches lead back."""
        if home is None:
            return torch.zeros(total.shape[:2], device=total.device)
        refine = aggregation.refines_cycle and self.options.refine
        best = found if refine == self.options.refine else self._best(total, aggregation.grid, 1, refine)
        there = aggregation.at_matches(best, rows)
        back = self._best(home(there), there.grid, 1, refine).places[..., 0, :]
        return aggregation.distance(there.positions(back.flatten(0, 1)).view_as(back), rows)

    def _best(self, cost: torch.Tensor, grid: TokenLayout, count: int, refine: bool) -> Candidates:
        options = self.options
        found = find_candidates(
            cost.flatten(0, -2), grid, count=count, radius=options.window, refine=refine, sharpness=options.sharpness
        )
        return Candidates(
            *(getattr(found, name).float().unflatten(0, cost.shape[:-1]) for name in ("places", "costs", "mass"))
        )

    def _rows(self, aggregation: Aggregation, itemsize: int) -> int:
        """Return the number of rows of an aggregation that fit the budget."""
        grid = aggregation.grid
        return sources_within(self.budget_bytes, grid.height * grid.width, itemsize)


def _split(rows: int, most: int) -> list[slice]:
    return [slice(first, first + most) for first in range(0, rows, most)]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows in several frames: :class:`FrameMatches` with a leading axis of frames."""

    cost: torch.Tensor
    found: Candidates
    cycle_error: torch.Tensor


def _by_frame(frame: int, parts: list[_Rows]) -> Iterator[FrameMatches]:
    """Yield the matches of one frame after another."""
    cost, error = torch.cat([part.cost for part in parts], 1), torch.cat([part.cycle_error for part in parts], 1)
    found = [torch.cat([getattr(part.found, name) for part in parts], 1) for name in ("places", "costs", "mass")]
    for number in range(len(cost)):
        one = Candidates(*(values[number] for values in found))
        yield FrameMatches(frame + number, cost[number], one, error[number])
