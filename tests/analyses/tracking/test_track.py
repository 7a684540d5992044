"""Tracking against the published procedure written out, its symmetries, its switches and a floor of accuracy."""

import itertools
import json
import math
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

import analyses.tracking.matching as matching
import analyses.tracking.propagate as propagate
import analyses.tracking.tokens as chunk_tokens
from analyses.trackers.patches import PatchTracker
from analyses.tracking.aggregation import Support
from analyses.tracking.track import PUBLISHED, AspectWarning, TrackingOptions, track_points
from probe import load_backbone, run_clip
from probe.mini import MiniConfig, new_pipeline
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnknownLayerError
from store.layout import TokenLayout
from store.scenes.scene import make_scene
from store.selection import Selection
from store.tracks.point_tracks import PointTracks

CELLS, CELL, LENGTH, HEADS, CHANNELS = 10, 4.0, 6, 4, 32
PLAIN = replace(PUBLISHED, geometry="exact", scale="channels")
BY_CELL = replace(PLAIN, refine=True, max_cycle_error=1.5)


@pytest.fixture(scope="module")
def backbone():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield load_backbone(new_pipeline(MiniConfig(layers=2)))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images():
    return make_scene(7, images=14).images


def queries_in(image, count=9, seed=0, side=40.0):
    points = np.random.default_rng(seed).uniform(0, side, (count, 2))
    return np.column_stack([np.full(count, image), points])


def centres_in(image):
    """Every cell centre as a query."""
    cells = np.stack(np.meshgrid(np.arange(CELLS), np.arange(CELLS)), -1).reshape(-1, 2)
    return np.column_stack([np.full(len(cells), image), CELL * (cells + 0.5)])


# By definition -----------------------------------------------------------------------------------------------------


def captured(backbone, images, numbers, layer=1, step=-1, heads=None):
    """q and k (head, frame, cell, channel) in float64 of exactly these images, by the plain way to show a clip."""
    captures = []
    selection = Selection([step], [layer], heads=heads)
    run_clip(backbone, Clip(images[list(numbers)], fps=8.0), selection, captures.append, prompt="")
    (capture,) = captures
    return tuple(part.flatten(2, 3).double().numpy() for part in (capture.query, capture.key))


def softmax(values):
    exped = np.exp(values - values.max(-1, keepdims=True))
    return exped / exped.sum(-1, keepdims=True)


def cost_of(query, key, frame, divisor):
    """(cell of frame 0, cell of the frame)."""
    forward = softmax(query[:, 0] @ key[:, frame].swapaxes(-1, -2) / divisor)
    backward = softmax(query[:, frame] @ key[:, 0].swapaxes(-1, -2) / divisor)
    return ((forward + backward.swapaxes(-1, -2)) / 2).mean(0)


def published_chunks(count, length):
    interval = max(1, count // (length - 1))
    missing, chunks = set(range(1, count)), []
    start, end = 1, min((length - 2) * interval + 1, count - 1)
    while missing:
        chunks.append([0, *range(start, end + 1, interval)])
        missing -= set(chunks[-1])
        start += 1
        end = min(start + (length - 2) * interval, count - 1)
    return chunks


def averaged_costs(backbone, images, order, divisor, heads=None):
    """By image the mean cost over the chunks that hold it; ``order`` starts with the image of the query."""
    costs = {}
    for chunk in published_chunks(len(order), LENGTH):
        numbers = [order[place] for place in chunk]
        query, key = captured(backbone, images, numbers, heads=heads)
        for frame, image in enumerate(numbers[1:], start=1):
            costs.setdefault(image, []).append(cost_of(query, key, frame, divisor))
    return {image: np.mean(parts, axis=0) for image, parts in costs.items()}


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


# Properties --------------------------------------------------------------------------------------------------------


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
    found = track_points(images, queries, backbone, layer=1, progress=lambda *counts: told.append(counts))
    total = sum(len(published_chunks(count, LENGTH)) for count in (14, 9, 6))
    assert told == [(done, total) for done in range(1, total + 1)]
    assert found.details["chunks"] == total


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


# Switches ----------------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(propagate.Propagator, "propagate", lambda self, groups, points: {1: place})
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


# With weights ------------------------------------------------------------------------------------------------------


def test_the_bundled_backbone_follows_points():
    mini, hits = load_backbone("mini", device="cpu"), {"ours": [], "published": [], "still": [], "patches": []}
    patches = PatchTracker.on_grid(TokenLayout(2, CELLS, CELLS, 40, 40, 2))
    for seed in range(5000, 5004):
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
