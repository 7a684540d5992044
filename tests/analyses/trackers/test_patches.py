"""Raw patches: exact where whole cells move, equal to the plain function, hidden where something covers."""

import numpy as np
import pytest

from analyses.correspondence.patches import match_patches
from analyses.trackers.patches import PatchTracker
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.scenes.scene import make_scene


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rolled(height=48, width=64, step=8, images=4):
    return np.stack([np.roll(noise(height, width), step * n, axis=1) for n in range(images)])


def test_whole_cells_that_move_are_followed_exactly_from_any_image():
    queries = np.array([[2, 20.0, 12.0], [0, 13.25, 22.5], [3, 43.0, 30.0]])
    found = PatchTracker(cell=8)(rolled(), queries)
    shift = 8.0 * (np.arange(4)[:, None] - queries[:, 0])
    np.testing.assert_allclose(found.tracks[..., 0], queries[:, 1] + shift, atol=1e-6)
    np.testing.assert_allclose(found.tracks[..., 1], np.broadcast_to(queries[:, 2], (4, 3)), atol=1e-6)
    assert found.visibility.all()
    np.testing.assert_allclose(found.confidence, 1, atol=1e-6)


def test_equal_to_matching_a_layout_of_as_many_frames():
    scene = make_scene(11, images=5)
    points = np.random.default_rng(1).uniform(0, 40, (30, 2))
    expected = match_patches(scene.images, points, TokenLayout(5, 10, 10, 40, 40, 5))
    queries = np.concatenate([np.zeros((30, 1)), points], axis=1)
    found = PatchTracker.on_grid(TokenLayout(2, 10, 10, 40, 40, 5))(scene.images, queries)
    np.testing.assert_array_equal(found.tracks, expected)


def test_the_working_size_decides_what_a_cell_is():
    large = rolled().repeat(2, axis=1).repeat(3, axis=2)  # 96 x 192: twice as high, three times as wide
    found = PatchTracker(cell=8, size=(48, 64))(large, [[0, 60.0, 24.0]])
    np.testing.assert_allclose(found.tracks[:, 0], [[60.0 + 24 * n, 24.0] for n in range(4)], atol=1e-5)
    assert found.details["size"] == [48, 64]


def test_without_a_size_the_nearest_whole_cells_are_taken():
    images = rolled(45, 61)[:2]
    found = PatchTracker(cell=8)(images, [[0, 30.0, 20.0]])
    assert found.details["size"] == [48, 64]
    assert PatchTracker(cell=8)(images[:, :3, :3], [[0, 1.0, 1.0]]).details["size"] == [8, 8]


def test_what_is_covered_is_hidden():
    images = np.stack([noise(48, 64)] * 3)
    images[1:, 16:32, 16:40] = noise(16, 24, seed=9)
    queries = np.array([[0, 28.0, 20.0], [0, 52.0, 12.0], [0, 4.0, 44.0]])
    found = PatchTracker(cell=8)(images, queries)
    np.testing.assert_array_equal(found.visibility, [[True, True, True], [False, True, True], [False, True, True]])
    assert (found.confidence[1:, 0] < 0.5).all()
    everything = PatchTracker(cell=8, max_cycle_error=np.inf)(images, queries)
    assert everything.visibility.all()
    np.testing.assert_array_equal(everything.tracks, found.tracks)


def test_a_small_budget_changes_nothing():
    scene = make_scene(12, images=3)
    queries = np.array([[0, x, y] for x in (5.0, 18.0, 33.0) for y in (6.0, 21.0)])
    plain, bounded = (PatchTracker(4, budget_bytes=size)(scene.images, queries) for size in (2**28, 3200))
    np.testing.assert_allclose(bounded.tracks, plain.tracks, atol=1e-6)


def test_options_that_make_no_grid_are_refused():
    with pytest.raises(InvalidInputError, match="cell must be at least 1 pixel; got 0"):
        PatchTracker(cell=0)
    with pytest.raises(InvalidInputError, match=r"size 40 x 42 .* is not a multiple of its cell, 4 px"):
        PatchTracker(cell=4, size=(40, 42))
    with pytest.raises(InvalidInputError, match="max_cycle_error must be at least 0"):
        PatchTracker(max_cycle_error=-1)
    with pytest.raises(InvalidInputError, match="square cells of whole pixels; got 16 x 8 px"):
        PatchTracker.on_grid(TokenLayout(2, 5, 14, 80, 112, 2))
