"""Pairs of a point and an image covered by chunks of crops: all of them, few chunks, and no more than are allowed."""

import numpy as np
import pytest

from analyses.tracking.covering import cover_pairs
from analyses.tracking.grouping import group_points

EXTENT, MARGIN = np.array([20.0, 20.0]), np.array([2.0, 2.0])


def moving(images=12, points=40, seed=0):
    """Points on a square of 40 px, half of which move another way."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(2, 38, (points, 2))
    moves = np.where(rng.random(points)[:, None] < 0.5, [1.0, 0.0], [0.0, -1.2])
    return start + np.arange(images)[:, None, None] * moves


def covered(groups, tracks, anchors, margin=MARGIN):
    """Return (image, point) bool, the pairs that lie well inside a crop in which their point is known too."""
    found = np.zeros(tracks.shape[:2], bool)
    for group in groups:
        images = list(group.chunk.images)
        inside = (np.abs(tracks - group.centres[:, None]) <= EXTENT / 2 - margin + 1e-6).all(-1)
        for point in group.members:
            if anchors[point] in images and inside[anchors[point], point]:
                found[images, point] |= inside[images, point]
    return found


@pytest.mark.parametrize("several", [False, True])
def test_every_pair_is_covered_by_chunks_that_hold_the_image_of_the_query(several):
    tracks = moving()
    anchors = np.arange(40) % 4 * 3 if several else np.full(40, 5)
    groups = cover_pairs(tracks, np.ones((12, 40), bool), anchors, EXTENT, MARGIN, 6)
    assert covered(groups, tracks, anchors).all()
    for group in groups:
        images = group.chunk.images
        assert len(images) <= 6
        assert list(images) == sorted(set(images))
        assert set(group.chunk.anchors) == set(anchors[group.members]) <= set(images)


def test_it_takes_fewer_chunks_than_crops_of_whole_clips():
    tracks, whole = moving(), np.ones((12, 40), bool)
    chunks = len(cover_pairs(tracks, whole, np.zeros(40, int), EXTENT, MARGIN, 6))
    assert chunks < 3 * len(group_points(tracks, whole, EXTENT, MARGIN))  # a clip is three chunks


def test_a_limit_takes_those_that_cover_most():
    tracks, whole, anchors = moving(), np.ones((12, 40), bool), np.zeros(40, int)
    every = cover_pairs(tracks, whole, anchors, EXTENT, MARGIN, 6)
    few = cover_pairs(tracks, whole, anchors, EXTENT, MARGIN, 6, max_chunks=len(every) // 2)
    assert len(few) == len(every) // 2
    assert covered(few, tracks, anchors).mean() > 0.75


def test_what_is_not_trusted_needs_no_crop_and_what_is_not_there_none_at_all():
    tracks, trusted = np.full((4, 2, 2), 10.0), np.ones((4, 2), bool)
    tracks[1:, 1] = 90.0
    trusted[1:, 1] = False
    groups = cover_pairs(tracks, trusted, np.zeros(2, int), EXTENT, MARGIN, 4)
    assert [group.chunk.images for group in groups] == [(0, 1, 2, 3)]
    assert cover_pairs(tracks[:, :0], trusted[:, :0], np.zeros(0, int), EXTENT, MARGIN, 4) == []
    assert cover_pairs(tracks[:1], trusted[:1], np.zeros(2, int), EXTENT, MARGIN, 4) == []


def test_points_that_no_seed_stands_for_are_covered_too(monkeypatch):
    monkeypatch.setattr("analyses.tracking.covering._MOST_SEEDS", 2)
    tracks = np.repeat(np.random.default_rng(1).uniform(0, 200, (1, 30, 2)), 3, 0)
    anchors = np.zeros(30, int)
    groups = cover_pairs(tracks, np.ones((3, 30), bool), anchors, EXTENT, MARGIN, 3)
    assert covered(groups, tracks, anchors).all()
