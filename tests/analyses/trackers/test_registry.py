"""Trackers and metrics of others are used by name, as the built-in ones are."""

import numpy as np
import pytest

from analyses.evaluation.tapvid import evaluate_tapvid
from analyses.metrics.registry import TRACKING_METRICS, TrackingMetric, register_metric
from analyses.trackers.optical_flow import FlowTracker
from analyses.trackers.registry import TRACKERS, make_tracker, register_tracker
from analyses.trackers.static import StaticTracker, still_tracker
from store.errors import InvalidInputError
from store.scenes.scene import make_scene


@pytest.fixture
def shifted():
    def factory(backbone):
        def tracker(images, queries):
            found = StaticTracker()(images, queries)
            found.tracks[...] += 1.0
            return found

        return tracker

    register_tracker("shifted", factory)
    yield
    TRACKERS.unregister("shifted")


@pytest.fixture
def hidden():
    measure = TrackingMetric(lambda found, tracks, visibility, size: float((~visibility).mean()), "truly hidden")
    register_metric("hidden", measure)
    yield
    TRACKING_METRICS.unregister("hidden")


def test_a_registered_tracker_and_metric_are_evaluated(shifted, hidden, tmp_path):
    scene = make_scene(0)
    trackers = {"shifted": make_tracker("shifted"), "nothing moves": make_tracker("nothing-moves")}
    options = {"metrics": ["hidden", "median_error", "visibility_brier"], "checkpoint": tmp_path / "clips.jsonl"}
    found = evaluate_tapvid({"scene": scene}, trackers, **options)
    assert found["hidden"].attrs == {"long_name": "truly hidden", "units": "%"}
    np.testing.assert_allclose(found["hidden"].values, 100 * (~scene.visibility).mean())
    assert found["median_error"].attrs["units"] == "px of a 256 x 256 image"
    assert not np.allclose(found["median_error"][0], found["median_error"][1])
    later = scene.visibility[1:]
    np.testing.assert_allclose(found["visibility_brier"][1], 100 * (~later).mean())
    again = evaluate_tapvid({"scene": scene}, trackers, **options, resume=True)
    assert again.equals(found)


def test_the_built_in_trackers_have_names():
    assert list(TRACKERS)[:4] == ["backbone", "nothing-moves", "patches", "flow"]
    assert make_tracker("flow") == FlowTracker()
    assert still_tracker == StaticTracker()
    with pytest.raises(InvalidInputError, match="tracker 'backbone' needs a backbone"):
        make_tracker("backbone")
    with pytest.raises(InvalidInputError, match="Did you mean 'flow'"):
        make_tracker("flows")


def test_what_is_not_a_tracker_or_a_metric_is_not_registered():
    with pytest.raises(InvalidInputError, match="factory must be callable"):
        register_tracker("three", 3)
    with pytest.raises(InvalidInputError, match="metric must be"):
        register_metric("three", 3)
    with pytest.raises(InvalidInputError, match="registered already"):
        register_tracker("flow", lambda backbone: StaticTracker())
