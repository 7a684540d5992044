"""What every tracker owes its caller, whatever it does inside."""

import numpy as np
import pytest

from analyses.trackers.cotracker import CoTracker
from analyses.trackers.optical_flow import FlowTracker
from analyses.trackers.patches import PatchTracker
from analyses.trackers.static import StaticTracker
from store.clips.clip import Clip
from store.errors import ClipError, InvalidInputError
from store.scenes.scene import make_scene
from store.tracks.point_tracks import PointTracks


def at_rest(video, queries, backward_tracking):
    tracks = queries[:, None, :, 1:].repeat(1, video.shape[1], 1, 1)
    return tracks, tracks[..., 0] > -9


TRACKERS = {
    "still": StaticTracker(),
    "patches": PatchTracker(cell=4),
    "flow": FlowTracker(side=80),
    "cotracker": CoTracker(at_rest),
}
SCENE = make_scene(7, images=4)


@pytest.fixture(params=TRACKERS.values(), ids=TRACKERS)
def tracker(request):
    return request.param


def test_points_are_where_they_were_asked_for_whatever_the_image(tracker):
    queries = np.array([[3, 20.25, 12.5], [0, 31.0, 7.75], [1, 0.0, 40.0], [3, 11.0, 30.0]])
    before = SCENE.images.copy(), queries.copy()
    found = tracker(SCENE.images, queries)
    assert isinstance(found, PointTracks)
    assert found.tracks.shape == (4, 4, 2)
    own = queries[:, 0].astype(int)
    np.testing.assert_array_equal(found.tracks[own, range(4)], queries[:, 1:])
    assert found.visibility[own, range(4)].all()
    np.testing.assert_array_equal(found.queries, queries)
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    np.testing.assert_array_equal(SCENE.images, before[0])
    np.testing.assert_array_equal(queries, before[1])


def test_points_do_not_depend_on_one_another(tracker):
    queries = np.array([[2, 20.25, 12.5], [0, 31.0, 7.75], [3, 11.0, 30.0]])
    together = tracker(SCENE.images, queries)
    for point, query in enumerate(queries):
        alone = tracker(SCENE.images, query[None])
        np.testing.assert_allclose(alone.tracks[:, 0], together.tracks[:, point], atol=1e-5)
        np.testing.assert_array_equal(alone.visibility[:, 0], together.visibility[:, point])


def test_what_does_not_move_stays_and_is_seen(tracker):
    images = np.repeat(SCENE.images[:1], 3, axis=0)
    queries = np.array([[1, 20.25, 12.5], [0, 8.0, 30.0]])
    found = tracker(images, queries)
    np.testing.assert_allclose(found.tracks, np.repeat(queries[None, :, 1:], 3, axis=0), atol=0.05)
    assert found.visibility.all()


def test_one_image_gives_the_queries_and_no_points_give_none(tracker):
    found = tracker(SCENE.images[:1], [[0, 3.0, 39.5]])
    np.testing.assert_array_equal(found.tracks, [[[3.0, 39.5]]])
    assert found.visibility.all()
    assert tracker(SCENE.images, []).tracks.shape == (4, 0, 2)
    assert tracker(SCENE.images[:1], np.zeros((0, 3))).visibility.shape == (1, 0)


def test_clips_and_arrays_are_alike(tracker):
    queries = [[0, 20.0, 12.0]]
    np.testing.assert_array_equal(tracker(SCENE, queries).tracks, tracker(SCENE.images, queries).tracks)


def test_bad_input_is_refused_before_anything_is_done(tracker):
    with pytest.raises(InvalidInputError, match="query 0 is in image 4, but the clip has images 0 to 3"):
        tracker(SCENE.images, [[4, 3.0, 3.0]])
    with pytest.raises(InvalidInputError, match="outside the clip of 40 x 40 px"):
        tracker(SCENE.images, [[0, 41.0, 3.0]])
    with pytest.raises(InvalidInputError, match="not finite"):
        tracker(SCENE.images, [[0, np.nan, 3.0]])
    with pytest.raises(ClipError):
        tracker(SCENE.images.astype(float), [[0, 3.0, 3.0]])
    with pytest.raises(ClipError):
        tracker(SCENE.images[0], [[0, 3.0, 3.0]])


def test_still_is_the_query_everywhere():
    found = StaticTracker()(Clip(SCENE.images, fps=8), [[2, 10.0, 20.0]])
    np.testing.assert_array_equal(found.tracks[:, 0], [[10.0, 20.0]] * 4)
    assert found.visibility.all()
    assert (found.confidence == 1).all()
