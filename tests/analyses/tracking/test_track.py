"""Tracking against the published procedure written out, its symmetries, its switches and a floor of accuracy."""

import json
import math
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pytest
from track_helpers import (
    CELL,
    CELLS,
    CHANNELS,
    HEADS,
    LENGTH,
    PLAIN,
    averaged_costs,
    centres_in,
    published_chunks,
    queries_in,
)

import analyses.tracking.matching as matching
import analyses.tracking.tokens as chunk_tokens
from analyses.tracking.track import PUBLISHED, AspectWarning, TrackingOptions, track_points
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnknownLayerError
from store.tracks.point_tracks import PointTracks


def sampled_as_published(matches, point):
    """The (y, x, 2) map of matched cells at a pixel: 2 c / (n - m) - 1, corners aligned, zero outside."""
    margin = (CELLS * CELL) / (64 * CELL)
    x, y = ((2 * (c / CELL) / (CELLS - margin) - 1 + 1) / 2 * (CELLS - 1) for c in point)
    left, top = math.floor(x), math.floor(y)
    total = np.zeros(2)
    for row, in_row in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, in_column in ((left, 1 - (x - left)), (left + 1, x - left)):
            if 0 <= row < CELLS and 0 <= column < CELLS:
                total += in_row * in_column * matches[row, column]
    return total * CELL


@pytest.mark.parametrize(("count", "anchor"), [(14, 0), (14, 5), (13, 12), (6, 0), (3, 1)])
def test_the_published_procedure(backbone, images, count, anchor):
    images, queries = images[:count], queries_in(anchor, seed=count)
    found = track_points(images, queries, backbone, layer=1, step=-1, options=PUBLISHED)
    expected = np.repeat(queries[None, :, 1:], count, 0)
    for order in (list(range(anchor, count)), list(range(anchor, -1, -1))):
        costs = averaged_costs(backbone, images, order, math.sqrt(HEADS)) if len(order) > 1 else {}
        for image, cost in costs.items():
            best = cost.argmax(-1)
            matches = np.stack([best % CELLS, best // CELLS], -1).reshape(CELLS, CELLS, 2)
            expected[image] = [sampled_as_published(matches, point) for point in queries[:, 1:]]
    np.testing.assert_allclose(found.tracks, expected, atol=1e-4)
    assert found.visibility.all()


@pytest.mark.parametrize("heads", [None, [1], [0, 3]])
def test_best_cells_confidence_and_the_way_back(backbone, images, heads):
    images = images[:LENGTH]
    options = replace(PLAIN, max_cycle_error=0)
    found = track_points(images, centres_in(0), backbone, layer=1, step=-1, heads=heads, options=options)
    costs = averaged_costs(backbone, images, list(range(LENGTH)), math.sqrt(CHANNELS), heads)
    for image, cost in costs.items():
        best = cost.argmax(-1)
        np.testing.assert_allclose(found.tracks[image], CELL * (np.stack([best % 10, best // 10], -1) + 0.5), atol=1e-4)
        np.testing.assert_array_equal(found.visibility[image], cost.argmax(0)[best] == np.arange(len(best)))
        around = [
            sum(
                cost[source, y * CELLS + x]
                for y in range(max(0, cell // CELLS - 1), min(CELLS, cell // CELLS + 2))
                for x in range(max(0, cell % CELLS - 1), min(CELLS, cell % CELLS + 2))
            )
            for source, cell in enumerate(best)
        ]
        np.testing.assert_allclose(found.confidence[image], around, atol=1e-5)


@pytest.mark.parametrize("count", [2, 5, 6, 7, 14])
def test_any_number_of_images_and_queries_in_any(backbone, images, count):
    queries = np.concatenate([queries_in(image, 2, seed=image) for image in (0, count // 2, count - 1)])
    found = track_points(images[:count], queries, backbone, layer=1)
    assert found.tracks.shape == (count, 6, 2)
    assert np.isfinite(found.tracks).all()
    own = queries[:, 0].astype(int), np.arange(6)
    np.testing.assert_array_equal(found.tracks[own], queries[:, 1:])
    np.testing.assert_array_equal(found.queries, queries)
    assert found.visibility[own].all()
    np.testing.assert_array_equal(found.confidence[own], 1)
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


def test_the_order_of_queries_is_kept(backbone, images):
    queries = np.concatenate([queries_in(3, 4), queries_in(0, 4, seed=1)])
    shuffled = np.random.default_rng(2).permutation(8)
    plain, other = (track_points(images[:8], asked, backbone, layer=1) for asked in (queries, queries[shuffled]))
    np.testing.assert_allclose(other.tracks, plain.tracks[:, shuffled], atol=1e-4)
    np.testing.assert_array_equal(other.visibility, plain.visibility[:, shuffled])


@pytest.mark.parametrize("smoothness", [0.0, 0.05])
def test_backward_in_time_is_forward_in_the_reversed_clip(backbone, images, smoothness):
    queries, options = queries_in(9), TrackingOptions(smoothness=smoothness)
    mirrored = queries * [-1, 1, 1] + [len(images) - 1, 0, 0]
    forward = track_points(images[::-1], mirrored, backbone, layer=1, options=options)
    backward = track_points(images, queries, backbone, layer=1, options=options)
    np.testing.assert_allclose(forward.tracks[::-1], backward.tracks, atol=1e-4)
    np.testing.assert_allclose(forward.confidence[::-1], backward.confidence, atol=1e-5)


def test_a_clip_of_another_size_is_tracked_as_its_resized_self(backbone, images):
    large = Clip(images[:4], fps=8.0).resized(90, 80)
    queries = queries_in(1) * [1, 2, 2.25]
    found = track_points(large, queries, backbone, layer=1)
    small = track_points(large.resized(40, 40), queries / [1, 2, 2.25], backbone, layer=1)
    np.testing.assert_allclose(found.tracks, small.tracks * [2, 2.25], atol=1e-4)
    other = track_points(images[:4], queries_in(1), backbone, layer=1, size=(24, 24))
    assert other.details["size"] == [24, 24]
    assert not np.allclose(other.tracks, track_points(images[:4], queries_in(1), backbone, layer=1).tracks)


def test_nothing_to_track_does_not_run_the_model(backbone, images, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the model was run")

    monkeypatch.setattr(chunk_tokens, "run_states", refuse)
    monkeypatch.setattr(chunk_tokens.ForwardPass, "of", refuse)
    queries, told = queries_in(0), []
    one = track_points(images[:1], queries, backbone, layer=1, progress=lambda *counts: told.append(counts))
    np.testing.assert_array_equal(one.tracks, queries[None, :, 1:])
    assert one.visibility.all()
    none = track_points(images, [], backbone, layer=1)
    assert none.tracks.shape == (14, 0, 2)
    assert told == []
    with pytest.raises(AssertionError, match="the model was run"):
        track_points(images, queries, backbone, layer=1)


def test_bad_input_is_refused_before_the_model_runs(backbone, images, monkeypatch):
    monkeypatch.setattr(chunk_tokens, "ForwardPass", None)
    query = [[0, 10.0, 10.0]]
    with pytest.raises(InvalidInputError, match=r"query 0 at \(x, y\) = \(41, 10\) lies outside the clip"):
        track_points(images, [[0, 41.0, 10.0]], backbone, layer=1)
    with pytest.raises(InvalidInputError, match=r"images must be a uint8 array"):
        track_points(images / 255, query, backbone, layer=1)
    for layer in (2, -3):
        with pytest.raises(UnknownLayerError, match=f"layer {layer}"):
            track_points(images, query, backbone, layer=layer)
    with pytest.raises(UnknownLayerError, match="step 50"):
        track_points(images, query, backbone, layer=1, step=50)
    with pytest.raises(UnknownLayerError, match="head 4"):
        track_points(images, query, backbone, layer=1, heads=[0, 4])
    with pytest.raises(InvalidInputError, match="no layer is known to track well on"):
        track_points(images, query, backbone)
    with pytest.raises(InvalidInputError):
        track_points(images, query, backbone, layer=1, size=(41, 40))


def test_negative_layers_and_steps_count_from_the_end(backbone, images):
    queries = queries_in(0)
    last, plain = (track_points(images[:4], queries, backbone, layer=x, step=y) for x, y in ((-1, -2), (1, 48)))
    np.testing.assert_array_equal(last.tracks, plain.tracks)
    assert (last.details["layer"], last.details["step"]) == (1, 48)
    other = track_points(images[:4], queries, backbone, layer=0, step=-2)
    assert not np.allclose(other.tracks, plain.tracks)


def test_all_heads_by_name_are_all_heads(backbone, images):
    queries = queries_in(0)
    every = track_points(images[:4], queries, backbone, layer=1, heads=range(4))
    np.testing.assert_array_equal(every.tracks, track_points(images[:4], queries, backbone, layer=1).tracks)


def test_progress_counts_every_chunk(backbone, images):
    told = []
    queries = np.concatenate([queries_in(5, 2), queries_in(0, 2)])
    options = TrackingOptions(overlapping=True)
    found = track_points(
        images, queries, backbone, layer=1, options=options, progress=lambda *counts: told.append(counts)
    )
    total = sum(len(published_chunks(count, LENGTH)) for count in (14, 9, 6))
    assert told == [(done, total) for done in range(1, total + 1)]
    assert found.details["chunks"] == total


def test_passes_that_points_of_several_images_share(backbone, images):
    queries = np.concatenate([queries_in(0, 3), queries_in(4, 2), queries_in(9, 2)])
    found = track_points(images, queries, backbone, layer=1)
    apart = track_points(images, queries, backbone, layer=1, options=TrackingOptions(overlapping=True))
    assert found.details["chunks"] == 4 < apart.details["chunks"]  # the three meet four times, with three others each
    short = LENGTH - 1  # one pass holds the clip, and so it is the pass of the points of image 0 alone
    alone = track_points(images[:short], queries[:3], backbone, layer=1)
    together = track_points(images[:short], queries[:5], backbone, layer=1)
    assert together.details["chunks"] == 1
    np.testing.assert_allclose(together.tracks[:, :3], alone.tracks, atol=1e-4)
    np.testing.assert_allclose(together.confidence[:, :3], alone.confidence, atol=1e-5)
    last = queries[3:5] * [0, 1, 1]  # of the image that is shown last, which is its first backward in time
    backward = track_points(images[:short][::-1], last, backbone, layer=1)
    assert not np.allclose(together.tracks[:, 3:], backward.tracks[::-1])


@pytest.mark.parametrize("how", [{}, {"interleaved": False}, {"interleaved": False, "anchored": False}])
def test_pending_costs_do_not_grow_with_the_clip(backbone, images, monkeypatch, how):
    alive, peaks = weakref.WeakSet(), []

    def watched(*args, **kwargs):
        for frame, cost in frame_costs(*args, **kwargs):
            cost = cost.clone()  # one tensor of its own, so that counting tensors counts memory
            alive.add(Held(cost))
            peaks[-1] = max(peaks[-1], len(alive))
            yield frame, cost

    class Held:
        """Weakly hashable by identity, as a tensor is not by value; lives as long as the tensor."""

        def __init__(self, cost):
            cost.held_by = self

    frame_costs = matching.frame_costs
    monkeypatch.setattr(matching, "frame_costs", watched)
    for count in (24, 48):
        peaks.append(0)
        options = TrackingOptions(max_cycle_error=np.inf, **how)
        clip = np.resize(images, (count, *images.shape[1:]))
        track_points(clip, queries_in(0, 1), backbone, layer=0, options=options)
    assert peaks[0] == peaks[1] <= LENGTH + 1


def test_a_small_budget_changes_nothing(backbone, images):
    queries = queries_in(2)
    plain, bounded = (
        track_points(images[:8], queries, backbone, layer=1, budget_bytes=size) for size in (2**28, 60_000)
    )
    np.testing.assert_allclose(bounded.tracks, plain.tracks, atol=1e-4)
    np.testing.assert_array_equal(bounded.visibility, plain.visibility)


def test_a_stretched_clip_is_warned_of(backbone, images):
    wide = Clip(images[:2], fps=8.0).resized(40, 60)
    with pytest.warns(AspectWarning) as caught:
        track_points(wide, queries_in(0), backbone, layer=1)
    assert [str(one.message) for one in caught] == [
        "the clip of 40 x 60 px is shown as 40 x 40 px (height x width), narrower by a factor of 1.50. Of about its "
        "own aspect is size=(40, 64)."
    ]
    assert caught[0].filename == __file__
    with pytest.warns(AspectWarning, match=r"wider by a factor of 1\.30"):
        track_points(Clip(images[:2], fps=8.0).resized(52, 40), queries_in(0), backbone, layer=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        track_points(Clip(images[:2], fps=8.0).resized(40, 50), queries_in(0), backbone, layer=1)
        track_points(wide, queries_in(0), backbone, layer=1, size=(32, 48))


def test_details_say_how_and_are_json(backbone, images):
    found = track_points(images[:3], queries_in(0), backbone, layer=1, heads=[0, 2], options=PUBLISHED, seed=3)
    saved = json.loads(json.dumps(dict(found.details), allow_nan=False))
    expected = {"layer": 1, "step": 49, "heads": [0, 2], "seed": 3, "geometry": "difftrack-tracking", "refine": False}
    assert expected.items() <= saved.items()
    assert 0 < saved["seconds_in_model"] <= saved["seconds"]
    again = PointTracks.from_dataset(found.to_dataset())
    np.testing.assert_array_equal(again.tracks, found.tracks)
