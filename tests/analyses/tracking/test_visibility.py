"""Visibility as a probability: it falls with what speaks against a match, and is scored as one."""

import sys

import numpy as np
import pytest
import torch

from analyses.metrics.registry import visibility_brier
from analyses.tracking.closer import LevelTracks
from analyses.tracking.options import TrackingOptions
from analyses.tracking.track import track_points
from analyses.tracking.visibility import visibility_probability, within_limits
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from store.errors import InvalidInputError, MissingOpenCVError
from store.scenes.scene import make_scene

CLIP = (40, 60)


def level(error=0.0, mass=0.8, place=20.0, correction=0.0, looked=True, cell=4.0):
    shape = (3, 4)
    return LevelTracks(
        np.full((*shape, 2), place),
        np.full(shape, mass),
        np.full(shape, error),
        np.array([cell, cell]),
        np.full(shape, correction),
        np.full(shape, looked),
        np.zeros(shape),
    )


def probability(*levels):
    found = visibility_probability(list(levels), CLIP, np.zeros(4, int))
    assert found.shape == (3, 4)
    return found[0, 0]


def test_what_speaks_against_a_match_lowers_the_probability():
    sure = probability(level())
    assert sure > 0.9
    assert probability(level(error=3.0)) < sure
    assert probability(level(mass=0.2)) < sure
    assert probability(level(place=-6.0)) < 0.2
    both = probability(level(), level(cell=2.0))
    assert probability(level(), level(error=4.0, cell=2.0)) < both
    assert probability(level(), level(correction=2.0, cell=2.0)) < both
    assert probability(level(), level(error=9.0), level(cell=2.0)) == both  # the whole image again is not a closer look
    assert probability(level(), level(error=9.0)) == sure


@pytest.mark.parametrize("levels", [[level()], [level(), level(cell=2.0)]], ids=["whole", "closer"])
def test_disagreement_with_flow_lowers_the_probability(levels):
    there, zeros = np.full((3, 4, 2), 20.0), np.zeros((3, 4))

    def with_flow(tracks=there, missed=zeros):
        return visibility_probability(levels, CLIP, np.zeros(4, int), (tracks, missed))[2, 0]

    sure = with_flow()
    assert sure > 0.9
    assert with_flow(missed=zeros + 4) < sure
    assert with_flow(tracks=there - 12) < sure
    assert with_flow(tracks=there - 26) < with_flow(tracks=there - 12)  # the flow leaves the image


def test_limits_are_those_of_the_whole_image():
    options = TrackingOptions(max_cycle_error=0.5)
    assert within_limits([level(), level(error=9.0)], options, CLIP).all()
    assert not within_limits([level(error=0.6)], options, CLIP).any()
    assert not within_limits([level(), level(place=41.0)], options, CLIP).any()


@pytest.mark.parametrize("visibility", ["calibrated", "flow"])
def test_tracks_state_a_probability_when_asked_to(visibility):
    torch.manual_seed(0)
    mini, scene = load_backbone(new_pipeline(MiniConfig(layers=2))), make_scene(7, images=5)
    queries = np.column_stack([np.zeros(scene.tracks.shape[1]), scene.tracks[0]])
    found = track_points(scene, queries, mini, layer=1, options=TrackingOptions(visibility=visibility))
    assert found.details["calibrated"]
    np.testing.assert_array_equal(found.visibility[1:], found.confidence[1:] >= 0.5)
    expected = np.square(found.confidence - scene.visibility)[1:].mean()
    size = (scene.height, scene.width)
    assert visibility_brier(found, scene.tracks, scene.visibility, size) == pytest.approx(expected)
    limits = track_points(scene, queries, mini, layer=1)
    np.testing.assert_array_equal(found.tracks, limits.tracks)
    assert (found.confidence != limits.confidence).any()
    with pytest.raises(InvalidInputError, match="visibility"):
        TrackingOptions(visibility="maybe")


def test_the_flow_of_points_that_are_known_later_is_read_backward():
    """The reference is a clip that is played backward."""
    torch.manual_seed(0)
    mini, scene = load_backbone(new_pipeline(MiniConfig(layers=2))), make_scene(7, images=6)
    shown = np.flatnonzero(scene.visibility[-1])
    queries = np.column_stack([np.full(len(shown), 5.0), scene.tracks[-1, shown]])
    options = TrackingOptions(visibility="flow")
    found = track_points(scene.images, queries, mini, layer=1, options=options)
    again = track_points(scene.images[::-1], queries * [0, 1, 1], mini, layer=1, options=options)
    np.testing.assert_allclose(found.confidence[::-1], again.confidence, atol=1e-3)


def test_flow_without_opencv_is_refused_before_the_model_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    mini, scene = load_backbone(new_pipeline(MiniConfig(layers=2))), make_scene(7, images=5)
    monkeypatch.setattr(type(mini), "layout", None)
    with pytest.raises(MissingOpenCVError, match="pip install"):
        track_points(scene, [[0, 3.0, 3.0]], mini, layer=1, options=TrackingOptions(visibility="flow"))
