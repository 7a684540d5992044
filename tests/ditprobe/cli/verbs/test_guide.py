"""``ditprobe guide``: the video that it writes, and what it rejects before a model runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import Result

from generators.guidance.cross_attention import CrossAttentionGuidance
from generators.sampling.sample import sample
from probe import load_backbone
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline, save_mini
from store import read_clip

Run = Callable[..., Result]
SMALL = MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)
PROMPT = "a red disc moves left over blue stripes"
NAME = "a-red-disc-moves-left-over-blue-stripes-guided.mp4"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(Backbone, "call_pipeline", ran)


def test_the_bundled_backbone_is_guided_by_its_own_layer(run: Run) -> None:
    printed = run("guide", PROMPT, "--steps", 2, "--strength", 4, "--device", "cpu").stdout
    assert printed == (
        f"{NAME}: 6 images of 40 x 40 px (height x width) at 8 fps, seed 0; its prompt is in {NAME}.npz\n"
        "mini, 2 steps with guidance 4, cross-attention guidance 4 (exact) in layer 5 at 2 steps: "
        f"'{PROMPT}'\n"
    )
    mini = load_backbone("mini", device="cpu")
    found = read_clip(NAME).images.astype(int)
    expected = sample(mini, PROMPT, CrossAttentionGuidance([5], 4.0), steps=2)
    assert np.abs(found - expected.images).max() <= 3
    assert np.abs(found - mini.generate(PROMPT, steps=2).images).max() > 10, "guidance is seen"


def test_options_reach_the_strategy_and_the_run(run: Run) -> None:
    torch.manual_seed(0)
    save_mini(new_pipeline(SMALL), "small")
    words = ["-b", "./small", "--device", "cpu", "--steps", 3, "--layers", "-1,0", "--at", "1", "--strength", 0.5]
    words += ["--preset", "difftrack", "--seed", 7, "--guidance", 2.5, "--images", 4, "--height", 8, "--width", 32]
    words += ["--pixel-scale", 2, "--out", "deep/er/made.mkv"]
    printed = run("guide", PROMPT, *words).stdout
    assert printed == (
        "deep/er/made.mkv: 4 images of 16 x 64 px (height x width) at 8 fps, seed 7; its prompt is in "
        "deep/er/made.mkv.npz\n"
        "./small, 3 steps with guidance 2.5, cross-attention guidance 0.5 (difftrack) in layers 0, 1 at 1 step: "
        f"'{PROMPT}'\n"
    )
    strategy = CrossAttentionGuidance([0, 1], 0.5, [1], "difftrack")
    options = {"steps": 3, "seed": 7, "guidance_scale": 2.5, "images": 4, "height": 8, "width": 32}
    clip = sample(load_backbone("./small", device="cpu"), PROMPT, strategy, **options)
    found = read_clip("deep/er/made.mkv").images[:, ::2, ::2].astype(int)
    assert found.shape == clip.images.shape
    assert np.abs(found - clip.images).max() <= 3


def test_a_dry_run_prints_the_plan(run: Run, no_model: None) -> None:
    printed = run("guide", PROMPT, "--steps", 10, "--at", "0:5", "--dry-run", "--no-estimate", "--device", "cpu").stdout
    assert printed == (
        "Mini('mini': 6 layers of 4 heads x 32 channels, 40 x 40 px and 6 images, float32 on cpu)\n"
        f"  clip      {NAME}\n  prompt    '{PROMPT}'\n  run       10 steps with guidance 4\n"
        "  guidance  cross-attention guidance 1 (exact) in layer 5 at 5 of 10 steps, one pass more at each\n"
        "  memory    at most about 2.1 MB in addition to the model\n"
        "  decoding  115.2 kB in one piece\n"
        "  time      not estimated; 25 calls of the model\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers", "6"], "error: layer 6 does not exist. The backbone has layers 0 to 5.\n"),
        (["--layers", "x"], "error: --layers 'x': 'x' is neither a number nor a range. Write for example "),
        (["--layers", "all"], "error: --layers 'all' would guide by every layer. Name some, such as '13,17'.\n"),
        (["--at", "50"], "error: step 50 does not exist. The run has steps 0 to 49.\n"),
        (["--strength", "inf"], "error: scale must be a finite number; got inf.\n"),
    ],
)
def test_bad_input_ends_with_2_before_the_model_runs(run: Run, no_model: None, words: list[str], message: str) -> None:
    result = run("guide", PROMPT, "--device", "cpu", *words, code=2)
    assert result.stderr.startswith(message)


def test_a_backbone_of_which_nothing_is_known_needs_layers(run: Run, no_model: None) -> None:
    save_mini(new_pipeline(SMALL), "small")
    result = run("guide", PROMPT, "-b", "./small", "--device", "cpu", code=2)
    assert result.stderr == (
        "error: no layers are known to guide ./small by. Give --layers; ditprobe sweep and ditprobe select find them.\n"
    )


def test_a_run_that_diverges_keeps_its_last_good_latents(run: Run) -> None:
    torch.manual_seed(0)
    save_mini(new_pipeline(SMALL), "small")
    words = [
        "-b",
        "./small",
        "--device",
        "cpu",
        "--steps",
        3,
        "--layers",
        1,
        "--strength",
        3e38,
        "--out",
        "deep/made.mp4",
    ]
    found = run("guide", PROMPT, *words, code=2)
    assert found.stderr.lstrip().startswith("error: the latents after step 0 of 3 (timestep 999) are as large as ")
    assert found.stderr.endswith(
        "The latents with which that step began are kept in deep/made.step0.safetensors. Lower the learning rate or "
        "the scale, or guide fewer steps.\n"
    )
    assert load_file("deep/made.step0.safetensors")["latents"].shape == (1, 3, 12, 8, 12)
