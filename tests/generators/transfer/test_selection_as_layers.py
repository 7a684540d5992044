"""A layer selection stands wherever layers are asked for, with its step and heads, and only for the model it is of."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tiny_pipelines as tiny
import xarray as xr

from analyses.flow.reference_flow import reference_flow
from analyses.selection.defaults import chosen_layers, matched_with, selected_step
from analyses.selection.layer_selection import LayerSelection
from analyses.trackers.backbone import BackboneTracker
from analyses.tracking.track import track_points
from generators.guidance.cross_attention import CrossAttentionGuidance
from generators.guidance.diffusers_guider import CrossAttentionGuider
from generators.transfer.ditflow import DiTFlow
from generators.transfer.embedding_files import load_embedding, save_embedding
from generators.transfer.injection import Injection
from generators.transfer.moft import MOFT
from generators.transfer.motion_clone import MotionClone
from generators.transfer.motion_transfer import MotionTransfer
from generators.transfer.reference_clip import Reference
from generators.transfer.smm import SMM
from probe import Backbone, load_backbone
from probe.mini import MiniConfig, new_pipeline
from store import Clip, Selection
from store.errors import EmptySelectionError, InvalidInputError, UnknownLayerError

PROMPT = "a red disc moves left over blue stripes"
KINDS = [DiTFlow, SMM, MOFT, MotionClone]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    pipeline: Any = new_pipeline(MiniConfig(images=3, height=24, width=32, layers=3, heads=2, channels=16))
    tiny.randomise(pipeline.transformer, 11)
    return load_backbone(pipeline, device="cpu")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(np.random.default_rng(3).integers(0, 255, (3, 24, 32, 3), np.uint8), fps=8)


def selection_of(model: Backbone, layers: tuple[int, ...] = (2, 0), /, **changes: Any) -> LayerSelection:
    known: dict[str, Any] = {
        "step": 39,
        "steps": 50,
        "heads": (1,),
        "threshold_cells": 0.5,
        "backbone": model.name,
        "config_hash": model.config_hash,
    }
    known |= changes
    step = known.pop("step")
    return LayerSelection(layers, xr.Dataset(), max(1, len(layers)), "last", step, 100, 0, 8, **known)


@pytest.mark.parametrize("kind", KINDS)
def test_transfer_is_guided_by_a_selection(backbone: Backbone, clip: Clip, kind: Any) -> None:
    chosen = selection_of(backbone)
    assert kind(layers=chosen).resolve_layers(backbone) == (0, 2)
    run: dict[str, Any] = {"steps": 5, "height": 24, "width": 32, "images": 3}
    method = kind(layers=chosen, iterations=1, learning_rate=(0.02, 0.02))
    losses = MotionTransfer(backbone, clip, PROMPT, method=method, **run).run().losses
    assert [len(each) for each in losses.values()] == [1]


def test_the_reference_is_seen_at_the_step_of_the_selection(backbone: Backbone, clip: Clip) -> None:
    reference = Reference(backbone, clip, steps=10)
    read = DiTFlow(layers=selection_of(backbone)).read(reference, (2,)).captures[2]
    assert read.timestep == backbone.timesteps(10)[7], "step 39 of 50 is step 7 of 10"
    released = DiTFlow(layers=selection_of(backbone), preset="ditflow").read(reference, (2,)).captures[2]
    assert released.timestep == 0, "the release shows the reference at timestep 0"
    without = DiTFlow(layers=selection_of(backbone, step=None)).read(reference, (2,)).captures[2]
    assert without.timestep == backbone.timesteps(10)[-1]


def test_an_embedding_notes_the_layers_of_the_selection(backbone: Backbone, clip: Clip, tmp_path: Path) -> None:
    method = DiTFlow(optimise="positions", layers=selection_of(backbone), iterations=1)
    run: dict[str, Any] = {"steps": 5, "height": 24, "width": 32, "images": 3}
    made = MotionTransfer(backbone, clip, PROMPT, method=method, **run).optimise()
    assert json.loads(json.dumps(made.details))["method"]["layers"] == [2, 0]
    loaded = load_embedding(save_embedding(made, tmp_path / "run.safetensors"))
    assert loaded.details["layers"] == [0, 2]


def test_guidance_and_injection_take_a_selection(backbone: Backbone) -> None:
    chosen = selection_of(backbone)
    assert CrossAttentionGuidance(chosen).resolve(backbone, 4) == ((0, 2), (0, 1, 2, 3))
    assert Injection(layer=chosen).describe(backbone, 10) == "Injection in layer 2 at 2 of 10 steps"
    guider = CrossAttentionGuider(chosen)
    assert guider.layers == (2, 0)
    assert list(guider.config.layers) == [2, 0]
    assert Selection(steps=[-1], layers=chosen).layers == (2, 0)


def test_the_flow_of_a_clip_takes_the_best_layer_and_its_step(backbone: Backbone, clip: Clip) -> None:
    flow = reference_flow(backbone, clip, layer=selection_of(backbone), steps=10)
    details = json.loads(flow.attrs["details"])
    assert (details["layer"], details["step"]) == (2, 7)
    asked = json.loads(reference_flow(backbone, clip, layer=selection_of(backbone), step=3, steps=10).attrs["details"])
    assert (asked["layer"], asked["step"]) == (2, 3)


def test_points_are_tracked_by_the_best_layer_its_step_and_its_heads(backbone: Backbone, clip: Clip) -> None:
    chosen, queries = selection_of(backbone), [[0, 12.0, 20.0]]
    found = track_points(clip, queries, backbone, layer=chosen, steps=25)
    assert [found.details[name] for name in ("layer", "step", "heads")] == [2, 19, (1,)]
    given = track_points(clip, queries, backbone, layer=chosen, step=3, heads=[0, 1], steps=25)
    assert [given.details[name] for name in ("layer", "step", "heads")] == [2, 3, (0, 1)]
    tracker = BackboneTracker(backbone, layer=chosen, steps=25)
    assert (tracker.layer, tracker.step, tracker.heads) == (2, 19, (1,))
    np.testing.assert_array_equal(tracker(clip.images, queries).tracks, found.tracks)


def test_the_step_of_a_selection_is_that_of_the_same_noise() -> None:
    backbone = cast("Backbone", SimpleNamespace(name="a model", config_hash="1"))
    chosen = selection_of(backbone, step=49)
    assert [selected_step(chosen, steps) for steps in (50, 25, 10, 1)] == [49, 24, 9, 0]
    assert selected_step(selection_of(backbone, step=None), 50) is None
    assert selected_step(selection_of(backbone, steps=None), 50) == 39
    assert matched_with(backbone, selection_of(backbone, step=None)) == (2, -1, (1,))


def consumers(chosen: LayerSelection, backbone: Backbone, clip: Clip) -> dict[str, Any]:
    return {
        "transfer": lambda: DiTFlow(layers=chosen).resolve_layers(backbone),
        "guidance": lambda: CrossAttentionGuidance(chosen).resolve(backbone, 4),
        "injection": lambda: Injection(layer=chosen).describe(backbone, 4),
        "flow": lambda: reference_flow(backbone, clip, layer=chosen),
        "tracking": lambda: track_points(clip, [[0, 12.0, 20.0]], backbone, layer=chosen),
        "tracker": lambda: BackboneTracker(backbone, layer=chosen),
    }


USES = ["transfer", "guidance", "injection", "flow", "tracking", "tracker"]


@pytest.mark.parametrize("use", USES)
def test_a_selection_of_another_model_is_refused_by_both_names(backbone: Backbone, clip: Clip, use: str) -> None:
    other = selection_of(backbone, backbone="THUDM/CogVideoX-2b", config_hash="0123456789ab")
    with pytest.raises(InvalidInputError) as caught:
        consumers(other, backbone, clip)[use]()
    assert str(caught.value) == (
        "the layer selection was made on THUDM/CogVideoX-2b (configuration 0123456789ab), and this backbone is "
        f"CogVideoXPipeline ({backbone.config_hash}): layers of one model mean nothing for another. Select again, or "
        "pass the numbers themselves, selection.layers."
    )


@pytest.mark.parametrize("use", USES)
def test_an_empty_selection_says_that_no_layer_was_chosen(backbone: Backbone, clip: Clip, use: str) -> None:
    with pytest.raises(EmptySelectionError) as caught:
        consumers(selection_of(backbone, ()), backbone, clip)[use]()
    assert str(caught.value) == (
        "the layer selection made on CogVideoXPipeline is empty: no layer was good enough to be chosen, because none "
        "finds more points than 'nothing moves'. Name the layers yourself, or select on clips that move more."
    )


def test_which_models_are_the_same(backbone: Backbone) -> None:
    def taken(name: str, made_on: str, config_hash: str = "") -> bool:
        model = cast("Any", SimpleNamespace(name=name, config_hash="a", denoisers=(), pipeline=backbone.pipeline))
        try:
            return chosen_layers(selection_of(model, backbone=made_on, config_hash=config_hash), model) == (2, 0)
        except InvalidInputError:
            return False

    assert taken("runs/copy", "mini", "a"), "a copy of the same configuration"
    assert taken("runs/mine/", "runs/mine", "b"), "the same name under another scheduler"
    assert taken("zai-org/CogVideoX-2b", "THUDM/CogVideoX-2b", "b"), "another id of the same weights"
    assert taken("mini", ""), "a selection that does not say where it was made"
    assert not taken("mini", "mini-rope", "b")
    assert not taken("mini", "mini-rope")
    assert not taken("mini", "", "b")
    assert not taken("CogVideoXPipeline", "CogVideoXPipeline", "b"), "the name of a class is no name of a model"


def test_layers_that_do_not_exist_are_refused_as_ever(backbone: Backbone) -> None:
    with pytest.raises(UnknownLayerError, match="layer 7 does not exist"):
        CrossAttentionGuidance(selection_of(backbone, (7,))).resolve(backbone, 4)
