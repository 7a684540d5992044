"""Optical flow: subpixel on smooth motion, both ways in time, lost where it is covered or leaves."""

import sys

import numpy as np
import pytest
from scipy import ndimage

from analyses.optical_flow import flow_at
from analyses.trackers.optical_flow import FlowTracker
from store.errors import InvalidInputError, MissingOpenCVError
from store.scenes.scene import make_scene

RNG = np.random.default_rng(3)
WAVES = [(RNG.uniform(-0.5, 0.5, 2), RNG.uniform(0, 6, 3)) for _ in range(8)]


def pattern(shifts, height=64, width=80):
    """Images of a smooth pattern that has moved by each (x, y) shift."""
    y, x = np.mgrid[:height, :width] + 0.5
    images = []
    for right, down in shifts:
        waves = [np.sin(wave[0] * (x - right) + wave[1] * (y - down) + phase[:, None, None]) for wave, phase in WAVES]
        images.append(128 + 22 * np.sum(waves, axis=0))
    return np.clip(np.moveaxis(np.stack(images), 1, -1), 0, 255).astype(np.uint8)


def errors(found, expected):
    return np.linalg.norm(found.tracks - expected, axis=-1)


def test_a_smooth_motion_is_followed_within_a_fraction_of_a_pixel_from_any_image():
    shifts = np.array([[1.3 * n, -0.7 * n] for n in range(6)])
    queries = np.array([[image, x, y] for image in (0, 3, 5) for x in (20.5, 40.0, 60.0) for y in (16.0, 30.5, 48.0)])
    expected = queries[:, 1:] + shifts[:, None] - shifts[queries[:, 0].astype(int)]
    found = FlowTracker()(pattern(shifts), queries)
    assert np.median(errors(found, expected)) < 0.1
    assert errors(found, expected).max() < 0.5
    assert found.visibility.all()
    assert (found.confidence > 0.5).all()


def test_the_background_of_a_scene_is_followed():
    medians = []
    for seed in range(4):
        scene = make_scene(seed, images=8)
        queries = np.concatenate([np.zeros((100, 1)), scene.tracks[0]], axis=1)
        found = FlowTracker()(scene.images, queries)
        medians.append(np.median(errors(found, scene.tracks)[scene.visibility]))
    assert np.median(medians) < 0.5


def test_what_is_covered_is_lost_and_stays_lost_while_the_rest_is_seen():
    images = np.repeat(pattern([(0, 0)], 80, 120), 8, axis=0)
    cover = pattern([(40, 7)], 30, 20)[0]
    for n in range(8):
        images[n, 25:55, 4 + 6 * n : 24 + 6 * n] = cover
    # passed by the cover; far from it; on it
    found = FlowTracker()(images, [[0, 40.0, 40.0], [0, 40.0, 70.0], [0, 14.0, 40.0]])
    assert found.visibility[:2, 0].all()
    assert not found.visibility[4:, 0].any()
    assert found.visibility[:, 1:].all()
    np.testing.assert_allclose(found.tracks[:, 1], [[40.0, 70.0]] * 8, atol=0.3)
    np.testing.assert_allclose(found.tracks[:, 2], [[14.0 + 6 * n, 40.0] for n in range(8)], atol=0.5)
    np.testing.assert_array_equal(found.visibility, found.confidence >= 0.5)


def test_outside_the_image_points_are_hidden():
    shifts = np.array([[2.0 * n, 0.0] for n in range(8)])
    found = FlowTracker()(pattern(shifts), [[0, 74.0, 30.0], [0, 30.0, 30.0]])
    outside = found.tracks[:, 0, 0] > 80
    assert outside[-1]
    assert not found.visibility[outside, 0].any()
    assert found.visibility[:, 1].all()


def test_time_backwards_is_time_forwards_of_the_reversed_clip():
    shifts = np.array([[1.5 * n, 0.5 * n] for n in range(5)])
    images = pattern(shifts)
    back = FlowTracker()(images, [[4, 40.0, 30.0]])
    forth = FlowTracker()(images[::-1], [[0, 40.0, 30.0]])
    np.testing.assert_allclose(back.tracks[::-1], forth.tracks)
    np.testing.assert_allclose(back.confidence[::-1], forth.confidence)


def test_flow_is_read_bilinearly_at_pixel_centres_and_held_at_the_border():
    flow = RNG.normal(size=(7, 9, 2)).astype(np.float32)
    points = np.concatenate([RNG.uniform(-2, 11, (200, 2)), [[0.5, 0.5], [8.5, 6.5], [9.0, 7.0]]])
    expected = [
        ndimage.map_coordinates(flow[..., axis], [points[:, 1] - 0.5, points[:, 0] - 0.5], order=1, mode="nearest")
        for axis in range(2)
    ]
    np.testing.assert_allclose(flow_at(flow, points), np.stack(expected, -1), atol=1e-5)
    np.testing.assert_allclose(flow_at(flow[:1, :1], points), np.broadcast_to(flow[0, 0], (203, 2)))


def test_without_opencv_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingOpenCVError, match=r"pip install 'ditprobe\[vision\]'"):
        FlowTracker()(pattern([(0, 0)]), [[0, 3.0, 3.0]])


def test_options_must_be_positive():
    with pytest.raises(InvalidInputError, match="got 0 and 1"):
        FlowTracker(side=0)
    with pytest.raises(InvalidInputError, match="tolerance must be a number; got nan"):
        FlowTracker(tolerance=float("nan"))
