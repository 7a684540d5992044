"""A backbone as a tracker is :func:`track_points`, with every option passed on."""

import numpy as np
import pytest

from analyses.trackers.backbone import BackboneTracker
from analyses.tracking.track import PUBLISHED, TrackingOptions, track_points
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from store.errors import InvalidInputError
from store.scenes.scene import make_scene


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(new_pipeline(MiniConfig(layers=2)))


@pytest.mark.parametrize(
    "options",
    [
        {"layer": 1},
        {"layer": 0, "step": 3, "steps": 5, "heads": (0,), "seed": 4, "options": TrackingOptions(noise="forward")},
        {"layer": 1, "options": PUBLISHED, "prompt": "a red disc moves left over blue stripes", "size": (24, 24)},
    ],
)
def test_equal_to_the_function(backbone, options):
    images = make_scene(5, images=4).images
    queries = np.array([[2, 10.5, 20.0], [0, 33.0, 4.0]])
    expected = track_points(images, queries, backbone, **options)
    found = BackboneTracker(backbone, **options)(images, queries)
    for name in ("tracks", "visibility", "confidence", "queries"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    timed = ("seconds", "seconds_in_model")
    assert {k: v for k, v in found.details.items() if k not in timed} == {
        k: v for k, v in expected.details.items() if k not in timed
    }


def test_one_image_no_points_and_bad_queries(backbone):
    images = make_scene(5, images=2).images
    tracker = BackboneTracker(backbone, layer=1)
    np.testing.assert_array_equal(tracker(images[:1], [[0, 10.5, 20.0]]).tracks, [[[10.5, 20.0]]])
    assert tracker(images, []).tracks.shape == (2, 0, 2)
    with pytest.raises(InvalidInputError, match="outside the clip"):
        tracker(images, [[0, 50.0, 20.0]])
