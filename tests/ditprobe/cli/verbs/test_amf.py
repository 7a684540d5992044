"""``ditprobe amf``: the flow and the page that it writes, and what it rejects before a model runs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import Result

from analyses.flow.attention_flow import labelled_flow
from analyses.flow.files import load_flow
from analyses.flow.reference_flow import reference_flow
from ditprobe.report.flows import flow_part
from probe import load_backbone
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline, save_mini
from store import Clip, make_scene, read_clip, write_clip
from store.layout import TokenLayout

Run = Callable[..., Result]
SMALL = MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)
ON_SMALL = ("-b", "./small", "--device", "cpu")
HEIGHT, WIDTH, IMAGES = 32, 48, 7


@pytest.fixture
def small(run: Run) -> Backbone:
    """A backbone in the folder ``small`` of where the commands run."""
    torch.manual_seed(0)
    save_mini(new_pipeline(SMALL), "small")
    return load_backbone("./small", device="cpu")


@pytest.fixture
def clip(run: Run) -> Clip:
    """The clip that is ``clip.mp4`` where the commands run, as it is read."""
    noise = np.random.default_rng(0).integers(0, 255, (IMAGES, 4, 6, 3), np.uint8)
    return read_clip(write_clip("clip.mp4", Clip(noise, fps=12).resized(HEIGHT, WIDTH)))


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*args: object, **kwargs: object) -> None:
        raise AssertionError("a backbone was loaded")

    monkeypatch.setattr("ditprobe.cli.verbs.amf.load_backbone_option", loaded)


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir() if path.name != "small")


def test_help_has_an_example(run: Run) -> None:
    text = run("amf", "--help").output
    for part in ("--layer", "--soft", "--preset", "--no-picture", "--dry-run", "ditprobe amf clip.mp4 --soft"):
        assert part in text


def test_the_flow_and_the_page_are_written(run: Run, small: Backbone, clip: Clip) -> None:
    lines = run("amf", "clip.mp4", "--layer", -1, "--first", 1, "--stride", 2, *ON_SMALL).stdout.splitlines()
    shown = Clip(clip.images[1::2], fps=6).resized(16, 24)
    found, expected = load_flow("clip.flow.npz"), reference_flow(small, shown, layer=1)
    np.testing.assert_array_equal(found.values, expected.values)
    details = json.loads(found.attrs["details"])
    assert [details[name] for name in ("backbone", "layer", "step", "hard")] == ["./small", 1, 49, True]
    assert [details[name] for name in ("clip", "first", "stride")] == ["clip.mp4", 1, 2]
    assert lines == [
        "clip.flow.npz: 3 x 3 frames of 4 x 6 cells (rows x columns)",
        "clip.flow.html: 2 layers at 5 steps",
        "./small, layer 1 at step 49 of 50; images 1 to 5, every 2 of 7, 16 x 24 px, resized from 32 x 48",
    ]
    page = Path("clip.flow.html").read_text(encoding="utf-8")
    (held,) = re.findall(r'<script type="application/json" id="flow-data">(.*?)</script>', page, re.DOTALL)
    data = json.loads(held)
    assert (data["layers"], data["layer"], data["step"], len(data["flows"])) == (["0", "1"], 1, 4, 10)
    assert [step.partition(" ")[0] for step in data["steps"]] == ["0", "12", "24", "36", "49"]
    assert (data["width"], data["height"]) == (24, 16)  # so that the page keeps the clip's own aspect
    chosen = data["flows"][-1]
    whole = np.frombuffer(base64.b64decode(chosen["bytes"]), "<i2").reshape(chosen["shape"])
    np.testing.assert_allclose(whole * chosen["scale"], expected.values, atol=chosen["scale"])
    assert "<script src" not in page
    assert files() == ["clip.flow.html", "clip.flow.npz", "clip.mp4"]
    again = run("amf", "clip.mp4", "--layer", 1, *ON_SMALL, code=2)
    assert again.stderr.startswith("error: clip.flow.npz exists already.")
    assert again.stderr.endswith("or pass --overwrite to replace it.\n")


def test_soft_flow_at_timestep_0_into_another_file(run: Run, small: Backbone, clip: Clip) -> None:
    words = ("--layer", 0, "--soft", "--temperature", 3, "--preset", "ditflow", "--out", "flow.nc", "--no-picture")
    run("amf", "clip.mp4", *words, *ON_SMALL)
    shown = Clip(clip.images[:3], fps=12).resized(16, 24)
    expected = reference_flow(small, shown, layer=0, preset="ditflow", hard=False, temperature=3)
    np.testing.assert_allclose(load_flow("flow.nc").values, expected.values, atol=1e-6)
    assert files() == ["clip.mp4", "flow.nc"]


def test_a_dry_run_says_what_would_happen(run: Run, small: Backbone, clip: Clip) -> None:
    lines = run("amf", "clip.mp4", "--layer", 1, "--step", 4, "--steps", 9, "--dry-run", *ON_SMALL).stdout.splitlines()
    assert lines[1:] == [
        "  clip      images 0 to 2 of 7, 16 x 24 px, resized from 32 x 48 of clip.mp4",
        "  flow      clip.flow.npz: 3 x 3 frames of 4 x 6 cells (rows x columns)",
        "  picture   clip.flow.html",
        "  run       layer 1 at step 4 of 9, one call of the model",
        "  compared  2 layers at 5 steps, a call each",
        "  memory    at most about 41.9 kB in addition to the model",
    ]
    words = ("--picture-layers", "-1", "--picture-steps", "0,-1", "--dry-run")
    lines = run("amf", "clip.mp4", "--layer", 1, "--step", 4, "--steps", 9, *words, *ON_SMALL).stdout.splitlines()
    assert lines[-2] == "  compared  1 layer at 3 steps, a call each"
    assert files() == ["clip.mp4"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--temperature", 3), "--temperature affects only the soft flow. Add --soft, or leave it out."),
        (("--no-picture", "--picture-steps", "0"), "--picture-steps has no effect with --no-picture. Leave one out."),
        (("--no-picture", "--picture", "a.html"), "--picture has no effect with --no-picture. Leave one out."),
        (("--out", "clip.mp4"), "--out clip.mp4 is the clip itself, or its extra file. Choose another path."),
        (
            ("--picture", "clip.mp4"),
            "--picture clip.mp4 is the clip itself, or its extra file. Choose another path.",
        ),
        (("--picture", "flow.png"), "flow.png cannot hold the picture: its suffix must be .html. Name it flow.html."),
        (
            ("--out", "flow.csv"),
            "flow.csv cannot hold the flow: its suffix must be .npz, .nc or .zarr. Name it flow.npz.",
        ),
        (
            ("--first", 9),
            "clip.mp4 has images 0 to 6; images 9 to the end were asked for. Begin with image 6 at the latest.",
        ),
        (("--size", "big"), "--size 'big' is not HEIGHTxWIDTH. Write for example 480x720."),
    ],
)
def test_bad_input_is_refused_before_a_model_is_loaded(
    run: Run, clip: Clip, no_model: None, words: tuple[object, ...], message: str
) -> None:
    assert run("amf", "clip.mp4", *words, code=2).stderr == f"error: {message}\n"
    assert files() == ["clip.mp4"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--picture-layers", "0,2", "--layer", 0), "layer 2 does not exist. The model has layers 0 to 1."),
        (
            (),
            "no layer is known to track well on ./small. Give --layer; ditprobe sweep and ditprobe select find one.",
        ),
        (
            ("--preset", "ditflow"),
            "DiTFlow has published no layer for ./small. Give --layer, or leave --preset ditflow out.",
        ),
        (("--layer", 2), "layer 2 does not exist. The backbone has layers 0 to 1."),
        (("--layer", 1, "--step", 50), "step 50 does not exist. The run has steps 0 to 49."),
        (("--layer", 1, "--soft", "--temperature", 0), "temperature must be a finite number above 0; got 0.0."),
        (
            ("--layer", 1, "--first", 5, "--images", 3),
            "a window of 3 images at stride 1 needs 3 images; the clip has 2.",
        ),
    ],
)
def test_bad_input_is_refused_before_the_model_runs(
    run: Run, small: Backbone, clip: Clip, words: tuple[object, ...], message: str
) -> None:
    assert run("amf", "clip.mp4", *words, *ON_SMALL, code=2).stderr == f"error: {message}\n"
    assert files() == ["clip.mp4"]


def test_one_cell_that_matches_far_away_does_not_make_the_others_pale() -> None:
    flow = np.zeros((3, 3, 10, 10, 2))
    flow[0, 1:, ..., 0] = 2.0
    flow[0, 2, 0, 0] = 40.0, 0.0
    labelled = labelled_flow(flow, TokenLayout(3, 10, 10, 40, 40, 3), details={})
    part = flow_part(make_scene(0, images=3), [[labelled]])
    assert json.loads(part.view.data)["rim"] == 2.0
    assert "Longer vectors are darker." in part.notes[1]


def test_a_page_that_would_be_too_large_is_refused_before_the_model_runs(
    run: Run, small: Backbone, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ditprobe.report.flows.MOST_BYTES", 3000)
    said = run("amf", "clip.mp4", "--layer", 0, "--picture-steps", "all", *ON_SMALL, code=2).stderr
    assert said == ("error: 2 layers at 50 steps take 115.2 kB of the page, more than 3.0 kB. Ask for 2 at most.\n")
    assert files() == ["clip.mp4"]
