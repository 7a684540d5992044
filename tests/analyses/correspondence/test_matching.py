"""Matching against full softmaxes over all pairs, planted truth and chance."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from analyses.correspondence.matching import match_features, match_points, match_points_by_head
from analyses.correspondence.resampling import to_image_rate
from analyses.kernels.matching_cost import _Blocking, sources_within
from analyses.metrics.accuracy import matching_accuracy
from store.errors import InvalidInputError
from store.layout import TokenLayout

FRAMES, HEIGHT, WIDTH, HEADS, CHANNELS = 3, 5, 7, 2, 4
# Cells of 12 x 20 pixels: an axis swapped anywhere moves something.
LAYOUT = TokenLayout(FRAMES, HEIGHT, WIDTH, 60, 140, 9)


def random_tokens(seed: int = 0, sharp: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (HEADS, FRAMES, HEIGHT, WIDTH, CHANNELS)
    return tuple(sharp * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def random_points(count: int = 11, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    inside = torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([140.0, 60.0])
    corners = torch.tensor([[0.0, 0.0], [140.0, 60.0], [140.0, 0.0], [0.5, 59.5]], dtype=torch.float64)
    return torch.cat([inside, corners])


def full_costs(query: torch.Tensor, key: torch.Tensor, divisor: float) -> torch.Tensor:
    """(head, frame - 1, source, target) by two full softmaxes over every pair."""
    q, k = query.flatten(2, 3), key.flatten(2, 3)
    forward = torch.einsum("aid,afjd->afij", q[:, 0], k[:, 1:]) / divisor
    backward = torch.einsum("afjd,aid->afji", q[:, 1:], k[:, 0]) / divisor
    return (forward.softmax(-1) + backward.softmax(-1).transpose(-1, -2)) / 2


def match_map(cost: torch.Tensor) -> torch.Tensor:
    """(..., y, x, 2) best target (x, y) of every source cell."""
    best = cost.argmax(-1)
    return torch.stack([best % WIDTH, best // WIDTH], -1).unflatten(-2, (HEIGHT, WIDTH)).double()


def exact_reading(matches: torch.Tensor, point: tuple[float, float]) -> list[float]:
    """Displacements of the four surrounding cells, one point at a time."""
    cx, cy = min(max(point[0] / 20 - 0.5, 0), WIDTH - 1), min(max(point[1] / 12 - 0.5, 0), HEIGHT - 1)
    x0, y0 = min(int(cx), WIDTH - 2), min(int(cy), HEIGHT - 2)
    moved = np.zeros(2)
    for y, wy in ((y0, 1 - (cy - y0)), (y0 + 1, cy - y0)):
        for x, wx in ((x0, 1 - (cx - x0)), (x0 + 1, cx - x0)):
            moved += wy * wx * (matches[y, x].numpy() - [x, y])
    return [point[0] + 20 * moved[0], point[1] + 12 * moved[1]]


def published_reading(matches: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The released sampling of one frame's map: normalise with a margin, grid_sample with aligned corners."""
    place = points / torch.tensor([20.0, 12.0], dtype=torch.float64)
    size = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    margin = 140 / (64 * 20)
    grid = (2 * place / (size - margin) - 1)[None, :, None]
    sampled = F.grid_sample(matches.permute(2, 0, 1)[None], grid, align_corners=True)
    return sampled[0, :, :, 0].T * torch.tensor([20.0, 12.0], dtype=torch.float64)


def expected_tracks(cost: torch.Tensor, points: torch.Tensor, preset: str) -> torch.Tensor:
    frames = [points]
    for matches in match_map(cost):
        if preset == "exact":
            frames.append(torch.tensor([exact_reading(matches, tuple(p.tolist())) for p in points]).double())
        else:
            frames.append(published_reading(matches, points))
    return torch.stack(frames)


DIVISORS = {"exact": math.sqrt(CHANNELS), "difftrack": math.sqrt(CHANNELS), "difftrack-tracking": math.sqrt(HEADS)}


@pytest.mark.parametrize("preset", DIVISORS)
@pytest.mark.parametrize("seed", range(4))
def test_match_points_is_the_full_softmax(preset: str, seed: int) -> None:
    (query, key), points = random_tokens(seed), random_points()
    cost = full_costs(query, key, DIVISORS[preset]).mean(0)
    found = match_points(query, key, points, LAYOUT, preset=preset)
    torch.testing.assert_close(found, expected_tracks(cost, points, preset))
    assert torch.equal(found[0], points)


def test_the_divisor_of_the_tracking_preset_changes_matches() -> None:
    cells = torch.arange(HEIGHT * WIDTH)
    points = LAYOUT.to_pixels(torch.stack([cells % WIDTH, cells // WIDTH], -1).double())
    differ = 0
    for seed in range(4):
        query, key = random_tokens(seed)
        tracks = [
            match_points(query, key, points, LAYOUT, preset=preset) for preset in ("difftrack", "difftrack-tracking")
        ]
        differ += int((tracks[0] != tracks[1]).sum())
    assert differ > 0


def test_backward_attention_takes_part() -> None:
    query, key = random_tokens(3)
    points = random_points()
    forward = full_costs(query, key, 2.0)
    one_way = torch.einsum("aid,afjd->afij", query.flatten(2, 3)[:, 0], key.flatten(2, 3)[:, 1:]) / 2
    assert not torch.equal(match_map(forward.mean(0)), match_map(one_way.softmax(-1).mean(0)))
    found = match_points(query, key, points, LAYOUT)
    torch.testing.assert_close(found, expected_tracks(forward.mean(0), points, "exact"))


@pytest.mark.parametrize("preset", ["exact", "difftrack"])
def test_by_head_is_each_head_alone(preset: str) -> None:
    (query, key), points = random_tokens(5), random_points()
    found = match_points_by_head(query, key, points, LAYOUT, preset=preset)
    assert found.shape == (HEADS, FRAMES, len(points), 2)
    for head in range(HEADS):
        alone = match_points(query[head : head + 1], key[head : head + 1], points, LAYOUT, preset=preset)
        assert torch.equal(found[head], alone)


@pytest.mark.parametrize("budget", [8 * 35 * 8, 5_000, 20_000, 10**6])
def test_the_budget_changes_no_match(budget: int) -> None:
    (query, key), points = random_tokens(6), random_points()
    expected = match_points(query, key, points, LAYOUT)
    assert torch.equal(match_points(query, key, points, LAYOUT, budget_bytes=budget), expected)
    heads = match_points_by_head(query, key, points, LAYOUT, budget_bytes=budget)
    assert torch.equal(heads, match_points_by_head(query, key, points, LAYOUT))


@pytest.mark.parametrize("budget", [100_000, 10**6, 2 * 10**7, 10**9])
@pytest.mark.parametrize("cells", [35, 64, 1350])
@pytest.mark.parametrize("on_cpu", [True, False])
def test_blocks_fit_the_budget(budget: int, cells: int, on_cpu: bool) -> None:
    most = sources_within(budget, cells, 4)
    for sources in {1, min(most, cells) // 2 + 1, min(most, cells)}:
        size = _Blocking.within(budget, (30, 12), sources, cells, torch.float32, on_cpu)
        rows = 2 * size.heads * size.frames * sources * cells
        product = size.heads * size.frames * cells * size.rows
        assert 4 * (rows + product + 2 * size.frames * sources * cells) <= budget
        assert size.heads <= 30
        assert size.frames <= 12
        assert size.rows <= cells


def test_a_budget_too_small_for_one_cell_is_refused() -> None:
    query, key = random_tokens()
    with pytest.raises(InvalidInputError) as error:
        match_points(query, key, random_points(), LAYOUT, budget_bytes=100)
    assert str(error.value) == (
        "budget_bytes=100 is too small to match one cell against 35. Allow at least 2240 bytes."
    )


@pytest.mark.parametrize("window", [1, 2])
def test_soft_refinement_is_the_cost_weighted_mean(window: int) -> None:
    query, key = random_tokens(7, sharp=0.7)
    cells = torch.arange(HEIGHT * WIDTH)
    points = LAYOUT.to_pixels(torch.stack([cells % WIDTH, cells // WIDTH], -1).double())
    cost = full_costs(query, key, 2.0).mean(0)
    expected = torch.empty(FRAMES - 1, len(cells), 2, dtype=torch.float64)
    for frame in range(FRAMES - 1):
        for cell in cells.tolist():
            plane = cost[frame, cell].reshape(HEIGHT, WIDTH)
            py, px = divmod(int(plane.argmax()), WIDTH)
            near = [
                (x, y, plane[y, x].item())
                for y in range(max(0, py - window), min(HEIGHT, py + window + 1))
                for x in range(max(0, px - window), min(WIDTH, px + window + 1))
            ]
            total = sum(weight for *_, weight in near)
            expected[frame, cell, 0] = 20 * (sum(x * weight for x, _, weight in near) / total + 0.5)
            expected[frame, cell, 1] = 12 * (sum(y * weight for _, y, weight in near) / total + 0.5)
    found = match_points(query, key, points, LAYOUT, refine="soft", window=window)
    torch.testing.assert_close(found[1:], expected)


def planted(shift: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cells that carry distinct codes and move by (dx, dy) cells a frame, around the edges."""
    generator = torch.Generator().manual_seed(2)
    codes = F.normalize(torch.randn(HEADS, HEIGHT, WIDTH, 48, generator=generator), dim=-1) * 12
    frames = [torch.roll(codes, (f * shift[1], f * shift[0]), dims=(1, 2)) for f in range(FRAMES)]
    tokens = torch.stack(frames, 1)
    return tokens, tokens.clone()


def test_planted_motion_is_found() -> None:
    query, key = planted((2, 1))
    cells = torch.stack(torch.meshgrid(torch.arange(3), torch.arange(3), indexing="xy"), -1).reshape(-1, 2)
    points = LAYOUT.to_pixels(cells.double())
    step = torch.tensor([40.0, 12.0])
    truth = torch.stack([points + frame * step for frame in range(FRAMES)])
    found = match_points(query, key, points, LAYOUT)
    everyone = torch.ones(9, len(points), dtype=torch.bool)
    images = to_image_rate(found, LAYOUT, 9)
    assert matching_accuracy(images, to_image_rate(truth, LAYOUT, 9), everyone, threshold=0.01) == 100.0
    features = query.permute(1, 2, 3, 0, 4).flatten(-2)
    torch.testing.assert_close(match_features(features, points, LAYOUT), truth)


def test_random_tokens_match_by_chance() -> None:
    # The later cells are drawn without regard to the first, so each match hits its cell with probability 1/35.
    cells = torch.arange(HEIGHT * WIDTH)
    points = LAYOUT.to_pixels(torch.stack([cells % WIDTH, cells // WIDTH], -1).double())
    hits = tries = 0
    for seed in range(60):
        query, key = random_tokens(100 + seed)
        found = match_points(query, key, points, LAYOUT)
        hits += int((found[1:] == points).all(-1).sum())
        tries += 2 * len(points)
    expected, spread = tries / 35, math.sqrt(tries / 35 * (34 / 35))
    assert abs(hits - expected) < 3 * spread


def test_static_clip_does_not_drift() -> None:
    codes = 9 * torch.eye(35).reshape(1, 1, HEIGHT, WIDTH, 35).expand(HEADS, FRAMES, HEIGHT, WIDTH, 35)
    points = random_points(50)
    tracks = match_points(codes, codes, points, LAYOUT)
    assert torch.equal(to_image_rate(tracks, LAYOUT, 9), points.expand(9, -1, -1))
    features = codes[0]
    assert torch.equal(match_features(features, points, LAYOUT), points.expand(FRAMES, -1, -1))
    published = match_points(codes, codes, points, LAYOUT, preset="difftrack")
    assert (published[1] - points).abs().max() > 1


@pytest.mark.parametrize("preset", ["exact", "difftrack"])
def test_match_features_is_the_full_product(preset: str) -> None:
    generator = torch.Generator().manual_seed(9)
    features = torch.randn(FRAMES, HEIGHT, WIDTH, 6, generator=generator, dtype=torch.float64)
    flat, points = features.flatten(1, 2), random_points()
    cost = torch.einsum("ic,fjc->fij", flat[0], flat[1:]).softmax(-1)
    found = match_features(features, points, LAYOUT, preset=preset)
    torch.testing.assert_close(found, expected_tracks(cost, points, preset))
    small = match_features(features, points, LAYOUT, preset=preset, budget_bytes=8 * 35 * 8 * 4)
    assert torch.equal(small, found)


def test_numpy_in_numpy_out() -> None:
    (query, key), points = random_tokens(4), random_points()
    half = query.half().numpy()
    half.flags.writeable = False
    found = match_points(half, key.half().numpy(), points.numpy(), LAYOUT)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, match_points(query.half(), key.half(), points, LAYOUT).numpy())
    assert isinstance(match_features(query[0].numpy(), points.numpy(), LAYOUT), np.ndarray)


def broken(query: torch.Tensor, value: float) -> torch.Tensor:
    query = query.clone()
    query[0, 0, 0, 0, 0] = value
    return query


def test_bad_input_is_refused() -> None:
    query, key = random_tokens()
    points = random_points()
    cases = [
        (
            lambda: match_points(query[0], key, points, LAYOUT),
            "query needs the shape (head, frame, y, x, channel) with (frame, y, x) = (3, 5, 7); got (3, 5, 7, 4).",
        ),
        (
            lambda: match_points(query.transpose(2, 3), key, points, LAYOUT),
            "query needs the shape (head, frame, y, x, channel) with (frame, y, x) = (3, 5, 7); got (2, 3, 7, 5, 4).",
        ),
        (
            lambda: match_points(query, key[:1], points, LAYOUT),
            "query and key need the same shape; got (2, 3, 35, 4) and (1, 3, 35, 4) as (head, frame, cell, channel).",
        ),
        (
            lambda: match_points(query, broken(key, math.nan), points, LAYOUT),
            "key holds NaN or infinite values. Nothing can be matched with them.",
        ),
        (
            lambda: match_points(broken(query, math.inf), key, points, LAYOUT),
            "query holds NaN or infinite values. Nothing can be matched with them.",
        ),
        (
            lambda: match_points(query[:0], key[:0], points, LAYOUT),
            "query is empty: shape (0, 3, 5, 7, 4).",
        ),
        (
            lambda: match_points(query, key, torch.tensor([[3.0, 4.0], [150.0, 4.0]]), LAYOUT),
            "point 1 at (x, y) = (150, 4) is outside the image of 60 x 140 px (height x width).",
        ),
        (
            lambda: match_points(query, key, torch.tensor([[math.nan, 4.0]]), LAYOUT),
            "point 0 is not finite: (x, y) = (nan, 4.0).",
        ),
        (
            lambda: match_points(query, key, points[0], LAYOUT),
            "points need the shape (point, 2), as (x, y) in pixels; got (2,).",
        ),
        (
            lambda: match_points(query, key, points, LAYOUT, preset="dift"),
            "unknown preset 'dift'. Known: 'exact', 'difftrack', 'difftrack-tracking'.",
        ),
        (
            lambda: match_points(query, key, points, LAYOUT, refine="hard"),
            "unknown refine 'hard'. Known: 'soft', None.",
        ),
        (
            lambda: match_points(query, key, points, LAYOUT, refine="soft", window=0),
            "window must be at least 1; got 0.",
        ),
        (
            lambda: match_features(query, points, LAYOUT),
            "features need the shape (frame, y, x, channel) with (frame, y, x) = (3, 5, 7); got (2, 3, 5, 7, 4).",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InvalidInputError) as error:
            call()
        assert str(error.value) == message
