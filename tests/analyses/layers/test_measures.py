"""What a sweep measures, against the public functions one by one."""

import math

import numpy as np
import pytest
import torch

from analyses.attention.affinity import affinity
from analyses.correspondence.matching import match_features, match_points, match_points_by_head
from analyses.correspondence.resampling import to_image_rate
from analyses.layers.ground_truth import Target, Truth
from analyses.layers.measures import Measuring, measure
from store.errors import InvalidInputError
from store.layout import TokenLayout

HEADS, CHANNELS = 2, 4
LAYOUT = TokenLayout(3, 5, 7, 60, 140, 9, text_tokens=6)


def tokens(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query, key = (1.5 * torch.randn(HEADS, 3, 5, 7, CHANNELS, generator=generator) for _ in range(2))
    return (
        query,
        key,
        torch.randn(HEADS, 6, CHANNELS, generator=generator),
        torch.randn(3, 5, 7, 8, generator=generator),
    )


def tracks_and_visibility() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    tracks = rng.random((9, 40, 2)) * [140, 60]
    tracks[:, :8] = tracks[0, :8]
    visibility = rng.random((9, 40)) < 0.8
    tracks[0, 20] = [150, 20]
    return tracks, visibility


def looped_accuracy(
    predicted: np.ndarray, tracks: np.ndarray, visibility: np.ndarray, preset: str, moving: bool
) -> float:
    hits = []
    for image in range(9):
        for point in range(tracks.shape[1]):
            if not visibility[image, point] or (preset == "exact" and (image == 0 or not visibility[0, point])):
                continue
            moved = tracks[image, point] - tracks[0, point]
            if moving and not math.hypot(moved[0] / 20, moved[1] / 12) > 1:
                continue
            error = predicted[image, point] - tracks[image, point]
            hits.append(math.hypot(error[0] / 20, error[1] / 12) < 0.9)
    return 100 * float(np.mean(hits))


@pytest.mark.parametrize("preset", ["exact", "difftrack"])
def test_measures_are_those_of_the_public_functions(preset: str) -> None:
    query, key, text, features = tokens()
    tracks, visibility = tracks_and_visibility()
    inside = (tracks[0] <= [140, 60]).all(-1)
    kept = inside & visibility[0] if preset == "exact" else inside
    truth = Truth.of_tracks(tracks, visibility, LAYOUT, preset)
    np.testing.assert_array_equal(truth.points, tracks[0, kept])
    target = Target.of(truth, LAYOUT, preset=preset, threshold_cells=0.9)
    found = measure(query, key, target, text_key=text, features=features, per_head=True)

    tracks, visibility = tracks[:, kept], visibility[:, kept]
    points = torch.from_numpy(tracks[0])

    def accuracy(matched: torch.Tensor, moving: bool = False) -> float:
        predicted = to_image_rate(matched, LAYOUT, 9, preset).numpy()
        return looped_accuracy(predicted, tracks, visibility, preset, moving)

    matched = match_points(query, key, points, LAYOUT, preset=preset)
    assert found["accuracy"] == pytest.approx(accuracy(matched))
    assert found["moving_accuracy"] == pytest.approx(accuracy(matched, moving=True))
    by_features = match_features(features, points, LAYOUT, preset=preset)
    assert found["feature_accuracy"] == pytest.approx(accuracy(by_features))
    heads = match_points_by_head(query, key, points, LAYOUT, preset=preset)
    np.testing.assert_allclose(found["head_accuracy"], [accuracy(head) for head in heads])
    np.testing.assert_allclose(found["head_moving_accuracy"], [accuracy(head, moving=True) for head in heads])
    expected = affinity(query, key, points, visibility, LAYOUT, text, preset=preset)
    np.testing.assert_allclose(found["confidence"], expected.confidence)
    np.testing.assert_allclose(found["attention_score"], expected.attention_score)
    assert found["head_confidence"].shape == (HEADS, 3)
    np.testing.assert_allclose(found["head_attention_score"].mean(0), found["attention_score"], rtol=1e-5)
    still = np.broadcast_to(tracks[0], tracks.shape)
    assert target.static_accuracy == pytest.approx(looped_accuracy(still, tracks, visibility, preset, False))


def test_a_static_guess_scores_zero_on_what_moves() -> None:
    tracks, visibility = tracks_and_visibility()
    for threshold in (0.5, 1.0, 2.5):
        target = Target.of(Truth.of_tracks(tracks, visibility, LAYOUT), LAYOUT, threshold_cells=threshold)
        still = target.corners.points.expand(1, 3, -1, -1)
        assert target.accuracies(still)[1, 0] == 0
        assert 0 < target.moving_pairs < target.pairs


def test_without_truth_there_is_no_accuracy_but_everything_else() -> None:
    query, key, text, features = tokens()
    target = Target.of(Truth.of_grid(LAYOUT), LAYOUT)
    found = measure(query, key, target, text_key=text, features=features, per_head=True)
    assert np.isnan([found["accuracy"], found["moving_accuracy"], found["feature_accuracy"]]).all()
    assert np.isnan(found["head_accuracy"]).all()
    assert np.isfinite(found["confidence"]).all()
    assert math.isnan(target.static_accuracy)
    assert (target.pairs, target.moving_pairs) == (0, 0)


def test_without_features_only_their_accuracy_is_missing() -> None:
    query, key, *_ = tokens()
    target = Target.of(Truth.of_tracks(*tracks_and_visibility(), LAYOUT), LAYOUT)
    found = measure(query, key, target)
    assert np.isnan(found["feature_accuracy"])
    assert np.isfinite(found["accuracy"])
    assert np.isnan(found["confidence"][2])


def test_a_grid_has_at_most_so_many_points_at_cell_centres() -> None:
    large = TokenLayout(3, 30, 45, 480, 720, 9)
    points = Truth.of_grid(large, max_points=400).points
    assert len(points) == 345
    np.testing.assert_array_equal(points % 16, 8)
    assert len(np.unique(points, axis=0)) == 345


def test_recorded_and_live_tensors_measure_the_same() -> None:
    query, key, text, features = (array.half() for array in tokens(3))
    target = Target.of(Truth.of_tracks(*tracks_and_visibility(), LAYOUT), LAYOUT)
    # A live capture is a view of (token, head, channel) memory, in another dtype that holds the same numbers.
    live = [array.float().permute(1, 2, 3, 0, 4).contiguous().permute(3, 0, 1, 2, 4) for array in (query, key)]
    stored = measure(
        query.numpy(), key.numpy(), target, text_key=text.numpy(), features=features.numpy(), per_head=True
    )
    seen = measure(*live, target, text_key=text.float(), features=features.float(), per_head=True)
    assert stored.keys() == seen.keys()
    for name, value in stored.items():
        np.testing.assert_array_equal(value, seen[name])


def test_refusals() -> None:
    query, key, _, features = tokens()
    tracks, visibility = tracks_and_visibility()
    target = Target.of(Truth.of_grid(LAYOUT), LAYOUT)
    known = Target.of(Truth.of_tracks(tracks, visibility, LAYOUT), LAYOUT)
    hole = tracks.copy()
    hole[3, np.flatnonzero(visibility[3])[0]] = np.nan
    for call, message in [
        (
            lambda: Truth.of_tracks(tracks[:8], visibility[:8], LAYOUT),
            "tracks need the shape (image, point, 2) with 9 images; got (8, 40, 2).",
        ),
        (
            lambda: Truth.of_tracks(tracks, visibility[:, :3], LAYOUT),
            "visibility must be bool (image, point) = (9, 40); got bool of shape (9, 3).",
        ),
        (
            lambda: Truth.of_tracks(hole, visibility, LAYOUT),
            "a visible point has a track that is not finite. Mark it as hidden.",
        ),
        (
            lambda: Target.of(Truth.of_grid(LAYOUT), LAYOUT, threshold_cells=-1),
            "threshold_cells must be above 0; got -1.",
        ),
        (
            lambda: Measuring(preset="exactly"),
            "unknown preset 'exactly'. Known: 'exact', 'difftrack'.",
        ),
        (
            lambda: measure(query[:, :2], key[:, :2], target),
            "query needs the shape (head, frame, y, x, channel) with (frame, y, x) = (3, 5, 7); got (2, 2, 5, 7, 4).",
        ),
        (
            lambda: measure(query, key, known, features=features[:2]),
            "features need the shape (frame, y, x, channel) with 3 frames of 5 x 7 cells; got (2, 5, 7, 8).",
        ),
    ]:
        with pytest.raises(InvalidInputError) as error:
            call()
        assert str(error.value) == message
