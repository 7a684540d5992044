"""The section about looking closer: both tracks and the truth in one figure, and what the closer look cost."""

from dataclasses import replace

import numpy as np
import pytest
from report_helpers import EVIL, Page, sweep

from analyses.plots.closer import plot_closer
from ditprobe.report.closer import CloserClip, closer_clip
from ditprobe.report.report import render_report
from probe import load_backbone
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.scenes.scene import make_scene
from store.tracks.point_tracks import PointTracks

QUERIES = np.array([[0, 10.0, 20.0], [0, 30.0, 20.0]])


def clip_with(errors):
    """A clip of 256 x 256 px whose two points move right, and tracks that miss them by so many pixels."""
    truth = QUERIES[None, :, 1:] + np.arange(5)[:, None, None] * [2.0, 0.0]
    clip = Clip(np.zeros((5, 256, 256, 3), np.uint8), 8, tracks=truth, visibility=np.ones((5, 2), bool))
    told = {"chunks": 3, "seconds": 0.5}, {"chunks": 18, "seconds": 2.0, "crops": {"2": 15}, "levels": [1, 2]}
    found = []
    for error, details in zip(errors, told, strict=True):
        tracks = truth + np.array([0.0, error])
        tracks[0] = truth[0]
        found.append(PointTracks(QUERIES, tracks, np.ones((5, 2), bool), np.ones((5, 2)), details))
    return CloserClip(EVIL, clip, *found)


def test_the_section_has_both_tracks_and_their_cost():
    page = Page(render_report(sweep(), None, closer=[clip_with((3.0, 0.5))], title="Report"))
    assert "#closer" in page.links
    assert {"closer", "table-closer"} <= set(page.ids)
    header = next(number for number, row in enumerate(page.rows) if row[:2] == ["clip", "tracks"])
    assert page.rows[header + 1] == [EVIL, "coarse", "60.0", "3.00", "0", "3", "0.5"]
    assert page.rows[header + 2] == [EVIL, "closer look", "100.0", "0.50", "15", "18", "2"]
    words = " ".join(page.text)
    assert "Points were looked at again in crops of 1/2 of the side, in 1 clip. It took 6.0 times the passes" in words
    assert "b" not in page.tags


def test_it_is_there_only_where_asked_for():
    plain = render_report(sweep(), None, title="Report")
    assert "closer" not in Page(plain).ids
    assert plain == render_report(sweep(), None, closer=(), title="Report")


def test_paths_end_where_the_tracks_do_and_hidden_parts_are_left_out():
    one = clip_with((3.0, 0.5))
    clip, tracks = one.clip, one.clip.tracks
    figure = plot_closer(clip.images, one.coarse, one.closer, tracks=tracks)
    marks = {trace.name: trace for trace in figure.data if trace.name}
    assert list(marks) == ["truth", "coarse", "closer look"]
    np.testing.assert_allclose(np.stack([marks["coarse"].x, marks["coarse"].y], -1), one.coarse.tracks[-1])
    visible = np.ones((5, 2), bool)
    visible[3:, 0] = False
    figure = plot_closer(clip.images, one.coarse, one.closer, tracks=tracks, visibility=visible)
    truth = next(trace for trace in figure.data if trace.name == "truth")
    np.testing.assert_allclose(truth.x[0], tracks[2, 0, 0])
    with pytest.raises(InvalidInputError, match="tracks of the same queries"):
        plot_closer(clip.images, one.coarse, replace(one.closer, queries=QUERIES + np.array([0, 1.0, 0])))


def test_a_clip_is_tracked_coarsely_and_closely_from_the_points_of_image_0():
    mini, scene = load_backbone("mini"), make_scene(3, images=3, cell=10.0)
    found = closer_clip(mini, "a scene", scene, max_crops=1)
    assert found.clip.visibility[0].all()
    assert found.coarse.details["chunks"] < found.closer.details["chunks"]
    np.testing.assert_array_equal(found.coarse.queries, found.closer.queries)
    bare = closer_clip(mini, "bare", Clip(scene.images, 8.0), max_crops=1, grid=2)
    assert bare.closer.tracks.shape == (3, 4, 2)
    assert bare.clip.tracks is None
    with pytest.raises(InvalidInputError, match="take no closer look"):
        closer_clip(mini, "a scene", scene, levels=(1,))
