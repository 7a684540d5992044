"""Following crops: where they lie, which points share them, what they find, and that they may be overruled."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from guided import backbone_of
from tiny_families import FAMILIES

from analyses.tracking.closer import CloserLook, LevelTracks
from analyses.tracking.crops import CropWindows, crop_scale, cut, follow
from analyses.tracking.grouping import group_points
from analyses.tracking.levels import chunk_plans
from analyses.tracking.options import TrackingOptions
from analyses.tracking.propagate import ChunkTokens
from analyses.tracking.track import track_points
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.scenes.scene import make_scene

RNG = np.random.default_rng(0)


# Crops -------------------------------------------------------------------------------------------------------------


def test_a_crop_of_whole_pixels_is_that_part_of_the_image():
    image = RNG.integers(0, 255, (30, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(cut(image, np.array([5.0, 7.0]), 1.0, (10, 12)), image[7:17, 5:17])


def test_beyond_the_image_its_border_is_repeated():
    image = RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="edge")
    np.testing.assert_array_equal(cut(image, np.array([-3.0, -3.0]), 1.0, (12, 14)), padded)
    far = cut(image, np.array([100.0, 100.0]), 1.0, (4, 4))
    np.testing.assert_array_equal(far, np.broadcast_to(image[-1, -1], (4, 4, 3)))


def test_a_crop_is_enlarged_as_a_clip_is_and_its_pixels_are_square():
    image = RNG.integers(0, 255, (20, 32, 3), dtype=np.uint8)
    expected = Clip(image[None, 4:14, 6:26], fps=8.0).resized(40, 80).images[0]
    found = cut(image, np.array([6.0, 4.0]), 0.25, (40, 80))
    assert np.abs(found[8:-8, 8:-8].astype(int) - expected[8:-8, 8:-8]).max() <= 1  # borders see their neighbours
    assert crop_scale((32, 48), (40, 40), 2) == 0.4  # 16 x 16 of 32 x 48 px


def test_a_point_stays_at_the_same_place_of_its_crop():
    path = np.cumsum(RNG.normal(size=(9, 2)), 0) + 20
    windows = follow(path, (40, 40), (24, 32), 4)
    places = (path - windows.origins) / windows.scale
    np.testing.assert_allclose(places, np.broadcast_to([16.0, 12.0], places.shape))


def test_images_of_a_latent_frame_share_a_crop():
    windows = CropWindows(np.arange(10.0)[:, None] * [1.0, 2.0], 1.0)
    found = windows.at((0, 3, 4, 5, 6), [range(1), range(1, 5)])
    np.testing.assert_allclose(found[:, 0], [0, 4.5, 4.5, 4.5, 4.5])


# Groups ------------------------------------------------------------------------------------------------------------


def test_every_point_lies_well_inside_its_crop_while_it_is_trusted():
    images, points = 7, 60
    start = RNG.uniform(0, 100, (points, 2))
    moves = np.where(RNG.random(points)[:, None] < 0.5, [2.0, 0.0], [0.0, -3.0])
    tracks = start + np.arange(images)[:, None, None] * moves
    trusted = RNG.random((images, points)) < 0.8
    trusted[0] = True
    tracks[~trusted] = RNG.uniform(0, 100, ((~trusted).sum(), 2))
    extent, margin = np.array([30.0, 40.0]), np.array([3.0, 4.0])
    groups = group_points(tracks, trusted, extent, margin)
    assert sorted(np.concatenate([group.members for group in groups])) == list(range(points))
    for group in groups:
        away = np.abs(tracks[:, group.members] - group.centres[:, None])
        assert (away[trusted[:, group.members]] <= extent / 2 - margin + 1e-9).all()
    assert len(groups) < points / 2


def test_points_that_part_do_not_share_a_crop_and_a_margin_that_is_too_wide_is_cut():
    tracks = np.array([[[50.0, 50.0], [52.0, 50.0]], [[50.0, 50.0], [90.0, 50.0]]])
    whole = np.ones((2, 2), bool)
    assert len(group_points(tracks, whole, np.array([30.0, 30.0]), np.array([1.0, 1.0]))) == 2
    assert len(group_points(tracks[:1], whole[:1], np.array([30.0, 30.0]), np.array([1e9, 1e9]))) == 1
    assert group_points(tracks[:, :0], whole[:, :0], np.array([30.0, 30.0]), np.array([1.0, 1.0])) == []


def test_few_crops_are_those_with_the_most_points_and_show_the_others_where_they_can():
    start = np.array([[20.0, 20.0], [22.0, 20.0], [21.0, 23.0], [20.0, 31.0], [80.0, 80.0]])
    tracks = start + np.arange(5)[:, None, None] * np.array([[0, 0], [0, 0], [0, 0], [6.0, 0], [0, 0]])
    sure, size = np.ones((5, 5), bool), (np.array([24.0, 24.0]), np.array([2.0, 2.0]))
    assert len(group_points(tracks, sure, *size)) == 3
    (group,) = group_points(tracks, sure, *size, max_groups=1)
    assert group.members.tolist() == [0, 1, 2, 3]  # the fourth leaves the crop, the fifth was never in it
    np.testing.assert_allclose(group.centres, np.broadcast_to(group.centres[0], (5, 2)))
    late = np.array([0, 0, 0, 4, 0])  # the fourth is known where the crop no longer shows it
    (group,) = group_points(tracks, sure, *size, max_groups=1, anchors=late)
    assert group.members.tolist() == [0, 1, 2]


# The closer look ----------------------------------------------------------------------------------------------------

LAYOUT = TokenLayout(4, 8, 8, 32, 32, 4)


def planted(windows, chunk, shift):
    """Tokens of a picture of distinct cells, of which all later frames see what lies ``shift`` (x, y) cells further."""
    codes = torch.eye(20 * 20).view(20, 20, -1)
    rows = []
    for place in range(len(chunk.images)):
        x, y = (0, 0) if place == 0 else shift
        rows.append(codes[6 - y : 14 - y, 6 - x : 14 - x].reshape(1, 64, -1))
    tokens = 60 * torch.stack(rows, 1)
    origins = windows.at(chunk.images)
    offsets = torch.as_tensor((origins - origins[0]) / windows.scale, dtype=torch.float32)
    return ChunkTokens(tokens, tokens / 20, LAYOUT, offsets)


def coarse(points, images=4, cell=4.0, errors=0.0):
    tracks = np.repeat(np.asarray(points, float)[None], images, 0)
    shape = tracks.shape[:2]
    return LevelTracks(
        tracks,
        np.ones(shape),
        np.full(shape, errors),
        np.array([cell, cell]),
        np.zeros(shape),
        np.zeros(shape, bool),
        np.zeros(shape),
    )


def look(shift, **options):
    return CloserLook(
        lambda anchors: chunk_plans(4, np.unique(anchors).tolist(), 4, TrackingOptions()),
        LAYOUT,
        4,
        (32, 32),
        replace(TrackingOptions(scale="channels", smoothness=0.0, candidates=1, crops="follow"), **options),
        lambda chunk, windows: planted(windows, chunk, shift),
        torch.device("cpu"),
        2**24,
    )


def test_a_closer_look_corrects_by_its_own_cells():
    before, closer = coarse([[16.0, 16.0], [18.0, 14.0]]), look((1, -1))
    found = closer.refine(before, np.zeros(2, int), 2, closer.crops(before, np.zeros(before.tracks.shape[1], int), 2))
    np.testing.assert_allclose(found.tracks[1:] - before.tracks[1:], np.broadcast_to([2.0, -2.0], (3, 2, 2)), atol=1e-3)
    np.testing.assert_array_equal(found.tracks[0], before.tracks[0])
    np.testing.assert_allclose(found.cell, [2.0, 2.0])
    np.testing.assert_allclose(found.correction[1:], np.sqrt(0.5), atol=1e-3)
    assert found.looked[1:].all()


def test_a_crop_follows_its_point_and_the_way_that_it_went_counts():
    before, closer = coarse([[16.0, 16.0]]), look((1, 0))
    before.tracks[:, 0] += np.array([[0, 0], [3, 1], [6, 2], [9, 3]])
    found = closer.refine(before, np.zeros(1, int), 2, closer.crops(before, np.zeros(before.tracks.shape[1], int), 2))
    np.testing.assert_allclose(
        found.tracks[1:, 0] - before.tracks[1:, 0], np.broadcast_to([2.0, 0.0], (3, 2)), atol=1e-3
    )


def test_a_look_that_lost_the_point_does_not_count():
    before, closer = coarse([[16.0, 16.0]]), look((3, 0))
    found = closer.refine(before, np.zeros(1, int), 2, closer.crops(before, np.zeros(before.tracks.shape[1], int), 2))
    np.testing.assert_array_equal(found.tracks, before.tracks)  # 6 px are 1.5 cells of the level before
    assert not found.looked.any()
    bold = look((3, 0), max_correction=2.0)
    assert bold.refine(before, np.zeros(1, int), 2, bold.crops(before, np.zeros(1, int), 2)).looked[1:].all()


def test_a_point_that_is_trusted_nowhere_has_no_crop():
    before = coarse([[16.0, 16.0], [10.0, 12.0]])
    before.cycle_error[1:, 1] = 3.0
    groups = look((0, 0)).crops(before, np.zeros(2, int), 2)
    assert [group.members.tolist() for group in groups] == [[0]]


# As an option of tracking ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mini():
    torch.manual_seed(0)
    return load_backbone(new_pipeline(MiniConfig(layers=2)))


def queries(image, count=5, height=40.0, width=40.0):
    points = np.random.default_rng(1).uniform(0, 1, (count, 2)) * [width, height]
    return np.column_stack([np.full(count, image), points])


def test_levels_are_told_and_counted(mini):
    images, told = make_scene(7, images=7).images, []
    asked = np.concatenate([queries(0), queries(4, 3)])
    options = TrackingOptions(levels=(1, 2), trusted_cycle_error=np.inf)
    found = track_points(images, asked, mini, layer=1, options=options, progress=lambda *counts: told.append(counts))
    assert found.details["levels"] == [1, 2]
    assert found.details["crops"]["2"] >= 2
    assert told[-1] == (found.details["chunks"], found.details["chunks"])
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    own = asked[:, 0].astype(int), np.arange(8)
    np.testing.assert_array_equal(found.tracks[own], asked[:, 1:])
    plain = track_points(images, asked, mini, layer=1)
    assert not np.allclose(found.tracks, plain.tracks)
    far = np.linalg.norm(found.tracks - plain.tracks, axis=-1)
    assert far.max() <= 4.0 + 1e-6  # a cell of the whole image


def test_nothing_is_believed_of_a_closer_look_that_may_not_move_points(mini):
    images = make_scene(7, images=5).images
    options = TrackingOptions(levels=(1, 2, 4), max_correction=0.0)
    found = track_points(images, queries(0), mini, layer=1, options=options)
    np.testing.assert_allclose(found.tracks, track_points(images, queries(0), mini, layer=1).tracks, atol=1e-6)


@pytest.mark.parametrize("levels", [(2,), (1, 4, 2), (1, 16), ()])
def test_levels_that_cannot_be(levels):
    with pytest.raises(InvalidInputError, match="levels must begin with 1"):
        TrackingOptions(levels=levels)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("encode", "crops"), [("images", "follow"), ("images", "compensate"), ("clip", "compensate")])
def test_every_family_looks_closer(name, encode, crops):
    family = FAMILIES[name]
    backbone, (height, width, images) = backbone_of(name), family.size.values()
    images = min(images, 5)
    video = np.random.default_rng(2).integers(0, 255, (images, height, width, 3), dtype=np.uint8)
    options = TrackingOptions(levels=(1, 2), crops=crops, encode=encode, trusted_cycle_error=np.inf)
    how = {"layer": 0, "size": (height, width), "steps": 3, "prompt": family.prompt or ""}
    asked = queries(images - 1, 2, height, width)
    found = track_points(video, asked, backbone, options=options, conditioning=family.conditioning, **how)
    assert found.tracks.shape == (images, 2, 2)
    assert np.isfinite(found.tracks).all()
    assert 1 <= found.details["crops"]["2"] <= 2 * (images - 1)  # at worst one for each pair
    np.testing.assert_array_equal(found.tracks[-1], asked[:, 1:])
