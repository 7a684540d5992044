"""Each long call of Python shows a bar where somebody waits, none when told not to, and none in a script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ditprobe as dp
from probe import load_backbone
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline
from store import make_scene

SMALL = MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)
SCENE = make_scene(4, 3, 16, 24)
PROMPT = "a green star moves left over white dots"
LAST = dp.Selection(steps=[-1], layers="all")


@pytest.fixture(scope="module")
def small() -> Backbone:
    torch.manual_seed(0)
    return load_backbone(new_pipeline(SMALL), device="cpu")


def record(backbone: Backbone, how: dict[str, Any], folder: Path) -> object:
    return dp.record(backbone, SCENE, LAST, folder / "run.zarr", overwrite=True, on_step=how.get("progress"))


def transfer(backbone: Backbone, how: dict[str, Any], folder: Path) -> object:
    method = dp.DiTFlow(layers=[1], iterations=1)
    return dp.transfer_motion(backbone, SCENE, PROMPT, method=method, steps=2, on_step=how.get("progress"))


def sweep_of_recording(backbone: Backbone, how: dict[str, Any], folder: Path) -> object:
    run = dp.record(backbone, SCENE, LAST, folder / "run.zarr", overwrite=True, on_step=False)
    return dp.sweep_recording({"scene": run}, {"scene": SCENE}, **how)


def track(backbone: Backbone, how: dict[str, Any], folder: Path) -> object:
    return dp.track_points(SCENE, [[0, 5.0, 5.0]], backbone, layer=1, **how)


def evaluate(backbone: Backbone, how: dict[str, Any], folder: Path) -> object:
    return dp.evaluate_tapvid({"scene": SCENE}, {"small": dp.BackboneTracker(backbone, layer=1)}, **how)


CALLS: dict[str, Callable[[Backbone, dict[str, Any], Path], object]] = {
    "sweeping": lambda backbone, how, _: dp.sweep(backbone, {"scene": SCENE}, LAST, **how),
    "sweeping scene": sweep_of_recording,
    "recording": record,
    "transferring": transfer,
    "looking closer": lambda backbone, how, _: dp.sweep_closer(
        backbone, {"scene": SCENE}, follow=1, max_crops=1, **how
    ),
    "tracking": track,
    "tracking scene (small)": evaluate,
}


@pytest.mark.parametrize("name", CALLS)
def test_long_calls_have_a_bar_where_somebody_waits(
    name: str, small: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    CALLS[name](small, {}, tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("store.progress.somebody_waits", lambda: True)
    CALLS[name](small, {"progress": False}, tmp_path)
    assert capsys.readouterr().err == ""
    CALLS[name](small, {}, tmp_path)
    shown = capsys.readouterr().err
    assert f"{name}:   0%" in shown or f"{name} scene:" in shown
    assert shown.count(" 0%|") == 1  # one bar, not one for each clip or tracker
