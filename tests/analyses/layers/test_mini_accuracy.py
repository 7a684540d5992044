"""The bundled weights show what they were trained to show; random weights do not."""

from __future__ import annotations

import pytest
import torch
import xarray as xr

from analyses.layers.sweep import sweep
from analyses.selection.select import select_layers
from probe import load_backbone
from probe.mini import new_pipeline
from store import Selection, make_scene


@pytest.fixture(scope="module", params=["mini", "mini-rope"])
def swept(request: pytest.FixtureRequest) -> xr.Dataset:
    clips = {f"scene {seed}": make_scene(seed) for seed in range(100, 108)}
    steps = Selection(steps=[0, 40, 43, 46], layers="all")
    return sweep(load_backbone(request.param, device="cpu"), clips, steps, threshold_cells=1.0)


def test_the_best_layer_finds_three_points_of_four_and_far_more_than_the_others(swept: xr.Dataset) -> None:
    accuracy = swept["accuracy"].mean("clip")
    late = accuracy.isel(step=slice(1, None))
    layer, step = (int(late.argmax(...)[name]) for name in ("layer", "step"))
    best = late.isel(layer=layer, step=step)
    assert best >= 75
    assert best - late.isel(step=step).median("layer") >= 15
    assert best - accuracy.isel(step=0).max("layer") >= 20
    assert best - swept["static_accuracy"].mean() >= 20
    assert swept["moving_accuracy"].mean("clip").isel(layer=layer, step=step + 1) >= 60


def test_the_selection_is_sure_of_its_first_layer(swept: xr.Dataset) -> None:
    chosen = select_layers(swept, 3)
    assert float(chosen.scores["probability"].sel(layer=chosen.layers[0])) > 0.9


def test_random_weights_find_nothing() -> None:
    torch.manual_seed(0)
    untrained = load_backbone(new_pipeline(), device="cpu")
    clips = [make_scene(seed) for seed in range(4)]
    found = sweep(untrained, clips, Selection(steps=[46], layers="all"), threshold_cells=1.0)
    assert found["accuracy"].mean("clip").max() < 60
