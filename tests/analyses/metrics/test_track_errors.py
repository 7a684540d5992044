"""Errors by time and by threshold, against loops and against TAP-Vid's own metrics."""

import numpy as np
import pytest

from analyses.metrics.tapvid import tapvid_metrics
from analyses.metrics.track_errors import gather_errors, tracking_errors
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks


def example(images=7, points=5, seed=0, height=96, width=160):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 96, (images, points, 2))
    visible = rng.random((images, points)) < 0.7
    queries = np.concatenate([rng.integers(0, images, (points, 1)), rng.uniform(0, 96, (points, 2))], axis=1)
    predicted = truth + rng.normal(scale=6, size=truth.shape)
    tracks = PointTracks(queries, predicted, np.ones_like(visible), np.ones(visible.shape))
    return tracks, truth, visible, (height, width)


def test_means_over_the_visible_pairs_of_each_lag_in_both_directions():
    tracks, truth, visible, (height, width) = example()
    found = tracking_errors(tracks, truth, visible, (height, width))
    assert found.lag.values.tolist() == [1, 2, 3, 4, 5, 6]
    for lag in found.lag.values:
        distances, shares = [], []
        for image in range(7):
            for point in range(5):
                if abs(image - tracks.queries[point, 0]) == lag and visible[image, point]:
                    x, y = tracks.tracks[image, point] - truth[image, point]
                    distances.append(np.hypot(x, y))
                    shares.append(100 * np.hypot(x / width, y / height))
        there = found.sel(lag=lag)
        assert there.pairs == len(distances)
        if distances:
            np.testing.assert_allclose(
                [there.error, there.median_error, there.relative_error],
                [np.mean(distances), np.median(distances), np.mean(shares)],
            )
        else:
            assert np.isnan([there.error, there.median_error, there.relative_error]).all()


def test_within_is_tapvids_position_accuracy():
    tracks, truth, visible, (height, width) = example(seed=4)
    found = tracking_errors(tracks, truth, visible, (height, width))
    scale = np.array([256 / width, 256 / height])
    metrics = tapvid_metrics(
        tracks.queries[:, [0, 2, 1]], truth * scale, visible, tracks.tracks * scale, visible, mode="strided"
    )
    expected = [100 * metrics[f"pts_within_{threshold}"] for threshold in (1, 2, 4, 8, 16)]
    np.testing.assert_allclose(found.within.values, expected)
    assert found.threshold.values.tolist() == [1, 2, 4, 8, 16]


def test_hidden_truth_may_be_anything_and_one_image_has_no_lags():
    tracks, truth, visible, size = example()
    plain = tracking_errors(tracks, truth, visible, size)
    blank = np.where(visible[..., None], truth, np.nan)
    assert tracking_errors(tracks, blank, visible, size).identical(plain)
    one = PointTracks.still(np.array([[0, 3.0, 4.0]]), 1)
    found = tracking_errors(one, one.tracks, one.visibility, size, thresholds=[3])
    assert dict(found.sizes) == {"lag": 0, "threshold": 1}
    assert np.isnan(found.within.item())
    none = PointTracks.still(np.zeros((0, 3)), 3)
    assert tracking_errors(none, none.tracks, none.visibility, size).error.isnull().all()


def test_bad_input_is_refused():
    tracks, truth, visible, size = example()
    bad = truth.copy()
    bad[visible] = np.nan
    with pytest.raises(InvalidInputError, match="Mark it as hidden"):
        tracking_errors(tracks, bad, visible, size)
    with pytest.raises(InvalidInputError, match="same shape"):
        tracking_errors(tracks, truth[:, :4], visible[:, :4], size)
    with pytest.raises(InvalidInputError, match="visibility must be bool"):
        tracking_errors(tracks, truth, visible.astype(float), size)
    with pytest.raises(InvalidInputError, match="thresholds must be positive"):
        tracking_errors(tracks, truth, visible, size, thresholds=[0])
    with pytest.raises(InvalidInputError, match="size must be"):
        tracking_errors(tracks, truth, visible, (0, 3))


def test_clips_and_trackers_are_gathered_by_name():
    long, short = tracking_errors(*example()), tracking_errors(*example(images=3, seed=1))
    other = tracking_errors(*example(seed=2))
    found = gather_errors({"ours": {"a": long, "b": short}, "flow": {"b": short, "c": other}})
    assert found.tracker.values.tolist() == ["ours", "flow"]
    assert found["clip"].values.tolist() == ["a", "b", "c"]
    for tracker, clip, expected in (("ours", "a", long), ("flow", "b", short), ("flow", "c", other)):
        mine = found.sel(tracker=tracker, clip=clip)
        np.testing.assert_array_equal(mine.error.values[: expected.sizes["lag"]], expected.error.values)
        np.testing.assert_array_equal(mine.within.values, expected.within.values)
        np.testing.assert_array_equal(mine.pairs.values[: expected.sizes["lag"]], expected.pairs.values)
    assert found.sel(tracker="ours", clip="b").error.isnull().values.tolist()[2:] == [True] * 4
    assert found.sel(tracker="ours", clip="c").within.isnull().all()
    assert found.sel(tracker="ours", clip="c").pairs.values.tolist() == [0] * 6
    assert (found.error.attrs["units"], found.within.attrs["units"]) == ("px", "%")
    for nothing in ({}, {"ours": {}}):
        with pytest.raises(InvalidInputError, match="no errors to gather"):
            gather_errors(nothing)
