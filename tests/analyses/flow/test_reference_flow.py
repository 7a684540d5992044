"""The flow of a clip through a backbone, against the probe's own captures, and whose layer and timestep it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tiny_families import FAMILIES

from analyses.flow.attention_flow import attention_motion_flow
from analyses.flow.reference_flow import default_layer, default_step, reference_flow
from probe import load_backbone, run_clip
from probe.backbones.backbone import Backbone
from probe.capture.capture import Capture
from probe.mini import MiniConfig, new_pipeline
from store import Clip, Selection
from store.errors import InvalidInputError, UnknownLayerError


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return load_backbone(
        new_pipeline(MiniConfig(images=3, height=16, width=24, layers=3, heads=2, channels=16)), device="cpu"
    )


@pytest.fixture(scope="module")
def clip() -> Clip:
    images = np.random.default_rng(0).integers(0, 255, (3, 16, 24, 3), np.uint8)
    return Clip(images, fps=8)


@pytest.mark.parametrize("hard", [True, False])
def test_the_flow_is_that_of_what_a_probe_sees(backbone: Backbone, clip: Clip, hard: bool) -> None:
    captures: list[Capture] = []
    run_clip(backbone, clip, Selection([7], [1]), captures.append, steps=10, prompt="")
    (seen,) = captures
    expected = attention_motion_flow(seen.query, seen.key, seen.layout, hard=hard, temperature=1.5)
    flow = reference_flow(backbone, clip, layer=-2, step=-3, steps=10, hard=hard, temperature=1.5)
    assert flow.dims == ("frame", "frame_to", "y", "x", "xy")
    assert flow.shape == (3, 3, 4, 6, 2)
    np.testing.assert_allclose(flow.values, expected, atol=1e-6)
    details = json.loads(flow.attrs["details"])
    told = {name: details[name] for name in ("layer", "layer_name", "step", "steps", "noise", "hard", "temperature")}
    assert told == {
        "layer": 1,
        "layer_name": "transformer_blocks.1.attn1",
        "step": 7,
        "steps": 10,
        "noise": "clean",
        "hard": hard,
        "temperature": None if hard else 1.5,
    }
    assert details["timestep"] == seen.timestep


@pytest.mark.parametrize("name", ["cogvideox rotary", "wan", "hunyuan"])
def test_every_family_has_a_flow(name: str) -> None:
    family = FAMILIES[name]
    backbone, size = family.backbone(), family.size
    shape = (size["images"], size["height"], size["width"], 3)
    clip = Clip(np.random.default_rng(0).integers(0, 255, shape, np.uint8), fps=8)
    captures: list[Capture] = []
    run_clip(backbone, clip, Selection([1], [1]), captures.append, steps=3, conditioning=family.conditioning)
    expected = attention_motion_flow(captures[0].query, captures[0].key, captures[0].layout)
    options: dict[str, Any] = {"layer": 1, "prompt": None, "conditioning": family.conditioning, "hard": False}
    flow = reference_flow(backbone, clip, step=1, steps=3, **options)
    np.testing.assert_allclose(flow.values, expected.detach(), atol=1e-5)
    published = reference_flow(backbone, clip, preset="ditflow", steps=3, **options)
    assert json.loads(published.attrs["details"])["timestep"] == 0
    assert not np.allclose(published.values, flow.values)


def test_the_published_reference_is_shown_at_timestep_0(backbone: Backbone, clip: Clip) -> None:
    timesteps: list[float] = []

    def note(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        timesteps.append(float(kwargs["timestep"][0]))

    denoiser = backbone.denoisers[0]
    hook = denoiser.register_forward_pre_hook(note, with_kwargs=True)
    try:
        published = reference_flow(backbone, clip, layer=2, preset="ditflow", hard=False)
    finally:
        hook.remove()
    assert timesteps[-1] == 0
    details = json.loads(published.attrs["details"])
    assert (details["step"], details["timestep"], details["preset"]) == (None, 0.0, "ditflow")
    first = reference_flow(backbone, clip, layer=2, step=0, hard=False)
    assert np.abs(published.values - first.values).max() > 1e-3


def test_the_model_is_left_as_it_was(backbone: Backbone, clip: Clip) -> None:
    before = [module.processor for _, module in backbone.modules[0]]
    reference_flow(backbone, clip, layer=0)
    assert [module.processor for _, module in backbone.modules[0]] == before
    assert backbone.call_label is None


def named(name: str) -> Backbone:
    return cast("Backbone", SimpleNamespace(name=name, denoisers=()))


@pytest.mark.parametrize(
    ("name", "preset", "layer", "step"),
    [
        ("THUDM/CogVideoX-5b", "ditflow", 20, None),
        ("THUDM/CogVideoX-2b", "ditflow", 15, None),
        ("THUDM/CogVideoX-2b/", "exact", 17, -1),
        ("mini", "exact", 5, 49),
    ],
)
def test_presets_have_their_layers_and_steps(name: str, preset: Any, layer: int, step: int | None) -> None:
    assert default_layer(named(name), preset) == layer
    assert default_step(named(name), preset) == step


def test_an_unknown_backbone_is_shown_the_clip_at_the_last_step() -> None:
    assert default_step(named("mine")) == -1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda backbone, clip: reference_flow(backbone, clip, layer=3),
            UnknownLayerError,
            "layer 3 does not exist. The backbone has layers 0 to 2.",
        ),
        (
            lambda backbone, clip: reference_flow(backbone, clip, layer=0, step=50),
            UnknownLayerError,
            "step 50 does not exist. The run has steps 0 to 49.",
        ),
        (
            lambda backbone, clip: reference_flow(backbone, clip, layer=0, temperature=-1),
            InvalidInputError,
            "temperature must be a finite number above 0; got -1.",
        ),
        (
            lambda backbone, clip: reference_flow(backbone, clip, layer=0, preset="best"),
            InvalidInputError,
            "unknown preset 'best'. Known: 'exact', 'ditflow'.",
        ),
        (
            lambda backbone, clip: default_layer(named("mine"), "ditflow"),
            InvalidInputError,
            "DiTFlow has published no layer for mine. Pass layer=, or use preset='exact'. "
            "Published: THUDM/CogVideoX-2b, THUDM/CogVideoX-5b.",
        ),
    ],
)
def test_bad_input_is_refused_before_the_model_runs(
    backbone: Backbone,
    clip: Clip,
    call: Callable[[Backbone, Clip], object],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encoded(clip: Clip) -> None:
        raise AssertionError("the clip was encoded")

    monkeypatch.setattr(backbone, "encode", encoded)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call(backbone, clip)


def test_a_clip_of_another_size_is_refused(backbone: Backbone) -> None:
    with pytest.raises(InvalidInputError, match="does not take 15 x 24 px"):
        reference_flow(backbone, Clip(np.zeros((3, 15, 24, 3), np.uint8), fps=8), layer=0)
