"""Costs against whole softmaxes, peaks against their definition, paths against all paths there are."""

import itertools
import math

import numpy as np
import pytest
import torch

import analyses.kernels.matching_cost as frame_costs_module
from analyses.correspondence.peaks import Candidates, find_candidates, smoothest_path
from analyses.kernels.matching_cost import backward_costs, frame_costs
from store.errors import InvalidInputError
from store.layout import TokenLayout

HEADS, FRAMES, HEIGHT, WIDTH, CHANNELS = 3, 4, 5, 7, 4
CELLS = HEIGHT * WIDTH
LAYOUT = TokenLayout(FRAMES, HEIGHT, WIDTH, 60, 140, FRAMES)
TINY, SMALL, LARGE = 2_240, 30_000, 2**28


def tokens(seed):
    shape = (2, HEADS, FRAMES, CELLS, CHANNELS)
    return np.random.default_rng(seed).normal(size=shape) * 1.5


def dense_costs(query, key, divisor):
    """(frame - 1, cell, cell) in numpy, all pairs at once."""

    def softmax(values):
        exped = np.exp(values - values.max(-1, keepdims=True))
        return exped / exped.sum(-1, keepdims=True)

    forward = softmax(np.einsum("aid,afjd->afij", query[:, 0], key[:, 1:]) / divisor)
    backward = softmax(np.einsum("afjd,aid->afji", query[:, 1:], key[:, 0]) / divisor)
    return ((forward + backward.swapaxes(-1, -2)) / 2).mean(0)


@pytest.mark.parametrize("budget", [SMALL, TINY, LARGE])
@pytest.mark.parametrize("divisor", [math.sqrt(HEADS), math.sqrt(CHANNELS)])
def test_frame_costs_are_the_mean_of_two_softmaxes(budget, divisor):
    query, key = tokens(0)
    sources = torch.tensor([0, 3, 17, 34])
    expected = dense_costs(query, key, divisor)
    found = dict(frame_costs(*map(torch.from_numpy, (query, key)), sources, divisor=divisor, budget_bytes=budget))
    assert list(found) == [1, 2, 3]
    for frame, cost in found.items():
        np.testing.assert_allclose(cost.numpy(), expected[frame - 1][sources], atol=1e-12)


def test_costs_stay_as_they_were_when_the_next_frame_comes():
    query, key = map(torch.from_numpy, tokens(1))
    how = {"divisor": 2.0, "budget_bytes": SMALL}
    kept = list(frame_costs(query, key, torch.arange(CELLS), **how))
    copied = [(frame, cost.clone()) for frame, cost in frame_costs(query, key, torch.arange(CELLS), **how)]
    for (_, cost), (_, copy) in zip(kept, copied, strict=True):
        assert torch.equal(cost, copy)


@pytest.mark.parametrize("budget", [SMALL, TINY, LARGE])
def test_the_way_back_has_the_same_costs(budget):
    query, key = tokens(2)
    expected = dense_costs(query, key, 2.0)
    cells = torch.tensor([5, 34, 0, 20])
    for frame in range(1, FRAMES):
        found = backward_costs(*map(torch.from_numpy, (query, key)), frame, cells, divisor=2.0, budget_bytes=budget)
        np.testing.assert_allclose(found.numpy(), expected[frame - 1].T[cells], atol=1e-12)


def test_blocks_stay_within_the_budget(monkeypatch):
    """Every block is asked for with no more sources than half of the budget holds four arrays of."""
    asked = []
    whole = frame_costs_module.cost_blocks

    def watched(query, key, sources, **how):
        asked.append(len(sources))
        return whole(query, key, sources, **how)

    monkeypatch.setattr(frame_costs_module, "cost_blocks", watched)
    query, key = map(torch.from_numpy, tokens(3))
    list(frame_costs(query, key, torch.arange(CELLS), divisor=2.0, budget_bytes=SMALL))
    assert max(asked) * 8 * CELLS * 8 <= SMALL
    assert sum(asked) == CELLS * (FRAMES - 1)


def test_a_budget_below_one_source_is_refused():
    query, key = map(torch.from_numpy, tokens(3))
    with pytest.raises(InvalidInputError, match=r"budget_bytes=2239 is too small to match one cell against 35"):
        list(frame_costs(query, key, torch.arange(CELLS), divisor=2.0, budget_bytes=8 * CELLS * 8 - 1))


def neighbours(cell, radius):
    y, x = divmod(cell, WIDTH)
    rows = range(max(0, y - radius), min(HEIGHT, y + radius + 1))
    return [row * WIDTH + column for row in rows for column in range(max(0, x - radius), min(WIDTH, x + radius + 1))]


def random_costs(seed=0, sources=40):
    return torch.from_numpy(np.random.default_rng(seed).random((sources, CELLS)))


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("radius", [1, 2])
def test_candidates_are_the_highest_local_maxima(radius, refine):
    cost = random_costs()
    found = find_candidates(cost, LAYOUT, count=4, radius=radius, refine=refine)
    for source, row in enumerate(cost.numpy()):
        peaks = [cell for cell in range(CELLS) if row[cell] == max(row[near] for near in neighbours(cell, 1))]
        peaks = sorted(peaks, key=lambda cell: -row[cell])[:4]
        np.testing.assert_allclose(found.costs[source, : len(peaks)], row[peaks])
        np.testing.assert_array_equal(found.costs[source, len(peaks) :], 0)
        for place, mass, peak in zip(found.places[source], found.mass[source], peaks, strict=False):
            near = neighbours(peak, radius)
            weight = row[near]
            assert mass.item() == pytest.approx(weight.sum())
            wanted = [peak % WIDTH, peak // WIDTH]
            if refine:
                columns, rows = [cell % WIDTH for cell in near], [cell // WIDTH for cell in near]
                wanted = [np.average(columns, weights=weight), np.average(rows, weights=weight)]
            np.testing.assert_allclose(place, wanted, atol=1e-12)


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 40.0])
def test_sharpness_raises_the_weights_alone(sharpness):
    cost = random_costs(4) * 1e-30
    plain, sharp = (
        find_candidates(cost, LAYOUT, count=3, radius=1, refine=True, sharpness=power) for power in (1.0, sharpness)
    )
    assert torch.equal(sharp.costs, plain.costs)
    assert torch.equal(sharp.mass, plain.mass)
    for source, row in enumerate(cost.numpy() * 1e30):
        near = neighbours(row.argmax(), 1)
        weight = row[near] ** sharpness
        columns, rows = [cell % WIDTH for cell in near], [cell // WIDTH for cell in near]
        wanted = [np.average(columns, weights=weight), np.average(rows, weights=weight)]
        np.testing.assert_allclose(sharp.places[source, 0], wanted, atol=1e-9)


def test_sharpness_finds_a_planted_peak_between_cells():
    """A Gaussian on a floor: the plain mean falls short of its place, the sharpened one less."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    true = np.array([3.2, 2.3])
    cost = np.exp(-((x - true[0]) ** 2 + (y - true[1]) ** 2) / (2 * 0.6**2)).reshape(1, -1) + 0.2
    misses = []
    for power in (1.0, 1.5):
        found = find_candidates(torch.from_numpy(cost), LAYOUT, count=1, radius=1, refine=True, sharpness=power)
        misses.append(np.linalg.norm(found.places[0, 0].numpy() - true))
    assert misses[1] < 0.75 * misses[0]


@pytest.mark.parametrize("count", [1, 5])
def test_the_first_is_the_plain_best(count):
    cost = random_costs(1)
    found = find_candidates(cost, LAYOUT, count=count, radius=1, refine=False)
    best = cost.numpy().argmax(-1)
    np.testing.assert_array_equal(found.places[:, 0].numpy(), np.stack([best % WIDTH, best // WIDTH], -1))
    np.testing.assert_array_equal(found.costs[:, 0].numpy(), cost.numpy().max(-1))
    assert found.places.shape == (40, count, 2)


def test_of_equal_costs_the_first_cell_is_first():
    cost = torch.zeros(1, CELLS)
    cost[0, [9, 25]] = 0.5
    for count in (1, 3):
        found = find_candidates(cost, LAYOUT, count=count, radius=1, refine=False)
        assert found.places[0, 0].tolist() == [9 % WIDTH, 9 // WIDTH]


def test_equal_peaks_are_each_a_candidate():
    cost = torch.full((3, CELLS), 1e-3, dtype=torch.float64)
    for source, (one, other) in enumerate(((9, 25), (0, 34), (30, 4))):
        cost[source, [one, other]] = 0.5
        found = find_candidates(cost, LAYOUT, count=2, radius=1, refine=False)
        cells = {int(x + WIDTH * y) for x, y in found.places[source].tolist()}
        assert cells == {one, other}


def test_more_candidates_than_cells_are_as_many_as_cells():
    found = find_candidates(random_costs(), LAYOUT, count=100, radius=1, refine=True)
    assert found.places.shape == (40, CELLS, 2)
    assert torch.isfinite(found.places).all()


def score(path, places, costs, start, smoothness, reach):
    total, before = 0.0, start
    for frame, choice in enumerate(path):
        move = ((places[frame, choice] - before) ** 2).sum()
        total += math.log(costs[frame, choice]) - smoothness * min(move, reach**2)
        before = places[frame, choice]
    return total


@pytest.mark.parametrize("smoothness", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("reach", [1.5, 4.0])
@pytest.mark.parametrize(("frames", "count"), [(1, 3), (4, 3), (3, 1), (3, 5)])
def test_smoothest_is_the_best_of_all_paths(frames, count, smoothness, reach):
    rng = np.random.default_rng(frames * 10 + count)
    sources = 6
    places, costs = rng.uniform(0, 6, (frames, sources, count, 2)), rng.uniform(0.01, 1, (frames, sources, count))
    start = rng.uniform(0, 6, (sources, 2))
    found = Candidates(*map(torch.from_numpy, (places, costs, costs)))
    chosen = smoothest_path(found, torch.from_numpy(start), smoothness, reach=reach)
    assert chosen.shape == (frames, sources)
    for source in range(sources):
        mine = places[:, source], costs[:, source], start[source], smoothness, reach
        best = max(itertools.product(range(count), repeat=frames), key=lambda path, mine=mine: score(path, *mine))
        assert tuple(chosen[:, source].tolist()) == best


@pytest.mark.parametrize("smoothness", [1.0, 1e3])
def test_an_absent_candidate_is_not_taken_however_short_the_move(smoothness):
    places = torch.tensor([[[[6.0, 4.0], [0.0, 0.0]]], [[[6.0, 4.0], [0.0, 0.0]]]])
    costs = torch.tensor([[[1e-4, 0.0]], [[1e-4, 0.0]]])
    assert smoothest_path(Candidates(places, costs, costs), torch.zeros(1, 2), smoothness).tolist() == [[0], [0]]
