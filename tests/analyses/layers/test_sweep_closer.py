"""Layers and heads in following crops: shared passes measure what single ones would, and layers are put in order."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from analyses.layers.closer_ranks import closer_ranks
from analyses.layers.sweep_closer import sweep_closer
from analyses.layers.sweep_files import load_sweep, save_sweep
from analyses.tracking.options import TrackingOptions
from analyses.tracking.tokens import LayerTokens
from analyses.tracking.track import track_points
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.scenes.scene import make_scene


@pytest.fixture(scope="module")
def mini():
    torch.manual_seed(0)
    return load_backbone(new_pipeline(MiniConfig(layers=2, heads=2)))


@pytest.fixture(scope="module")
def scene():
    return make_scene(7, images=13, cell=8.0)


def test_what_it_measures_is_what_tracking_finds(mini, scene):
    clip = scene[:6]
    loose = TrackingOptions(trusted_cycle_error=np.inf, max_correction=np.inf)
    found = sweep_closer(mini, {"scene": clip}, follow=1, step=46, max_crops=None, options=loose)
    mine = np.flatnonzero(clip.visibility[0])
    queries = np.column_stack([np.zeros(len(mine)), clip.tracks[0, mine]])
    options = replace(loose, levels=(1, 2), crops="follow", max_crops=None)
    seen = clip.visibility[1:, mine]
    for name, levels in (("error", (1,)), ("closer_error", (1, 2))):
        how = replace(options, levels=levels)
        tracks = track_points(clip, queries, mini, layer=1, step=46, options=how).tracks
        away = np.linalg.norm(tracks - clip.tracks[:, mine], axis=-1)[1:][seen] / 4
        assert found[name].sel(layer=1).item() == pytest.approx(np.median(away))
    assert found["coarse_error"].item() == found["error"].sel(layer=1).item()
    assert found["error"].sel(layer=0).item() != found["error"].sel(layer=1).item()


def test_layers_and_heads_share_the_passes_of_the_model(mini, scene, monkeypatch):
    passes, tokens_of = [], LayerTokens.tokens_of
    monkeypatch.setattr(
        LayerTokens, "tokens_of", lambda self, *given: passes.append(given[0]) or tokens_of(self, *given)
    )
    found = sweep_closer(mini, {"a": scene}, follow=0, max_crops=1, per_head=True)
    assert found["clip"].values.tolist() == ["a [0]", "a [1]"]  # the last image fills no window
    assert passes == [(0, 1)] * 4  # of each window the whole images and one crop
    assert found["crops"].values.tolist() == [1, 1]
    assert found["head_closer_accuracy"].dims == ("clip", "layer", "head")
    assert found.sizes["head"] == 2
    assert found.attrs["follow"] == 0


def test_a_saved_one_is_read_back(mini, scene, tmp_path):
    found = sweep_closer(mini, scene[:6], layers=[1], follow=1, max_crops=1)
    save_sweep(found, tmp_path / "closer.nc")
    read = load_sweep(tmp_path / "closer.nc")
    assert read.attrs == found.attrs
    np.testing.assert_array_equal(read["closer_accuracy"], found["closer_accuracy"])


def test_clips_that_cannot_be_measured_are_refused(mini, scene):
    with pytest.raises(InvalidInputError, match="'bare' has no true tracks"):
        sweep_closer(mini, {"bare": Clip(scene.images, 8.0)}, follow=1)
    with pytest.raises(InvalidInputError, match="every window was skipped: clip 0"):
        sweep_closer(mini, scene[:6], follow=1, min_points=1000)
    with pytest.raises(InvalidInputError, match="level"):
        sweep_closer(mini, scene, follow=1, level=9)
    with pytest.raises(InvalidInputError, match="found lacks accuracy"):
        closer_ranks(sweep_closer(mini, scene[:6], follow=1, max_crops=1).drop_vars("accuracy"))
