"""``ditprobe transfer``: the video and the embedding that it writes, and what it rejects before a model runs."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import Result

from generators.transfer.ditflow import DiTFlow
from generators.transfer.embedding_files import load_embedding
from generators.transfer.methods import METHODS, register_method
from generators.transfer.moft import MOFT
from generators.transfer.motion_transfer import transfer_motion
from probe import load_backbone
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline, save_mini
from store import Clip, make_scene, read_clip, write_clip

Run = Callable[..., Result]
SMALL = MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)
PROMPT = "a green ring moves up over white dots"
NAME = "a-green-ring-moves-up-over-white-dots-transferred.mp4"
ON_SMALL = ["-b", "./small", "--device", "cpu", "--steps", 2]


@pytest.fixture
def reference(run: Run) -> Clip:
    """A video of three images in the folder in which the verb runs."""
    scene = make_scene(4, 3, 16, 24)
    write_clip("ref.mkv", Clip(scene.images, fps=8))
    return read_clip("ref.mkv")


@pytest.fixture
def small(run: Run) -> None:
    torch.manual_seed(0)
    save_mini(new_pipeline(SMALL), "small")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(Backbone, "call_pipeline", ran)


def test_options_reach_the_method_and_the_run(run: Run, reference: Clip, small: None) -> None:
    words = ["--method", "moft", "--layers", "-1", "--fraction", 0.5, "--iterations", 2, "--learning-rate", "0.05,0.01"]
    words += ["--preset", "ditflow", "--inject", "--seed", 7, "--guidance", 2.5, "--scale", 2, "--out", "deep/made.mkv"]
    printed = run("transfer", "ref.mkv", PROMPT, *ON_SMALL, *words).stdout
    assert printed == (
        "deep/made.mkv: 3 images of 32 x 48 px (height x width) at 8 fps, seed 7; its prompt is in deep/made.mkv.npz\n"
        "./small, 2 steps with guidance 2.5, MOFT on latents (ditflow) by layer 1 at 1 of 2 steps, 2 iterations each, "
        f"with injection, from ref.mkv: '{PROMPT}'\n"
    )
    method = MOFT(layers=(1,), fraction=0.5, iterations=2, learning_rate=(0.05, 0.01), inject=True, preset="ditflow")
    backbone = load_backbone("./small", device="cpu")
    made = transfer_motion(backbone, reference, PROMPT, method=method, steps=2, seed=7, guidance_scale=2.5)
    expected = made.images.astype(int)
    found = read_clip("deep/made.mkv").images[:, ::2, ::2].astype(int)
    assert np.abs(found - expected).max() <= 3


def test_an_embedding_is_saved_and_used_for_another_prompt(run: Run, reference: Clip, small: None) -> None:
    words = ["--method", "ditflow-positions", "--layers", 1, "--learning-rate", "0.1,0.1"]
    printed = run("transfer", "ref.mkv", PROMPT, *ON_SMALL, *words, "--save-embedding", "up.safetensors").stdout
    embedding = load_embedding("up.safetensors")
    assert printed == (
        f"up.safetensors: {embedding!r}\n{NAME}: 3 images of 16 x 24 px (height x width) at 8 fps, seed 0; its prompt "
        f"is in {NAME}.npz\n"
        "./small, 2 steps with guidance 4, DiTFlow on positions (exact) by layer 1 at 1 of 2 steps, 5 iterations each, "
        f"from ref.mkv: '{PROMPT}'\n"
    )
    assert embedding.details["method"]["learning_rate"] == [0.1, 0.1]
    printed = run("transfer", PROMPT, *ON_SMALL, "--embedding", "up.safetensors", "--out", "again.mp4").stdout
    assert printed == (
        "again.mp4: 3 images of 16 x 24 px (height x width) at 8 fps, seed 0; its prompt is in again.mp4.npz\n"
        "./small, 2 steps with guidance 4, the embedding of 1 of 2 steps, from up.safetensors: "
        f"'{PROMPT}'\n"
    )
    assert np.array_equal(read_clip("again.mp4").images, read_clip(NAME).images)
    words = ["--embedding", "up.safetensors", "--out", "longer.mp4"]
    result = run("transfer", PROMPT, *ON_SMALL[:-1], 3, *words, code=2)
    assert result.stderr == (
        "error: this motion embedding was made for ./small at 16 x 24 px and 3 images in 2 steps; the run is of "
        "./small at 16 x 24 px and 3 images in 3 steps. Generate as it was made, or optimise another.\n"
    )


def test_a_dry_run_prints_the_plan(run: Run, no_model: None) -> None:
    write_clip("ref.mkv", Clip(make_scene(4).images, fps=8))
    printed = run("transfer", "ref.mkv", PROMPT, "--method", "smm", "--device", "cpu", "--dry-run").stdout
    plan, time = printed.rsplit("\n  time      ", 1)
    assert plan == (
        "Mini('mini': 6 layers of 4 heads x 32 channels, 40 x 40 px and 6 images, float32 on cpu)\n"
        f"  clip      {NAME}\n  prompt    '{PROMPT}'\n  run       50 steps with guidance 4\n"
        "  motion    SMM on latents (exact) by layer 5 at 10 of 50 steps, 5 iterations each, from ref.mkv\n"
        "  memory    at most about 37.2 MB in addition to the weights (12.3 MB with gradient checkpointing)\n"
        "  decoding  115.2 kB in one piece"
    )
    assert re.fullmatch(
        r"about [0-9.]+ (s|min) for 251 calls of the model\n +measured at 340 and 640 tokens, .*\n", time
    )
    assert not Path(NAME).exists()


@pytest.mark.filterwarnings("default::generators.transfer.reference_clip.TransferWarning")
def test_a_page_shows_the_reference_as_fitted_and_the_result(run: Run, reference: Clip, small: None) -> None:
    write_clip("long.mkv", Clip(make_scene(4, 5, 16, 24).images, fps=8))
    words = ["--layers", "1,0", "--picture", "deep/a.html", "--out", "made.mkv", "--scale", 2]
    printed = run("transfer", "long.mkv", PROMPT, *ON_SMALL, *words)
    assert "it is resampled to its images 0, 2, 4." in printed.stderr
    assert printed.stdout.splitlines()[1] == "deep/a.html: reference and result next to their flow by layer 0"
    page = Path("deep/a.html").read_text(encoding="utf-8").replace("\\u002f", "/")  # as JSON in a page has it
    assert page.count('data-view="transfer"') == 1
    assert f"<h1>{PROMPT}, moving as long.mkv</h1>" in page
    assert "Motion as ./small sees it; choose the layer" in page
    (held,) = re.findall(r'<script type="application/json" id="flow-data">(.*?)</script>', page, re.DOTALL)
    data = json.loads(held)
    assert (data["layers"], data["layer"], len(data["steps"])) == (["0", "1"], 0, 2)
    assert "<script src" not in page
    fitted = read_clip("long.mkv").images[[0, 2, 4]]
    for image in (*fitted, *read_clip("made.mkv").images[:, ::2, ::2]):
        assert _nearest(page, image) <= 3
    result = run("transfer", "long.mkv", PROMPT, *ON_SMALL, *words[:-4], "--out", "again.mkv", code=2)
    assert result.stderr == (
        "error: deep/a.html exists already. Choose another path for the picture, or pass --overwrite to replace it.\n"
    )


def _nearest(page: str, image: np.ndarray) -> int:
    """How far the nearest picture of a page is from an image, in 255ths."""
    sources = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))).astype(int) for each in sources]
    return min(int(np.abs(each - image).max()) for each in pictures if each.shape == image.shape)


def test_a_dry_run_names_the_page(run: Run, no_model: None) -> None:
    write_clip("ref.mkv", Clip(make_scene(4).images, fps=8))
    words = ["--method", "injection", "--device", "cpu", "--picture", "a.html", "--dry-run"]
    printed = run("transfer", "ref.mkv", PROMPT, *words).stdout
    assert "\n  picture   a.html: reference and result next to their flow by layer 5\n  memory " in printed
    assert not Path("a.html").exists()


def test_the_estimate_counts_the_passes_of_optimising(small: None) -> None:
    """Ten steps of five iterations, each three times the half of the layers, and one pass of the reference."""
    backbone = load_backbone("./small", device="cpu")
    assert DiTFlow(layers=(0,)).passes(backbone, 50) == 1 + 10 * 5 * 3 * 0.5
    assert DiTFlow(layers=(1,), inject=True).passes(backbone, 50) == 1 + 10 * (5 * 3 + 0.5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ref.mkv", PROMPT, "--layers", 6], "layer 6 does not exist. The backbone has layers 0 to 5."),
        (["ref.mkv", PROMPT, "--layers", "all"], "--layers 'all' would guide by every layer. Name some, such as "),
        (["ref.mkv", PROMPT, "--fraction", 0], "fraction must be above 0 and at most 1; got 0.0."),
        (["ref.mkv", PROMPT, "--learning-rate", "0.1"], "--learning-rate '0.1' is not two numbers, the first and the "),
        (
            ["ref.mkv"],
            "a reference and a prompt are needed, in this order; with --embedding or --adapter, only the prompt.",
        ),
        (["ref.mkv", PROMPT, "--save-embedding", "x.safetensors"], "--save-embedding saves optimised positions. Add "),
        (
            ["ref.mkv", PROMPT, "--method", "ditflow-positions", "--save-embedding", "x.pt"],
            "x.pt cannot hold the motion embedding: its suffix must be .safetensors. Name it x.safetensors.",
        ),
        (
            ["ref.mkv", PROMPT, "--method", "injection", "--iterations", 3],
            "--iterations does not apply to --method injection. Leave it out.",
        ),
        ([PROMPT, "--embedding", "x.safetensors", "--method", "smm"], "--method cannot be combined with --embedding."),
        (
            ["ref.mkv", PROMPT, "--embedding", "x.safetensors"],
            "--embedding already has the motion, so the reference ref.mkv would be ignored. Leave one of them out.",
        ),
        (
            [PROMPT, "--embedding", "x.safetensors", "--picture", "a.html"],
            "--picture shows the reference, which --embedding does not have. Leave it out.",
        ),
        (
            ["ref.mkv", PROMPT, "--method", "smn"],
            "unknown transfer method 'smn'. Did you mean 'smm'? ",
        ),
        (
            ["ref.mkv", PROMPT, "--picture", "a.png"],
            "a.png cannot hold the picture: its suffix must be .html. Name it a.html.",
        ),
        ([PROMPT, "--embedding", "x.safetensors"], "x.safetensors is missing. Give the path of a motion embedding."),
    ],
)
def test_bad_input_ends_with_2_before_the_model_runs(run: Run, no_model: None, words: list[str], message: str) -> None:
    write_clip("ref.mkv", Clip(make_scene(4).images, fps=8))
    result = run("transfer", *words, "--device", "cpu", code=2)
    assert result.stderr.startswith(f"error: {message}")


def test_a_backbone_of_which_nothing_is_known_needs_layers(
    run: Run, reference: Clip, small: None, no_model: None
) -> None:
    result = run("transfer", "ref.mkv", PROMPT, *ON_SMALL, code=2)
    assert result.stderr == (
        "error: no layers are known to guide ./small by. Give --layers; ditprobe sweep and ditprobe select find them.\n"
    )
    words = ["--method", "injection", "--picture", "a.html"]
    assert run("transfer", "ref.mkv", PROMPT, *ON_SMALL, *words, code=2).stderr == (
        "error: no layer is known to track well on ./small, so --picture has no flow to draw. Leave it out; ditprobe "
        "amf --layer draws the flow of a clip.\n"
    )


def test_a_run_that_diverges_keeps_its_last_good_latents(run: Run, reference: Clip, small: None) -> None:
    words = ["--layers", 1, "--learning-rate", "1e30,1e30", "--out", "made.mp4"]
    result = run("transfer", "ref.mkv", PROMPT, *ON_SMALL, *words, code=2)
    assert result.stderr.lstrip() == (
        "error: queries of layer 1 are not finite at step 0 of 2 (timestep 999). The latents with which that step "
        "began are kept in made.step0.safetensors. Lower the learning rate or the scale, or guide fewer steps.\n"
    )
    assert load_file("made.step0.safetensors")["latents"].shape == (1, 3, 12, 8, 12)
    assert not Path("made.mp4").exists()


def test_a_registered_method_is_a_name_of_the_option(run: Run, reference: Clip, small: None) -> None:
    register_method("mine", partial(MOFT, channels=0.5, learning_rate=(0.05, 0.01)))
    try:
        words = ["--method", "mine", "--layers", 1, "--share", 0.5, "--iterations", 1]
        assert "MOFT on latents" in run("transfer", "ref.mkv", PROMPT, *ON_SMALL, *words, "--dry-run").stdout
    finally:
        METHODS.unregister("mine")
