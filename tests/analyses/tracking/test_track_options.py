"""Options of tracking: chunks, noise, refinement, costs, visibility."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from track_helpers import (
    CELL,
    CELLS,
    CHANNELS,
    HEADS,
    LENGTH,
    PLAIN,
    averaged_costs,
    captured,
    centres_in,
    cost_of,
    published_chunks,
    queries_in,
)

import analyses.tracking.propagate as propagate
from analyses.trackers.patches import PatchTracker
from analyses.tracking.aggregation import Support
from analyses.tracking.track import PUBLISHED, TrackingOptions, track_points
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.scenes.scene import make_scene
from store.tracks.point_tracks import PointTracks

BY_CELL = replace(PLAIN, refine=True, max_cycle_error=1.5)


def tracked(backbone, images, count=12, anchor=0, options=PLAIN, **how):
    return track_points(images[:count], centres_in(anchor), backbone, layer=1, options=options, **how).tracks


@pytest.mark.parametrize(
    "how",
    [{"interleaved": False}, {"interleaved": False, "anchored": False}, {"average": False}, {"encode": "clip"}],
)
def test_switches_of_chunks_change_long_clips_only(backbone, images, how):
    options = replace(PLAIN, **how)
    for count in (2, 4, LENGTH):
        np.testing.assert_allclose(
            tracked(backbone, images, count, options=options), tracked(backbone, images, count), atol=1e-4
        )
    assert not np.allclose(tracked(backbone, images, options=options), tracked(backbone, images))


def test_without_averaging_the_first_chunk_counts(backbone, images):
    order = list(range(8))
    found = tracked(backbone, images, 8, options=replace(PLAIN, average=False))
    first = {}
    for chunk in published_chunks(8, LENGTH):
        query, key = captured(backbone, images, chunk)
        for frame, image in enumerate(chunk[1:], start=1):
            first.setdefault(image, cost_of(query, key, frame, math.sqrt(CHANNELS)).argmax(-1))
    for image in order[1:]:
        cells = np.stack([first[image] % CELLS, first[image] // CELLS], -1)
        np.testing.assert_allclose(found[image], CELL * (cells + 0.5), atol=1e-4)


def test_without_the_anchor_each_chunk_goes_on_where_the_last_ended(backbone, images):
    options = replace(BY_CELL, interleaved=False, anchored=False)
    found = track_points(images[:11], queries_in(0), backbone, layer=1, options=options)
    middle = np.column_stack([np.zeros(9), np.clip(found.tracks[5], 0, 40)])
    rest = track_points(images[5:11], middle, backbone, layer=1, options=options)
    np.testing.assert_allclose(found.tracks[6:], rest.tracks[1:], atol=1e-4)


def test_fewer_images_a_chunk_are_another_result(backbone, images):
    options = replace(PLAIN, chunk_images=3)
    assert not np.allclose(tracked(backbone, images, 6, options=options), tracked(backbone, images, 6))
    two = replace(PLAIN, chunk_images=2)
    alone = tracked(backbone, images[[0, 4]], 2)
    np.testing.assert_allclose(tracked(backbone, images, 6, options=two)[4], alone[1], atol=1e-4)


def test_noise_and_its_seed(backbone, images):
    how = {"count": 3, "step": 25}
    clean, noisy = (replace(PLAIN, noise=noise) for noise in ("clean", "forward"))
    plain = tracked(backbone, images, options=clean, **how)
    np.testing.assert_array_equal(tracked(backbone, images, options=clean, seed=1, **how), plain)
    first = tracked(backbone, images, options=noisy, **how)
    np.testing.assert_array_equal(tracked(backbone, images, options=noisy, **how), first)
    assert not np.allclose(first, plain)
    assert not np.allclose(first, tracked(backbone, images, options=noisy, seed=1, **how))
    inverted = replace(PLAIN, noise="inversion")
    found = tracked(backbone, images, count=3, options=inverted, steps=4, step=1)
    assert not np.allclose(found, tracked(backbone, images, count=3, options=clean, steps=4, step=1))


def test_refinement_stays_around_the_best_cell(backbone, images):
    plain, refined = (tracked(backbone, images, options=replace(BY_CELL, refine=refine)) for refine in (False, True))
    assert 0.01 < np.abs(refined - plain).max() <= CELL
    assert (np.abs((plain - CELL / 2) / CELL - np.round((plain - CELL / 2) / CELL)) < 1e-5).all()


def test_candidates_matter_only_with_stiffness(backbone, images):
    many, one = (tracked(backbone, images, options=replace(BY_CELL, candidates=count)) for count in (9, 1))
    np.testing.assert_array_equal(many, one)


def test_the_scale_is_the_root_of_channels_or_of_heads(backbone, images):
    for scale, divisor in (("channels", math.sqrt(CHANNELS)), ("heads", math.sqrt(HEADS))):
        found = track_points(images[:4], centres_in(0), backbone, layer=1, step=-1, options=replace(PLAIN, scale=scale))
        cost = averaged_costs(backbone, images[:4], list(range(4)), divisor)[2]
        best = cost.argmax(-1)
        expected = CELL * (np.stack([best % CELLS, best // CELLS], -1) + 0.5)
        np.testing.assert_allclose(found.tracks[2], expected, atol=1e-4)


def test_support_is_what_its_sums_of_costs_say(backbone, images):
    """The whole procedure with one switch on, from costs by definition."""
    queries = queries_in(0, 6, seed=4)
    found = track_points(images[:4], queries, backbone, layer=1, step=-1, options=replace(PLAIN, support=1.0))
    support = Support.around(torch.as_tensor(queries[:, 1:]), TokenLayout(4, CELLS, CELLS, 40, 40, 4), 1.0)
    for image, cost in averaged_costs(backbone, images[:4], list(range(4)), math.sqrt(CHANNELS)).items():
        rows = support.aggregate(torch.from_numpy(cost)[support.sources], slice(None)).numpy()
        best = rows.argmax(-1)
        moved = np.stack([best % (CELLS + 2), best // (CELLS + 2)], -1) - support.start.numpy()
        np.testing.assert_allclose(found.tracks[image], queries[:, 1:] + CELL * moved, atol=1e-4)


@pytest.mark.parametrize("limit", [0.5, 0.05])
def test_slow_channels_alone_are_matched(images, limit):
    """Against costs from the kept channels by definition: frame 8, rows 12, columns 12, the first pairs fastest."""
    torch.manual_seed(1)
    rotary = load_backbone(new_pipeline(MiniConfig(layers=1, rotary=True)))
    keep = [
        first + channel
        for first, count in ((0, 8), (8, 12), (20, 12))
        for channel in range(count)
        if 10_000 ** (-2 * (channel // 2) / count) <= limit
    ]
    assert len(keep) in (26, 20)
    options = replace(PLAIN, max_rotation=limit)
    found = track_points(images[:3], centres_in(0), rotary, layer=0, step=-1, options=options)
    query, key = captured(rotary, images, [0, 1, 2], layer=0)
    cost = cost_of(query[..., keep], key[..., keep], 2, math.sqrt(len(keep)))
    best = cost.argmax(-1)
    np.testing.assert_allclose(found.tracks[2], CELL * (np.stack([best % CELLS, best // CELLS], -1) + 0.5), atol=1e-4)
    every = track_points(images[:3], centres_in(0), rotary, layer=0, step=-1, options=PLAIN)
    assert not np.allclose(every.tracks, found.tracks)
    with pytest.raises(
        InvalidInputError, match=r"max_rotation=0\.0001 leaves no channel of .*, whose slowest turn by 0\.00046"
    ):
        track_points(images[:3], centres_in(0), rotary, layer=0, options=replace(PLAIN, max_rotation=1e-4))


def test_added_positions_have_no_fast_channels(backbone, images):
    few, every = (tracked(backbone, images, 3, options=replace(PLAIN, max_rotation=limit)) for limit in (1e-9, np.inf))
    np.testing.assert_array_equal(few, every)


def test_points_outside_the_image_are_hidden_unless_all_are_visible(backbone, images, monkeypatch):
    place = propagate.PointState(np.array([[41.0, 10.0], [20.0, 10.0]]), np.ones(2), np.zeros(2))
    monkeypatch.setattr(propagate.Propagator, "propagate", lambda self, groups, points: {0: {1: place}})
    queries = queries_in(0, 2)
    found = track_points(images[:2], queries, backbone, layer=1)
    assert found.visibility[1].tolist() == [False, True]
    assert track_points(images[:2], queries, backbone, layer=1, options=PUBLISHED).visibility.all()


@pytest.mark.parametrize("anchor", [0, 11])
def test_stiffness_shortens_the_way(backbone, images, anchor):
    ways = []
    for smoothness in (0.0, 0.05, 1e4):
        found = tracked(backbone, images, 12, anchor, replace(PLAIN, candidates=5, smoothness=smoothness))
        ways.append(np.minimum((np.diff(found, axis=0) / CELL) ** 2 @ [1, 1], 16).sum())
    assert ways[0] > ways[1] > ways[2]


def test_hidden_points_depend_on_the_limits_alone(backbone, images):
    queries = queries_in(4, 20)
    seen = [
        track_points(images[:9], queries, backbone, layer=1, options=TrackingOptions(max_cycle_error=limit))
        for limit in (0, 2, 5, np.inf)
    ]
    for less, more in itertools.pairwise(seen):
        np.testing.assert_array_equal(less.tracks, more.tracks)
        assert (less.visibility <= more.visibility).all()
        assert less.visibility.sum() < more.visibility.sum()
    assert seen[-1].visibility.all()
    limit = float(np.median(seen[-1].confidence))
    options = TrackingOptions(max_cycle_error=np.inf, min_confidence=limit)
    found = track_points(images[:9], queries, backbone, layer=1, options=options)
    np.testing.assert_array_equal(found.visibility, seen[-1].confidence >= limit)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"geometry": "difftrack"}, "unknown geometry 'difftrack'. Known: 'exact', 'difftrack-tracking'."),
        ({"encode": "video"}, "unknown encode 'video'. Known: 'images', 'clip'."),
        ({"noise": "white"}, "unknown noise 'white'. Known: 'clean', 'forward', 'inversion'."),
        ({"window": 0}, "window must be at least 1; got 0."),
        ({"candidates": 0}, "candidates must be at least 1; got 0."),
        ({"smoothness": -1.0}, "smoothness must be at least 0; got -1.0."),
        ({"max_cycle_error": math.nan}, "max_cycle_error must be a number; got nan."),
        ({"min_confidence": 2}, "min_confidence must lie between 0 and 1; got 2."),
        ({"chunk_images": 1}, "chunk_images must be at least 2; got 1."),
        ({"anchored": False}, "interleaved=True needs anchored=True: chunks have no image in common otherwise."),
        ({"scale": "cells"}, "unknown scale 'cells'. Known: 'channels', 'heads'."),
        ({"support": math.inf}, "support must be finite; got inf."),
        ({"support": -0.5}, "support must be at least 0; got -0.5."),
        ({"sharpness": 0.0}, "sharpness must be positive; got 0.0."),
        ({"max_rotation": -1.0}, "max_rotation must be at least 0; got -1.0."),
        (
            {"geometry": "difftrack-tracking", "support": 0.5},
            "support=0.5 adds up costs at exact places, which geometry='difftrack-tracking' does not have. Use "
            "support=0, or geometry='exact'.",
        ),
    ],
)
def test_options_that_cannot_be(how, text):
    with pytest.raises(InvalidInputError) as error:
        TrackingOptions(**how)
    assert str(error.value) == text


def test_the_bundled_backbone_follows_points():
    mini, hits = load_backbone("mini", device="cpu"), {"ours": [], "published": [], "still": [], "patches": []}
    patches = PatchTracker.on_grid(TokenLayout(2, CELLS, CELLS, 40, 40, 2))
    for seed in range(5000, 5002):
        scene = make_scene(seed, images=12)
        queries = np.column_stack([np.zeros(scene.tracks.shape[1]), scene.tracks[0]])
        found = {
            "ours": track_points(scene, queries, mini),
            "published": track_points(scene, queries, mini, options=PUBLISHED),
            "still": PointTracks.still(queries, 12),
            "patches": patches(scene.images, queries),
        }
        for name, tracks in found.items():
            far = np.linalg.norm(tracks.tracks - scene.tracks, axis=-1)
            hits[name].extend(far[1:][scene.visibility[1:]] < CELL)
    share = {name: float(np.mean(values)) for name, values in hits.items()}
    assert share["ours"] > share["still"] + 0.1, share
    assert share["ours"] > share["patches"] + 0.1, share
    assert share["ours"] > share["published"] + 0.1, share
    assert share["ours"] > 0.85, share
