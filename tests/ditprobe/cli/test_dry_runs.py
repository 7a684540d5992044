"""Plans are printed before anything is measured, and nothing large is run or loaded for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from typer.testing import Result

from probe.run.forward import ForwardPass
from store import Clip, write_clip

Run = Callable[..., Result]
PROMPT = "a red disc moves left over blue stripes"


@pytest.fixture
def clip(run: Run) -> Path:
    images = np.random.default_rng(0).integers(0, 255, (6, 72, 128, 3), np.uint8)
    return write_clip("clip.mp4", Clip(images, fps=8))


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cells of every forward pass that is run."""
    found: list[int] = []
    real = ForwardPass.predict

    def predict(self: ForwardPass, latents: torch.Tensor, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        found.append(latents.shape[1] * latents.shape[3] * latents.shape[4] // 4)
        return real(self, latents, *args, **kwargs)

    monkeypatch.setattr(ForwardPass, "predict", predict)
    return found


LARGE = ("--size", "720x1280")


@pytest.mark.parametrize(
    ("words", "last_of_plan"),
    [
        (("track", "clip.mp4", "--grid", 3), "run       layer 5"),
        (("sweep", "--clips", "clip.mp4", "--at", -1), "'clip': 1 window of 1 forward pass at 720 x 1280 px"),
        (("record", "--clips", "clip.mp4", "--limit", "900GB"), "1 forward pass at 720 x 1280 px"),
        (("generate", PROMPT), "run       50 steps"),
        (("guide", PROMPT), "guidance  cross-attention"),
        (("transfer", "clip.mp4", PROMPT), "  motion    "),
    ],
)
def test_a_plan_of_a_large_clip_is_told_before_a_small_call_is_measured(
    run: Run, clip: Path, tokens: list[int], words: tuple[object, ...], last_of_plan: str
) -> None:
    result = run(*words, *LARGE, "--dry-run")
    printed = result.output
    assert 0 < printed.index(last_of_plan) < printed.index("measuring one step") < printed.index("time      about ")
    assert "scaled as n (6 x 128 + n)" in printed
    assert 0 < max(tokens) <= 1500
    measured = len(tokens)
    printed = run(*words, *LARGE, "--dry-run", "--no-estimate").output
    assert len(tokens) == measured, "nothing is run"
    assert "not estimated; " in printed
    assert "measuring" not in printed


@pytest.mark.parametrize("kind", ["cogvideox", "wan", "hunyuan_video"])
def test_a_dry_run_of_ones_own_model_loads_no_weights(run: Run, kind: str, clip: Path) -> None:
    getattr(tiny, kind)().save_pretrained("own")
    for weights in Path("own").rglob("*.safetensors"):
        weights.unlink()
    own = ("-b", "./own", "--size", "80x112", "--dry-run")
    sized = ("--images", 9, "--steps", 3, "--at", "0,-1")
    for words in (
        ("sweep", "--prompt", "a dog", *sized),
        ("sweep", "--scenes", "0:2", *sized),
        ("record", "--scenes", 0, *sized),
        ("track", "clip.mp4", "--grid", 3, "--layer", 1),
        ("amf", "clip.mp4", "--layer", 1),
    ):
        printed = run(*words, *own).output
        assert "float32 on meta" in printed or "Plan for ./own" in printed
        assert "time      about " in printed or words[0] == "amf"
        assert "weights   not loaded: planned from the configuration" in printed or words[0] == "amf"
    assert "  layers\n" in run("info", "./own").output


def test_a_hub_that_cannot_be_reached_ends_a_dry_run_with_the_remedy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Network is unreachable")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unreachable)
    printed = run("sweep", "-b", "nobody/nothing", "--prompt", "a dog", "--dry-run", code=2).output
    assert printed.startswith("error: the pipeline 'nobody/nothing' could not be loaded: Network is unreachable.")
    assert printed.endswith("what was downloaded before loads with --local-files-only.\n")
