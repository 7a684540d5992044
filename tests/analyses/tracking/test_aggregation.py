"""Added-up costs against loops over the cells around a point, and against planted motion."""

import math

import numpy as np
import pytest
import torch

from analyses.correspondence.bilinear import Corners
from analyses.correspondence.peaks import find_candidates
from analyses.tracking.aggregation import CellByCell, Support
from store.layout import TokenLayout

HEIGHT, WIDTH, CELL_Y, CELL_X = 5, 7, 12, 20
CELLS = HEIGHT * WIDTH
LAYOUT = TokenLayout(2, HEIGHT, WIDTH, HEIGHT * CELL_Y, WIDTH * CELL_X, 2)
WHOLE = slice(None)
POINTS = torch.tensor([[3.0, 2.0], [69.0, 31.0], [70.0, 30.0], [138.5, 57.0], [44.0, 0.0], [0.0, 60.0]])


def best(rows, grid, refine=False, count=1):
    return find_candidates(rows, grid, count=count, radius=1, refine=refine)


def by_definition(cost, point, spread):
    """(row, column) of a grid with one more cell on each side: the weighted mean of displaced costs, by loops."""
    x = min(max(point[0] / CELL_X - 0.5, 0), WIDTH - 1)
    y = min(max(point[1] / CELL_Y - 0.5, 0), HEIGHT - 1)
    column, row = round(x), round(y)
    total, weights = np.zeros((HEIGHT + 2, WIDTH + 2)), 0.0
    for j in range(max(0, row - 2), min(HEIGHT, row + 3)):
        for i in range(max(0, column - 2), min(WIDTH, column + 3)):
            weight = math.exp(-((i - x) ** 2 + (j - y) ** 2) / (2 * spread**2))
            weights += weight
            for to_y in range(-1, HEIGHT + 1):
                for to_x in range(-1, WIDTH + 1):
                    target = to_y + j - row, to_x + i - column
                    if 0 <= target[0] < HEIGHT and 0 <= target[1] < WIDTH:
                        total[to_y + 1, to_x + 1] += weight * cost[j * WIDTH + i, target[0] * WIDTH + target[1]]
    return total / weights


@pytest.mark.parametrize("spread", [0.6, 1.0])
def test_rows_are_displaced_costs_added_up(spread):
    cost = np.random.default_rng(0).random((CELLS, CELLS))
    support = Support.around(POINTS, LAYOUT, spread)
    rows = support.aggregate(torch.from_numpy(cost)[support.sources], WHOLE).numpy()
    for row, point in zip(rows, POINTS.tolist(), strict=True):
        np.testing.assert_allclose(row.reshape(HEIGHT + 2, WIDTH + 2), by_definition(cost, point, spread), atol=1e-6)
    part = support.aggregate(torch.from_numpy(cost)[support.sources], slice(2, 4)).numpy()
    np.testing.assert_array_equal(part, rows[2:4])


def test_only_cells_around_the_points_are_needed():
    points = torch.tensor([[0.0, 0.0], [30.0, 6.0]])
    support = Support.around(points, LAYOUT, 1.0)
    assert support.sources.tolist() == [0, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 17]
    np.testing.assert_allclose(support.weights.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(support.start, [[1, 1], [2, 1]])


def shifted(dx, dy):
    """The cost of a picture that moved by whole cells: 1 where a cell went, as far as it stayed inside."""
    cost = torch.zeros(CELLS, CELLS)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            if 0 <= x + dx < WIDTH and 0 <= y + dy < HEIGHT:
                cost[y * WIDTH + x, (y + dy) * WIDTH + x + dx] = 1
    return cost


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, -1), (-1, 1)])
def test_planted_motion_moves_every_point_by_as_much(dx, dy):
    support = Support.around(POINTS[1:3], LAYOUT, 1.0)
    found = best(support.aggregate(shifted(dx, dy)[support.sources], WHOLE), support.grid)
    moved = support.read(found.places[:, 0]) - POINTS[1:3]
    np.testing.assert_allclose(moved, np.tile([dx * CELL_X, dy * CELL_Y], (2, 1)), atol=1e-4)


def test_one_cell_that_is_misled_is_outvoted():
    cost = shifted(1, 0)
    wrong = 2 * WIDTH + 3
    cost[wrong] = 0
    cost[wrong, 0] = 1.0
    point = torch.tensor([[70.0, 30.0]])  # the centre of that cell
    support = Support.around(point, LAYOUT, 1.0)
    found = best(support.aggregate(cost[support.sources], WHOLE), support.grid)
    np.testing.assert_allclose(support.read(found.places[:, 0]), [[90.0, 30.0]], atol=1e-4)


def cycle_errors(support, cost, back, rows):
    """The pipe forward and from the matches back, on costs (cell, cell) of both directions."""
    there = support.at_matches(best(support.aggregate(cost[support.sources], rows), support.grid), rows)
    home = best(there.aggregate(back[there.sources], WHOLE), there.grid)
    return support.distance(there.positions(home.places[:, 0]), rows)


def test_the_way_back_of_a_shift_misses_by_nothing_and_of_a_trap_by_the_way():
    support, cost = Support.around(POINTS[1:3], LAYOUT, 1.0), shifted(2, -1)
    np.testing.assert_allclose(cycle_errors(support, cost, cost.T, WHOLE), 0, atol=1e-6)
    trap = shifted(-1, 0)  # whatever is there came from two cells to the right of where it should
    away = cycle_errors(support, cost, trap.T, WHOLE)
    np.testing.assert_allclose(away, math.hypot(3, 1), atol=1e-5)
    np.testing.assert_allclose(cycle_errors(support, cost, trap.T, slice(1, 2)), away[1:])


def test_cells_are_matched_back_one_by_one():
    corners = Corners.around(POINTS[1:3], LAYOUT, "exact")
    cells, cost = CellByCell.around(corners), shifted(2, -1)
    found = best(cells.aggregate(cost[cells.sources], WHOLE), cells.grid)
    there = cells.at_matches(found, WHOLE)
    home = best(there.aggregate(cost.T[there.sources], WHOLE), there.grid)
    errors = cells.distance(there.positions(home.places[:, 0]), WHOLE)
    np.testing.assert_allclose(errors, 0, atol=1e-6)
    np.testing.assert_allclose(cells.at_points(errors), [0, 0], atol=1e-6)
