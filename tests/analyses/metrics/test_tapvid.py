"""TAP-Vid's metrics against their definition counted pair by pair, and its queries against a search by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analyses.metrics.tapvid import mean_tapvid_metrics, tapvid_metrics, tapvid_queries
from store.errors import InvalidInputError

THRESHOLDS = (1, 2, 4, 8, 16)


def counted_by_hand(queries, tracks, visibility, predicted, predicted_visibility, mode):
    """The metrics from their definition, one pair after the other."""
    right = pairs = seen = 0
    within, hits, false_alarms = (dict.fromkeys(THRESHOLDS, 0) for _ in range(3))
    for point in range(tracks.shape[1]):
        start = round(float(queries[point][0]))
        for image in range(len(tracks)):
            if image == start or (mode == "first" and image < start):
                continue
            pairs += 1
            truly, claimed = bool(visibility[image, point]), bool(predicted_visibility[image, point])
            right += truly == claimed
            seen += truly
            dx, dy = (float(value) for value in predicted[image, point] - tracks[image, point])
            for threshold in THRESHOLDS:
                near = dx * dx + dy * dy < threshold * threshold
                within[threshold] += truly and near
                hits[threshold] += truly and near and claimed
                false_alarms[threshold] += claimed and not (truly and near)

    def over(part: float, whole: float) -> float:
        return part / whole if whole else math.nan

    found = {"occlusion_accuracy": over(right, pairs)}
    for threshold in THRESHOLDS:
        found[f"pts_within_{threshold}"] = over(within[threshold], seen)
        found[f"jaccard_{threshold}"] = over(hits[threshold], seen + false_alarms[threshold])
    found["average_jaccard"] = sum(found[f"jaccard_{threshold}"] for threshold in THRESHOLDS) / 5
    found["average_pts_within_thresh"] = sum(found[f"pts_within_{threshold}"] for threshold in THRESHOLDS) / 5
    return found


def case(seed: int, images: int, points: int, visible: float) -> tuple[Any, ...]:
    """Whole pixels, so that errors of exactly 1, 2, 4, 8 and 16 px (and 3-4-5 triangles) occur."""
    draw = np.random.default_rng(seed)
    tracks = draw.integers(0, 256, (images, points, 2)).astype(np.float64)
    predicted = tracks + draw.choice([-16, -8, -4, -3, -2, -1, 0, 1, 2, 4, 8], (images, points, 2))
    predicted[draw.random((images, points)) < 0.1] = np.nan
    shown, claimed = draw.random((images, points)) < visible, draw.random((images, points)) < 0.6
    queries = np.column_stack([draw.integers(0, images, points), tracks[0, :, 1], tracks[0, :, 0]])
    return queries, tracks, shown, predicted, claimed


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(1, 7), st.integers(0, 5), st.sampled_from([0.0, 0.3, 0.8, 1.0]), st.booleans()
)
def test_metrics_are_what_their_definition_counts(seed, images, points, visible, strided):
    mode = "strided" if strided else "first"
    arguments = case(seed, images, points, visible)
    found = tapvid_metrics(*arguments, mode=mode)
    wanted = counted_by_hand(*arguments, mode)
    assert set(found) == set(wanted)
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-12, err_msg=key)


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_a_perfect_prediction_scores_one_in_everything(mode):
    queries, tracks, visibility, _, _ = case(1, 7, 5, 0.6)
    queries[:, 0] = 2
    found = tapvid_metrics(queries, tracks, visibility, tracks, visibility, mode=mode)
    assert set(found.values()) == {1.0}


def test_a_case_worked_out_on_paper():
    # One point, queried in image 1. Errors: 9 px before the query, 0 at it, then 3, 5 and 0.5 px; image 3 hides it.
    tracks = np.zeros((5, 1, 2))
    predicted = np.array([[[9.0, 0]], [[0, 0]], [[0, 3]], [[3, 4]], [[0.5, 0]]])
    visibility = np.array([[True], [True], [True], [False], [True]])
    claimed = np.array([[False], [False], [True], [True], [False]])
    first = tapvid_metrics([[1, 0.0, 0.0]], tracks, visibility, predicted, claimed)
    assert first["occlusion_accuracy"] == 1 / 3  # image 2 right, 3 and 4 wrong
    assert [first[f"pts_within_{t}"] for t in THRESHOLDS] == [0.5, 0.5, 1, 1, 1]
    # From 4 px on image 2 is a hit, over images 2 and 4 that are visible and image 3 that is called so.
    assert [first[f"jaccard_{t}"] for t in THRESHOLDS] == [0, 0, 1 / 3, 1 / 3, 1 / 3]
    assert first["average_jaccard"] == pytest.approx(0.2)
    assert first["average_pts_within_thresh"] == 0.8
    strided = tapvid_metrics([[1, 0.0, 0.0]], tracks, visibility, predicted, claimed, mode="strided")
    assert strided["occlusion_accuracy"] == 1 / 4  # image 0 is missed as well
    assert [strided[f"pts_within_{t}"] for t in THRESHOLDS] == [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1]
    assert [strided[f"jaccard_{t}"] for t in THRESHOLDS] == [0, 0, 1 / 4, 1 / 4, 1 / 4]


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_only_what_is_strictly_nearer_counts(threshold):
    tracks, visible = np.zeros((2, 1, 2)), np.ones((2, 1), bool)
    for error, share in ((threshold, 0.0), (np.nextafter(threshold, 0), 1.0)):
        found = tapvid_metrics([[0, 0, 0]], tracks, visible, tracks + np.array([error, 0]), visible)
        assert found[f"pts_within_{threshold}"] == found[f"jaccard_{threshold}"] == share


def test_the_image_of_the_query_never_counts():
    queries, tracks, visibility, predicted, claimed = case(3, 6, 4, 0.7)
    wrong, flipped = predicted.copy(), claimed.copy()
    for point, image in enumerate(queries[:, 0].astype(int)):
        wrong[image, point], flipped[image, point] = np.nan, ~claimed[image, point]
    for mode in ("first", "strided"):
        before = tapvid_metrics(queries, tracks, visibility, predicted, claimed, mode=mode)
        assert tapvid_metrics(queries, tracks, visibility, wrong, flipped, mode=mode) == pytest.approx(
            before, nan_ok=True
        )


def test_positions_of_hidden_points_do_not_matter():
    queries, tracks, visibility, predicted, claimed = case(4, 6, 4, 0.5)
    before = tapvid_metrics(queries, tracks, visibility, predicted, claimed)
    tracks[~visibility] = np.nan
    assert tapvid_metrics(queries, tracks, visibility, predicted, claimed) == before


def test_nothing_to_count_is_nan():
    tracks, visible = np.zeros((3, 1, 2)), np.ones((3, 1), bool)
    last = tapvid_metrics([[2, 0, 0]], tracks, visible, tracks, visible)
    assert len(last) == 13
    assert all(math.isnan(value) for value in last.values())
    none = tapvid_metrics(
        np.zeros((0, 3)), np.zeros((3, 0, 2)), np.ones((3, 0), bool), np.zeros((3, 0, 2)), visible[:, :0]
    )
    assert all(math.isnan(value) for value in none.values())


def test_torch_gives_the_same_numbers():
    arguments = case(5, 6, 4, 0.7)
    assert tapvid_metrics(*map(torch.from_numpy, arguments)) == tapvid_metrics(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "last"}, "unknown mode 'last'. Known: 'first', 'strided'."),
        (
            {"queries": np.array([[6.0, 1, 1], [0, 1, 1]])},
            "query 0 is in image 6, but the tracks have images 0 to 5. Queries are (t, y, x).",
        ),
        (
            {"queries": np.array([[0.0, 1, 1], [np.nan, 1, 1]])},
            "query 1 is in image nan, but the tracks have images 0 to 5. Queries are (t, y, x).",
        ),
        (
            {"queries": np.zeros((2, 2))},
            "queries need the shape (point, 3) = (2, 3), as (t, y, x), one for each track; got (2, 2).",
        ),
        (
            {"predicted": np.zeros((6, 3, 2))},
            "predicted and tracks need the same shape (image, point, 2); got (6, 3, 2) and (6, 2, 2).",
        ),
        ({"visibility": np.ones((2, 6), bool)}, "visibility needs the shape (image, point) = (6, 2); got (2, 6)."),
        (
            {"predicted_visibility": np.ones((6, 3), bool)},
            "predicted_visibility needs the shape (image, point) = (6, 2); got (6, 3).",
        ),
        (
            {"predicted_visibility": np.ones((6, 2))},
            "visibility must be bool; got float64. Choose a threshold, e.g. visibility > 0.5.",
        ),
        (
            {"tracks": np.full((6, 2, 2), np.nan)},
            "tracks are not finite in 12 visible places, first at image 0, point 0. Mark them as hidden.",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message):
    visible = np.ones((6, 2), bool)
    arguments = {
        "queries": np.zeros((2, 3)),
        "tracks": np.zeros((6, 2, 2)),
        "visibility": visible,
        "predicted": np.zeros((6, 2, 2)),
        "predicted_visibility": visible,
    }
    with pytest.raises(InvalidInputError) as caught:
        tapvid_metrics(**arguments | change)
    assert str(caught.value) == message


def test_the_mean_over_clips_weighs_every_clip_the_same_and_leaves_out_nan():
    first = tapvid_metrics(*case(6, 7, 5, 0.8))
    second = tapvid_metrics(*case(7, 3, 1, 1.0))
    found = mean_tapvid_metrics([first, second])
    assert set(found) == set(first)
    for key, value in found.items():
        known = [clip[key] for clip in (first, second) if not math.isnan(clip[key])]
        assert value == pytest.approx(sum(known) / len(known))
    nan = math.nan
    assert mean_tapvid_metrics(iter([{"a": nan}, {"a": 0.25}])) == {"a": 0.25}
    assert math.isnan(mean_tapvid_metrics([{"a": nan}])["a"])


def test_a_mean_of_nothing_or_of_other_metrics_is_refused():
    with pytest.raises(InvalidInputError, match="no metrics were given: a mean over clips needs at least one clip"):
        mean_tapvid_metrics([])
    with pytest.raises(InvalidInputError, match="clips have different metrics: a and b"):
        mean_tapvid_metrics([{"a": 1.0}, {"b": 1.0}])


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.integers(0, 2**32), st.integers(1, 13), st.integers(0, 5), st.sampled_from([0.0, 0.3, 0.9]), st.integers(1, 6)
)
def test_queries_are_found_as_by_hand(seed, images, points, visible, stride):
    draw = np.random.default_rng(seed)
    tracks, visibility = draw.random((images, points, 2)), draw.random((images, points)) < visible
    first = []
    for point in range(points):
        shown = [image for image in range(images) if visibility[image, point]]
        first += [(shown[0], point)] if shown else []
    strided = [(i, p) for i in range(images) if i % stride == 0 for p in range(points) if visibility[i, p]]
    for mode, wanted in (("first", first), ("strided", strided)):
        queries, owner = tapvid_queries(tracks, visibility, mode, stride)
        assert queries.shape == (len(wanted), 3)
        assert owner.tolist() == [point for _, point in wanted]
        for query, (image, point) in zip(queries, wanted, strict=True):
            assert query.tolist() == [image, tracks[image, point, 1], tracks[image, point, 0]]


def test_queries_and_owners_lead_to_metrics_of_one():
    draw = np.random.default_rng(8)
    tracks, visibility = 256 * draw.random((11, 4, 2)), draw.random((11, 4)) < 0.6
    for mode in ("first", "strided"):
        queries, owner = tapvid_queries(tracks, visibility, mode)
        truth = tracks[:, owner], visibility[:, owner]
        assert set(tapvid_metrics(queries, *truth, *truth, mode=mode).values()) == {1.0}


def test_the_default_stride_is_five_images():
    queries, _ = tapvid_queries(np.zeros((12, 1, 2)), np.ones((12, 1), bool), "strided")
    assert queries[:, 0].tolist() == [0, 5, 10]


def test_queries_come_in_the_kind_of_the_tracks():
    tracks, visibility = torch.rand(6, 3, 2), torch.ones(6, 3, dtype=torch.bool)
    queries, owner = tapvid_queries(tracks, visibility)
    assert (queries.dtype, owner.dtype) == (torch.float32, torch.int64)
    whole, _ = tapvid_queries(np.zeros((6, 3, 2), np.int64), visibility.numpy())
    assert whole.dtype == np.float64


def test_bad_queries_are_refused():
    tracks, visibility = np.zeros((6, 3, 2)), np.ones((6, 3), bool)
    with pytest.raises(InvalidInputError, match="stride must be a whole number of images, at least 1; got 0"):
        tapvid_queries(tracks, visibility, "strided", stride=0)
    with pytest.raises(InvalidInputError, match=r"unknown mode 'each'. Known: 'first', 'strided'."):
        tapvid_queries(tracks, visibility, "each")
    tracks[2, 1] = np.nan
    with pytest.raises(InvalidInputError, match="not finite in 1 visible places, first at image 2, point 1"):
        tapvid_queries(tracks, visibility)
    visibility[2, 1] = False
    assert len(tapvid_queries(tracks, visibility)[0]) == 3
