"""Motion fidelity against sums written out point by point, its invariances, its extremes, and what is rejected."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analyses.metrics import motion_fidelity as fidelity
from analyses.metrics.clip_fidelity import clip_motion_fidelity
from analyses.metrics.hybrid_fidelity import discrete_frechet_distance, hybrid_motion_fidelity
from analyses.metrics.motion_fidelity import motion_fidelity
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks
from store.tracks.queries import grid_queries

SIZE = (40, 56)
ACROSS, DOWN = np.array([28, 0]), np.array([0, 20])


def walks(seed: int, images: int = 5, points: int = 7, at_rest: float = 0.0) -> np.ndarray:
    """(image, point, 2) within 56 x 40 px; a share of the steps has no length."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(scale=1.5, size=(images - 1, points, 2))
    steps[rng.random((images - 1, points)) < at_rest] = 0
    start = rng.uniform((15, 12), (40, 28), size=(1, points, 2))
    return start + np.concatenate([np.zeros_like(start), np.cumsum(steps, 0)])


def cosine(first: np.ndarray, second: np.ndarray, tolerance: float) -> float:
    """Of two steps; rest agrees with rest alone."""
    lengths = math.hypot(*first), math.hypot(*second)
    still = [length < tolerance for length in lengths]
    if any(still):
        return float(all(still))
    return (first[0] * second[0] + first[1] * second[1]) / (lengths[0] * lengths[1])


def point_cosines(a: np.ndarray, b: np.ndarray, tolerance: float) -> np.ndarray:
    """(point of a, point of b): the mean cosine of their steps."""
    table = np.zeros((a.shape[1], b.shape[1]))
    for n in range(a.shape[1]):
        for m in range(b.shape[1]):
            steps = [(a[t + 1, n] - a[t, n], b[t + 1, m] - b[t, m]) for t in range(len(a) - 1)]
            table[n, m] = sum(cosine(*pair, tolerance) for pair in steps) / len(steps)
    return table


@pytest.mark.parametrize("at_rest", [0.0, 0.4])
@pytest.mark.parametrize("tolerance", [0.1, 1.2])
def test_motion_fidelity_is_the_mean_best_cosine_both_ways(at_rest: float, tolerance: float) -> None:
    a, b = walks(1, at_rest=at_rest), walks(2, points=4, at_rest=at_rest)
    table = point_cosines(a, b, tolerance)
    expected = (np.mean([max(row) for row in table]) + np.mean([max(column) for column in table.T])) / 2
    assert motion_fidelity(a, b, tolerance=tolerance) == pytest.approx(expected, abs=1e-12)
    assert motion_fidelity(torch.from_numpy(a), b.tolist(), tolerance=tolerance) == pytest.approx(expected, abs=1e-12)


def test_preset_ditflow_looks_one_way_and_lowers_the_diagonal() -> None:
    a, b = walks(3), walks(4)
    table = point_cosines(a, b, 0.0)
    for n in range(len(table)):
        table[n, n] -= 1
    assert motion_fidelity(a, b, preset="ditflow") == pytest.approx(np.mean([max(row) for row in table]), abs=1e-12)
    assert motion_fidelity(a, b, preset="ditflow") != pytest.approx(motion_fidelity(b, a, preset="ditflow"), abs=1e-3)


def test_preset_ditflow_is_nan_where_one_step_has_no_length() -> None:
    a, b = walks(5), walks(6)
    a[2, 3] = a[1, 3]
    assert math.isnan(motion_fidelity(a, b, preset="ditflow"))
    assert math.isfinite(motion_fidelity(a, b))


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = walks(7, points=9), walks(8, points=9)
    whole = [motion_fidelity(a, b), motion_fidelity(a, b, preset="ditflow")]
    monkeypatch.setattr(fidelity, "BUDGET_BYTES", 4 * 9 * 8)
    assert [motion_fidelity(a, b), motion_fidelity(a, b, preset="ditflow")] == pytest.approx(whole, abs=1e-15)


def test_extremes_of_motion_fidelity() -> None:
    right = np.zeros((4, 3, 2))
    right[..., 0] = np.arange(4)[:, None]
    assert motion_fidelity(right, right) == 1
    assert motion_fidelity(right, -right) == -1
    assert motion_fidelity(right, right[..., ::-1]) == 0
    assert motion_fidelity(0 * right, 0 * right) == 1
    assert motion_fidelity(0 * right, right) == 0
    assert motion_fidelity(right, 0.09 * right) == 0  # steps of 0.09 px are static
    assert motion_fidelity(right, 0.09 * right, tolerance=0) == 1
    assert motion_fidelity(0 * right, right, tolerance=0) == 0


seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(seeds, seeds, st.integers(2, 6), st.integers(1, 6), st.integers(1, 6), st.floats(0, 0.7))
def test_motion_fidelity_knows_neither_places_nor_order_nor_sides(
    first: int, second: int, images: int, points: int, others: int, at_rest: float
) -> None:
    a, b = walks(first, images, points, at_rest), walks(second, images, others, at_rest)
    found = motion_fidelity(a, b)
    assert -1 - 1e-12 <= found <= 1 + 1e-12
    assert motion_fidelity(b, a) == pytest.approx(found, abs=1e-12)
    assert motion_fidelity(a, a) == pytest.approx(1, abs=1e-12)
    moved = (a + np.random.default_rng(0).uniform(-20, 20, (1, points, 2)))[:, ::-1]
    assert motion_fidelity(moved, b) == pytest.approx(found, abs=1e-6)
    turned, turned_b = (np.stack([-one[..., 1], one[..., 0]], -1) for one in (a, b))
    assert motion_fidelity(turned, turned_b) == pytest.approx(found, abs=1e-12)


def frechet(a: np.ndarray, b: np.ndarray, i: int, j: int) -> float:
    """Of the first i + 1 and j + 1 positions of two curves, straight from the definition, remembering nothing."""
    apart = math.dist(a[i], b[j])
    if i == j == 0:
        return apart
    ways = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
    return max(apart, min(frechet(a, b, *way) for way in ways if min(way) >= 0))


@pytest.mark.parametrize(("images", "others"), [(5, 5), (1, 4), (6, 3), (1, 1)])
def test_frechet_distance_is_the_recursive_one(images: int, others: int) -> None:
    a, b = walks(11, images), walks(12, others)
    expected = [frechet(a[:, n], b[:, n], images - 1, others - 1) for n in range(a.shape[1])]
    np.testing.assert_allclose(discrete_frechet_distance(a, b), expected, rtol=0, atol=1e-12)


def test_frechet_distance_of_known_curves() -> None:
    line = np.stack([np.arange(5.0), np.zeros(5)], -1)[:, None]
    detour = line.copy()
    detour[2, 0, 1] = 7
    found = [discrete_frechet_distance(line, other)[0] for other in (line + DOWN, detour, line[::-1], line[[0, 4]])]
    assert found == [20, 7, 4, 2]
    assert discrete_frechet_distance(line[:, :0], line[:, :0]).shape == (0,)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(seeds, st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))
def test_frechet_distance_is_a_metric_and_no_less_than_the_ends(seed: int, p: int, q: int, r: int) -> None:
    a, b, c = (walks(seed % 1000 + place, images, 3) for place, images in enumerate((p, q, r)))
    found = discrete_frechet_distance(a, b)
    np.testing.assert_array_equal(discrete_frechet_distance(a, a), 0)
    np.testing.assert_allclose(discrete_frechet_distance(b, a), found)
    ends = np.maximum(np.linalg.norm(a[0] - b[0], axis=-1), np.linalg.norm(a[-1] - b[-1], axis=-1))
    farthest = np.linalg.norm(a[:, None] - b[None], axis=-1).max((0, 1))
    assert (found >= ends - 1e-12).all()
    assert (found <= farthest + 1e-12).all()
    assert (found <= discrete_frechet_distance(a, c) + discrete_frechet_distance(c, b) + 1e-12).all()
    np.testing.assert_allclose(discrete_frechet_distance(np.repeat(a, 2, axis=0), b), found)  # waiting costs nothing


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_hybrid_is_the_published_equation(alpha: float) -> None:
    a, b = walks(21, at_rest=0.3), walks(22, at_rest=0.3)
    height, width = SIZE
    terms = []
    for n in range(a.shape[1]):
        first, second = (np.stack([one[:, n, 0] / width, one[:, n, 1] / height], -1) for one in (a, b))
        apart = frechet(first, second, len(a) - 1, len(b) - 1)
        cosines = [cosine(first[t + 1] - first[t], second[t + 1] - second[t], 1e-9) for t in range(len(a) - 1)]
        terms.append(alpha * math.exp(-apart) + (1 - alpha) * np.mean(cosines))
    assert hybrid_motion_fidelity(a, b, size=SIZE, alpha=alpha) == pytest.approx(np.mean(terms), abs=1e-12)


def test_preset_det_compares_all_points_by_mean_distance_and_counts_the_start_as_a_step() -> None:
    a, b = walks(23), walks(24, points=4)
    height, width = SIZE
    shape, cosines = np.zeros((7, 4)), np.zeros((7, 4))
    for n in range(7):
        for m in range(4):
            first, second = (
                [np.array([x / width, y / height]) for x, y in one] for one in (a[:, n].tolist(), b[:, m].tolist())
            )
            shape[n, m] = 1 / (1 + np.mean([math.dist(p, q) for p in first for q in second]))
            steps = [(first[0], second[0])] + [
                (first[t + 1] - first[t], second[t + 1] - second[t]) for t in range(len(first) - 1)
            ]
            cosines[n, m] = np.mean([cosine(*pair, 0.0) for pair in steps])
    expected = 0.3 * np.mean([max(row) for row in shape]) + 0.7 * np.mean([max(row) for row in cosines])
    found = hybrid_motion_fidelity(a, b, size=SIZE, alpha=0.3, preset="det")
    assert found == pytest.approx(expected, abs=1e-12)
    a[1, 0] = a[0, 0]
    assert math.isnan(hybrid_motion_fidelity(a, b, size=SIZE, preset="det"))


def test_extremes_of_hybrid_motion_fidelity() -> None:
    right = np.full((4, 3, 2), 10.0)
    right[..., 0] += np.arange(4)[:, None]
    back, still = right[::-1], np.full_like(right, 10.0)
    assert hybrid_motion_fidelity(right, right, size=SIZE) == 1
    assert hybrid_motion_fidelity(still, still, size=SIZE) == 1
    assert hybrid_motion_fidelity(right, back, size=SIZE, alpha=0) == -1
    assert hybrid_motion_fidelity(right, still, size=SIZE, alpha=0) == 0
    assert hybrid_motion_fidelity(right, right + DOWN, size=SIZE, alpha=1) == pytest.approx(math.exp(-0.5))
    assert hybrid_motion_fidelity(right, right + ACROSS, size=SIZE, alpha=1) == pytest.approx(math.exp(-0.5))


def refused(*arguments: object, **options: object) -> str:
    with pytest.raises(InvalidInputError) as error:
        motion_fidelity(*arguments, **options)  # type: ignore[arg-type]
    return str(error.value)


def test_motion_fidelity_refuses_what_cannot_be_compared() -> None:
    a, b = walks(31), walks(32)
    assert refused(a, b[:4]) == (
        "a has 5 images and b has 4. Motion is compared image by image: cut or resample one of the clips, and track it "
        "again."
    )
    assert refused(a[..., 0], b) == "a needs the shape (image, point, 2), (x, y) in pixels; got (5, 7)."
    assert refused(a, b[:, :0]) == "b has no points. Track at least one."
    assert refused(a[:1], b[:1]) == "a has tracks of 1 image(s); motion needs at least 2."
    b[3, 2, 1] = b[4, 5] = np.nan
    assert refused(a, b) == (
        "b is not finite in 2 places, first at image 3, point 2. Leave out the points that are not known in every "
        "image."
    )
    assert refused(a, a[:, :6], preset="ditflow") == (
        "a has 7 points and b has 6. Preset 'ditflow' subtracts an identity matrix, which needs equal numbers."
    )
    assert refused(a, a, preset="smm") == "unknown preset 'smm'. Known: 'exact', 'ditflow'."
    assert refused(a, a, tolerance=-1) == "tolerance must be a number of pixels, zero or more; got -1."


def test_hybrid_refuses_unpaired_points_and_wrong_sizes() -> None:
    a, b = walks(33), walks(34)
    cases: list[tuple[tuple[object, object], dict[str, object], str]] = [
        (
            (a, b[:, :6]),
            {"size": SIZE},
            "a has 7 points and b has 6. Point n of a is paired with point n of b, which needs equal numbers.",
        ),
        ((a, b), {"size": 40}, "size must be 2 values; got 40."),
        ((a, b), {"size": (40, 0)}, "size must be (height, width), two positive numbers of pixels; got (40, 0)."),
        (
            (a + DOWN[::-1], b),
            {"size": (64, 40)},
            "most positions lie outside the size of 64 x 40 px (height x width). Is it (width, height)? Tracks are (x, "
            "y) in pixels, size is (height, width) of the clips that they were found in.",
        ),
        (
            (a, b),
            {"size": (1, 1)},
            "most positions lie outside the size of 1 x 1 px (height x width). Tracks are (x, y) in pixels, size is "
            "(height, width) of the clips that they were found in.",
        ),
        ((a, b), {"size": SIZE, "alpha": 1.5}, "alpha must lie between 0 and 1; got 1.5."),
        ((a, b), {"size": SIZE, "preset": "x"}, "unknown preset 'x'. Known: 'exact', 'det'."),
        (
            (a, b),
            {"size": SIZE, "tolerance": math.nan},
            "tolerance must be a number; got nan.",
        ),
    ]
    for tracks, options, message in cases:
        with pytest.raises(InvalidInputError) as error:
            hybrid_motion_fidelity(*tracks, **options)  # type: ignore[arg-type]
        assert str(error.value) == message


def test_frechet_distance_refuses_other_shapes() -> None:
    a = walks(35)
    for curves, message in (
        ((a, a[:, :2]), "a has 7 curves and b has 2. Curve n of a is compared with curve n of b."),
        ((a[:0], a), "a needs the shape (image, point, 2) and at least one image; got (0, 7, 2)."),
        ((a, a * np.inf), "b holds values that are not finite."),
    ):
        with pytest.raises(InvalidInputError) as error:
            discrete_frechet_distance(*curves)
        assert str(error.value) == message


def drifting(images: np.ndarray, queries: np.ndarray) -> PointTracks:
    """A tracker that sees each point move by the brightness of its pixel in image 0: right where it is bright."""
    tracks = PointTracks.still(queries, len(images)).tracks.copy()
    x, y = queries[:, 1:].astype(int).T
    bright = images[0, y, x, 0] > 127
    tracks[..., 0] += np.arange(len(images))[:, None] * np.where(bright, 1.0, -1.0)
    visible = np.ones(tracks.shape[:2], bool)
    return PointTracks(queries, tracks, visible, visible.astype(float))


def test_clips_are_compared_from_a_grid_of_points_within_a_mask() -> None:
    dark, half = np.zeros((3, 40, 56, 3), np.uint8), np.zeros((3, 40, 56, 3), np.uint8)
    half[:, :, 28:] = 255
    assert clip_motion_fidelity(dark, Clip(dark, fps=8), drifting, grid=4) == 1
    # half of the points of one clip go right and find none that does: ((1 - 1) / 2 + 1) / 2
    assert clip_motion_fidelity(half, dark, drifting, grid=4) == 0.5
    left = np.zeros((40, 56), bool)
    left[:, :28] = True
    assert clip_motion_fidelity(half, dark, drifting, grid=4, mask=left) == 1
    assert clip_motion_fidelity(half, dark, drifting, grid=4, mask=~left) == -1
    assert grid_queries(3, 30, 60, image=2)[:4].tolist() == [[2, 10, 5], [2, 30, 5], [2, 50, 5], [2, 10, 15]]


def test_clips_that_cannot_be_compared_are_refused() -> None:
    clip = np.zeros((3, 40, 56, 3), np.uint8)
    cases: list[tuple[np.ndarray, dict[str, object], str]] = [
        (
            clip[:2],
            {},
            "generated and reference need the same shape (image, y, x, 3); got (2, 40, 56, 3) and (3, 40, 56, 3). Cut "
            "or resize one of them (Clip.window, Clip.resized).",
        ),
        (clip, {"grid": 0}, "grid must be at least 1; got 0."),
        (clip, {"mask": np.ones((56, 40), bool)}, "mask must be bool (y, x) = (40, 56); got bool of shape (56, 40)."),
        (
            clip,
            {"mask": np.zeros((40, 56), bool)},
            "no point of the grid lies in the mask. Take a finer grid or a larger mask.",
        ),
    ]
    for generated, options, message in cases:
        with pytest.raises(InvalidInputError) as error:
            clip_motion_fidelity(generated, clip, drifting, **options)  # type: ignore[arg-type]
        assert str(error.value) == message
