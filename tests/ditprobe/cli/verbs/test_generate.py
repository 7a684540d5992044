"""``ditprobe generate``: the videos that it writes, and what it rejects before a model runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import Result

from ditprobe.cli.clip_file import enlarged, file_name
from ditprobe.cli.verbs.generate import output_paths
from probe import load_backbone
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline, save_mini
from store import Clip, read_clip

Run = Callable[..., Result]
SMALL = MiniConfig(images=3, height=16, width=24, layers=1, heads=2, channels=16)
PROMPT = "a red disc moves left over blue stripes"
NAME = "a-red-disc-moves-left-over-blue-stripes.mp4"
FEW = ("-b", "./small", "--device", "cpu", "--steps", 2)


@pytest.fixture
def small(run: Run) -> Backbone:
    """A backbone in the folder ``small`` of where the commands run."""
    torch.manual_seed(0)
    save_mini(new_pipeline(SMALL), "small")
    return load_backbone("./small", device="cpu")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(Backbone, "call_pipeline", ran)


def assert_shows(path: str, clip: Clip) -> None:
    """Small videos come back within 3 of 255."""
    found = read_clip(path)
    assert np.abs(found.images.astype(int) - clip.images).max() <= 3
    assert (found.prompt, found.fps) == (clip.prompt, clip.fps)


def test_help_has_examples_that_are_options_of_the_verb(run: Run) -> None:
    text = run("generate", "--help").output
    assert 'ditprobe generate "a red disc moves left over blue stripes"' in text
    for option in (
        "--out",
        "--seed",
        "--guidance-scale",
        "--negative-prompt",
        "--images",
        "--size",
        "--count",
        "--pixel-scale",
    ):
        assert option in text


def test_the_bundled_backbone_writes_a_video_of_the_prompt(run: Run) -> None:
    printed = run("generate", "--backbone", "mini", PROMPT, "--steps", 2, "--device", "cpu").stdout
    assert printed == (
        f"{NAME}: 6 images of 40 x 40 px (height x width) at 8 fps, seed 0; its prompt is in {NAME}.npz\n"
        f"mini, 2 steps with guidance 4: '{PROMPT}'\n"
    )
    assert_shows(NAME, load_backbone("mini", device="cpu").generate(PROMPT, steps=2))


def test_options_reach_the_backbone(run: Run, small: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, given = Backbone.generate, {}

    def seen(*args: Any, **kwargs: Any) -> Clip:
        given.update(kwargs)
        return whole(*args, **kwargs)

    monkeypatch.setattr(Backbone, "generate", seen)
    options: dict[str, Any] = {"seed": 5, "images": 4, "height": 8, "width": 32}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    words += ["--guidance", 2.5, "--negative-prompt", "grey", "--out", "deep/er/made.mkv"]
    printed = run("generate", PROMPT, *FEW, *words).stdout
    assert printed == (
        "deep/er/made.mkv: 4 images of 8 x 32 px (height x width) at 8 fps, seed 5; its prompt is in "
        f"deep/er/made.mkv.npz\n./small, 2 steps with guidance 2.5: '{PROMPT}'\n"
    )
    # the text changes little in an untrained model, so what was asked for is compared as well
    given.pop("on_step")
    assert given == {"steps": 2, "guidance_scale": 2.5, "negative_prompt": "grey", **options}
    clip = small.generate(PROMPT, **given)
    assert_shows("deep/er/made.mkv", clip)


def test_several_clips_have_seeds_in_a_row_and_in_their_names(run: Run, small: Backbone) -> None:
    printed = run("generate", PROMPT, *FEW, "--seed", 7, "--count", 2, "--out", "ring.mp4").stdout
    assert [line.partition(":")[0] for line in printed.splitlines()] == [
        "ring-7.mp4",
        "ring-8.mp4",
        "./small, 2 steps with guidance 4",
    ]
    for seed in (7, 8):
        assert_shows(f"ring-{seed}.mp4", small.generate(PROMPT, steps=2, seed=seed))
    assert not Path("ring.mp4").exists()


def test_the_scale_repeats_pixels(run: Run, small: Backbone) -> None:
    printed = run("generate", PROMPT, *FEW, "--scale", 3).output
    assert printed.startswith(f"{NAME}: 3 images of 48 x 72 px ")
    images = small.generate(PROMPT, steps=2).images
    assert_shows(NAME, Clip(np.kron(images, np.ones((1, 3, 3, 1), np.uint8)), fps=8, prompt=PROMPT))
    assert enlarged(Clip(images, fps=8), 1).images is images


def test_an_empty_prompt_is_generated_without_a_text(run: Run, small: Backbone) -> None:
    run("generate", "", *FEW)
    assert_shows("clip.mp4", small.generate("", steps=2))


@pytest.mark.usefixtures("small", "no_model")
def test_a_dry_run_says_what_would_be_made_and_writes_nothing(run: Run) -> None:
    Path(NAME).touch()
    printed = run("generate", PROMPT, *FEW, "--count", 2, "--dry-run").stdout.splitlines()
    assert printed[0].startswith("Mini('./small': 1 layer of 2 heads x 16 channels, 16 x 24 px and 3 images, ")
    stem = NAME.removesuffix(".mp4")
    assert printed[1:4] == [
        f"  clips     {stem}-0.mp4, {stem}-1.mp4",
        f"  prompt    '{PROMPT}'",
        "  run       2 steps with guidance 4",
    ]
    assert printed[4].startswith("  decoding  ")
    assert printed[4].endswith(" in one piece")
    assert printed[5].startswith("  time      about ")
    assert sorted(path.name for path in Path().iterdir()) == [NAME, "small"]


@pytest.mark.usefixtures("small", "no_model")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("a purpel disc moves left over blue stripes",),
            "unknown word 'purpel'; known colours: red, orange, yellow, green, cyan, blue, purple, pink, white, grey. "
            "Did you mean 'purple'?",
        ),
        (
            ("a purpel disc moves left over blue stripes", "--dry-run"),
            "unknown word 'purpel'; known colours: red, orange, yellow, green, cyan, blue, purple, pink, white, grey. "
            "Did you mean 'purple'?",
        ),
        ((PROMPT, "--negative-prompt", "dog"), "unknown word 'dog'; known articles: a, an."),
        (
            (PROMPT, "--width", "30"),
            "./small does not take 16 x 30 px and 3 images (height x width): heights must be multiples of 8 px, widths "
            "of 8 px, with "
            "any number of images. The nearest size that fits is 16 x 32 px and 3 images; its default is 16 x 24 px "
            "and 3 images.",
        ),
        (
            (PROMPT, "--steps", "2000"),
            "a run of 2000 steps was asked for; CogVideoXDDIMScheduler has 1000 timesteps, so at most --steps 1000.",
        ),
    ],
)
def test_what_the_backbone_does_not_take_is_refused_before_it_runs(
    words: tuple[str, ...], message: str, run: Run
) -> None:
    assert run("generate", *FEW, *words, "--out", "made.mp4", code=2).output == f"error: {message}\n"
    assert not Path("made.mp4").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--out", "taken.mp4"),
            "taken.mp4 exists already. Choose another path for the clip, or pass --overwrite to replace it.",
        ),
        (
            ("--out", "other.mp4", "--count", "3"),
            "other-1.mp4 exists already. Choose another path for the clip, or pass --overwrite to replace it.",
        ),
        (
            ("--out", "made.gif"),
            "made.gif cannot hold the clip: its suffix must be .mp4, .mov, .m4v, .mkv or .avi. Name it made.mp4.",
        ),
        (("--out", "."), ". is a folder. Name a file, for example clip.mp4."),
        (
            ("--backbone", "mimi"),
            "no file, folder or bundled backbone named 'mimi'. Give a folder that exists, 'mini' or 'mini-rope', which "
            "are bundled, or a hub id, which is owner/name.",
        ),
    ],
)
def test_bad_input_is_refused_before_a_backbone_is_loaded(
    words: tuple[str, ...], message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*args: object, **kwargs: object) -> None:
        raise AssertionError("a backbone was loaded")

    monkeypatch.setattr("probe.mini.model.load_mini", loaded)
    for name in ("taken.mp4", "other-1.mp4"):
        Path(name).write_text("precious")
    assert run("generate", PROMPT, *words, code=2).output == f"error: {message}\n"
    assert Path("taken.mp4").read_text() == Path("other-1.mp4").read_text() == "precious"


@pytest.mark.parametrize("words", [(), (PROMPT, "--count", 0), (PROMPT, "--scale", 0), (PROMPT, "--steps", 0)])
def test_usage_errors_have_code_2(words: tuple[object, ...], run: Run) -> None:
    assert "Usage: " in run("generate", *words, code=2).output


@pytest.mark.usefixtures("small")
def test_an_existing_video_is_replaced_where_asked(run: Run) -> None:
    Path(NAME).write_text("old")
    run("generate", PROMPT, *FEW, "--overwrite")
    assert len(read_clip(NAME)) == 3


@pytest.mark.usefixtures("small")
@pytest.mark.filterwarnings("default::store.scenes.prompt.PromptWarning")
def test_a_prompt_outside_the_grammar_is_run_with_one_line_of_warning(run: Run) -> None:
    result = run("generate", "a red disc moves left", *FEW, "--count", 2)
    assert result.stderr.strip() == (
        "warning: ./small was trained on another kind of prompt than 'a red disc moves left': the prompt ends after "
        "'a red disc moves left'; expected 'over'."
    )
    assert read_clip("a-red-disc-moves-left-1.mp4").prompt == "a red disc moves left"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("count", "told"), [(3, "interrupted. Finished clips are kept.\n"), (1, "interrupted.\n")])
def test_ctrl_c_keeps_the_clips_that_are_finished(
    count: int, told: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = Backbone.generate, []

    def stopped(*args: Any, **kwargs: Any) -> Clip:
        calls.append(kwargs["seed"])
        if len(calls) == count:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(Backbone, "generate", stopped)
    result = run("generate", PROMPT, *FEW, "--count", count, "--out", "made.mp4", code=130)
    assert result.stderr.lstrip("\n") == told
    assert sorted(path.name for path in Path().glob("*.mp4")) == [f"made-{seed}.mp4" for seed in range(count - 1)]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red disc moves left!", "a-red-disc-moves-left.mp4"),
        ("../etc/passwd", "etc-passwd.mp4"),
        ("", "clip.mp4"),
        ("?!", "clip.mp4"),
        ("ein Löwe läuft", "ein-löwe-läuft.mp4"),
        ("word " * 30, "-".join(["word"] * 16) + ".mp4"),
        ("x" * 200, "x" * 80 + ".mp4"),
    ],
)
def test_names_of_files_are_the_words_of_the_prompt(prompt: str, name: str) -> None:
    assert file_name(prompt) == name


def test_paths_of_several_clips_are_distinct() -> None:
    assert output_paths(Path("a/b.mov"), 3, 1) == {3: Path("a/b.mov")}
    assert output_paths(Path("a/b.mov"), 3, 2) == {3: Path("a/b-3.mov"), 4: Path("a/b-4.mov")}
