"""Motion compensation: what crops show once the coarse motion is taken out, which points share them, what they find."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from analyses.metrics.tapvid import tapvid_metrics
from analyses.tracking.closer import CloserLook, LevelTracks
from analyses.tracking.compensation import CompensatedWindows, Compensation, Compensator, sampled
from analyses.tracking.crops import cut
from analyses.tracking.levels import chunk_plans, levels_for
from analyses.tracking.options import TrackingOptions
from analyses.tracking.propagate import ChunkTokens
from analyses.tracking.track import track_points
from probe import load_backbone
from store.layout import TokenLayout
from store.scenes.scene import make_scene

RNG = np.random.default_rng(0)
FOUR = np.array([4.0, 4.0])


def compensator(level=2, **how):
    return replace(Compensator((40, 40), 40 * np.ones(2) / level, 2 * np.ones(2) / level, FOUR, FOUR), **how)


# What is shown -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_what_does_not_move_is_shown_as_a_crop_is(scale):
    image = np.asarray(make_scene(3, images=2).images)[0]
    point = np.array([[20.0, 20.0]])
    windows = CompensatedWindows(
        np.full((2, 2), 10.0), scale, Compensation(point, point[None].repeat(2, 0), np.array([0]))
    )
    size = round(20 / scale), round(20 / scale)
    found = windows.show(image[None].repeat(2, 0), 1, windows.origins[1], size)
    expected = cut(image, windows.origins[1], scale, size)
    assert np.abs(found[2:-2, 2:-2].astype(int) - expected[2:-2, 2:-2]).mean() < 6  # splines, and another cubic
    if scale == 1.0:
        np.testing.assert_array_equal(found, expected)


def test_parts_that_move_differently_all_stand_still():
    texture = RNG.integers(0, 255, (60, 60, 3), dtype=np.uint8)
    moves = [np.array([2, -1]), np.array([-3, 1])]  # of the left and the right half, a step
    clip = np.zeros((3, 40, 40, 3), np.uint8)
    for image in range(3):
        for half, (x, y) in enumerate(image * each for each in moves):
            part = texture[10 - y : 50 - y, 10 - x : 50 - x]
            clip[image][:, 20 * half : 20 * half + 20] = part[:, 20 * half : 20 * half + 20]
    places = np.array([[10.0, 20.0], [30.0, 20.0]])
    paths = places + np.arange(3)[:, None, None] * np.array(moves)
    windows = CompensatedWindows(np.zeros((3, 2)), 1.0, Compensation(places, paths, np.arange(2)))
    shown = [windows.show(clip, image, windows.origins[image], (40, 40)) for image in range(3)]
    for x in (10, 30):
        for image in (1, 2):
            np.testing.assert_array_equal(shown[image][17:23, x - 3 : x + 3], clip[0][17:23, x - 3 : x + 3])


def test_beyond_the_image_its_border_is_repeated():
    image = RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    found = sampled(image, np.array([[-5.0, -5.0], [100.0, 2.5], [3.5, 2.5]]), 1.0)
    np.testing.assert_array_equal(found, [image[0, 0], image[2, -1], image[2, 3]])


# Which points share a crop -----------------------------------------------------------------------------------------


def test_points_that_part_share_a_crop_and_the_whole_image_is_one():
    start = RNG.uniform(1, 39, (50, 2))
    tracks = start + np.arange(5)[:, None, None] * RNG.normal(0, 1, (50, 2))
    sure, anchors = np.ones((5, 50), bool), np.zeros(50, int)
    (group,) = compensator(1).groups(tracks, sure, anchors)
    assert group.members.tolist() == list(range(50))
    np.testing.assert_array_equal(group.centres, np.full((5, 2), 20.0))
    groups = compensator(2).groups(tracks, sure, anchors)
    assert len(groups) == 4
    assert sorted(np.concatenate([group.members for group in groups])) == list(range(50))
    for group in groups:
        assert (np.abs(start[group.members] - group.centres[0]) <= 10).all()
    assert len(compensator(2, max_groups=3).groups(tracks, sure, anchors)) == 3
    assert compensator(2).groups(tracks, sure, anchors, kept=np.array([], int)) == []
    (few,) = compensator(1).groups(tracks, sure, anchors, kept=np.array([3, 8]))
    assert few.members.tolist() == few.motion.sites.tolist() == [3, 8]


def test_points_that_move_alike_move_together_and_a_query_stays_where_it_is():
    start = np.array([[10.0, 10.0], [12.0, 10.0], [11.0, 12.0], [13.0, 12.0]])
    moves = np.array([[4.0, 0.0], [5.0, 0.0], [4.5, 0.0], [-4.0, 0.0]])  # the last one goes elsewhere
    tracks = start + np.arange(2)[:, None, None] * moves
    (group,) = compensator(1).groups(tracks, np.ones((2, 4), bool), np.array([0, 0, 0, 0]))
    moved = group.motion.paths[1] - group.motion.places
    np.testing.assert_allclose(moved, [[4.5, 0], [4.5, 0], [4.5, 0], [-4, 0]])
    np.testing.assert_allclose(group.motion.paths[0], start)
    late = compensator(1).groups(tracks, np.ones((2, 4), bool), np.array([0, 0, 1, 0]))[0].motion
    np.testing.assert_allclose(late.paths[1, 2], tracks[1, 2])


def test_a_level_comes_twice_where_it_is_compensated():
    here, later = np.array([2, 2]), np.array([0, 2])
    for crops, anchors, expected in (
        ("auto", here, (1, 1, 2)),
        ("auto", later, (1, 2)),
        ("follow", here, (1, 2)),
        ("compensate", later, (1, 1, 2, 2)),
    ):
        options = TrackingOptions(levels=(1, 1, 2, 2), crops=crops)
        assert levels_for(options, anchors) == expected


def test_a_point_that_comes_later_is_brought_to_where_its_neighbour_was():
    start = np.array([[10.0, 10.0], [30.0, 10.0], [12.0, 10.0]])
    tracks = start + np.arange(3)[:, None, None] * np.array([[4.0, 0.0], [-4.0, 0.0], [4.0, 0.0]])
    trusted = np.ones((3, 3), bool)
    trusted[0, 2] = False
    tracks[0, 2] = [35.0, 35.0]  # what was found of it, and is not believed
    (group,) = compensator(1).groups(tracks, trusted, np.array([0, 0, 1]))
    np.testing.assert_allclose(group.motion.places[2], start[2])


# What is found -------------------------------------------------------------------------------------------------------

LAYOUT = TokenLayout(4, 8, 8, 32, 32, 4)


def test_a_look_corrects_every_point_from_its_own_path():
    codes = torch.eye(400).view(20, 20, -1)

    def tokens(chunk, windows):  # all later images see what lies one cell to the right and one up
        rows = [codes[6 + s : 14 + s, 6 - s : 14 - s].reshape(1, 64, -1) for s in (0, 1, 1, 1)]
        found = 60 * torch.stack(rows, 1)
        return ChunkTokens(found, found / 20, LAYOUT, torch.zeros(4, 2))

    start, moves = np.array([[14.0, 16.0], [18.0, 14.0]]), np.array([[2.0, 0.0], [-2.0, 1.0]])
    tracks = start + np.arange(4)[:, None, None] * moves
    ones = np.ones((4, 2))
    before = LevelTracks(tracks, ones, 0 * ones, FOUR, 0 * ones, ones < 0, 0 * ones)
    options = TrackingOptions(scale="channels", smoothness=0.0, candidates=1, crops="compensate")
    plans = chunk_plans(4, [0], 4, TrackingOptions())
    look = CloserLook(lambda anchors: plans, LAYOUT, 4, (32, 32), options, tokens, torch.device("cpu"), 2**24)
    crops = look.crops(before, np.zeros(2, int), 2)
    assert len(crops) == 1
    found = look.refine(before, np.zeros(2, int), 2, crops)
    np.testing.assert_allclose(found.tracks[1:] - tracks[1:], np.broadcast_to([2.0, -2.0], (3, 2, 2)), atol=1e-3)
    np.testing.assert_array_equal(found.tracks[0], tracks[0])
    assert found.looked[1:].all()


@pytest.fixture(scope="module")
def scene():
    return make_scene(2003, images=7, cell=6.0)


@pytest.fixture(scope="module")
def accuracy(scene):
    mine = np.flatnonzero(scene.visibility[0])
    queries = np.column_stack([np.zeros(len(mine)), scene.tracks[0, mine]])
    mini = load_backbone("mini")

    def measured(**how):
        found = track_points(scene, queries, mini, options=TrackingOptions(**how))
        assert found.details["chunks"] == 2 * len(found.details["levels"])  # one crop of a look at the whole image
        raster = 256 / 40
        asked = np.column_stack([np.zeros(len(mine)), raster * queries[:, :0:-1]])
        seen = scene.visibility[:, mine]
        metrics = tapvid_metrics(asked, raster * scene.tracks[:, mine], seen, raster * found.tracks, seen)
        return 100 * metrics["average_pts_within_thresh"]

    return measured


def test_looking_at_what_motion_is_left_is_worth_something_and_controls_are_not(accuracy, monkeypatch):
    coarse, ours = accuracy(), accuracy(levels=(1, 1))
    assert ours > coarse + 3
    paths = Compensation.sources
    monkeypatch.setattr(Compensation, "sources", lambda self, places, image: places)  # nothing is taken out
    still = accuracy(levels=(1, 1))
    later = lambda self, places, image: paths(self, places, image and 1 + (image + 2) % 6)  # noqa: E731
    monkeypatch.setattr(Compensation, "sources", later)  # the motion of another image is
    wrong = accuracy(levels=(1, 1))
    assert max(still, wrong) < ours - 3
