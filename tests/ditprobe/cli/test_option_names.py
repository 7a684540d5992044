"""One name an option across verbs, the older ones understood; and help that fits into a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import Result

from ditprobe.cli.app import app
from store import read_clip

Run = Callable[..., Result]
VERBS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
PROMPT = "a red disc moves left over blue stripes"
SHORT = ("--steps", 2)


def names(verb: str) -> set[str]:
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    return {name for parameter in command.params if not getattr(parameter, "hidden", False) for name in parameter.opts}


def test_an_option_has_one_name_in_every_verb() -> None:
    shown = {verb: names(verb) for verb in VERBS}
    for once in ("--scale", "--clip", "--scene", "--branch", "--step", "--height", "--width", "--guidance"):
        assert [verb for verb in VERBS if once in shown[verb]] == []
    for verb in ("generate", "guide", "transfer", "track"):
        assert {"--size", "--pixel-scale"} <= shown[verb]
    for verb in ("sweep", "record", "guide", "track", "amf", "eval-tapvid"):
        assert "--at" in shown[verb]
    assert "--strength" in shown["guide"]
    assert {"--clips", "--scenes", "--branches"} <= shown["sweep"] & shown["record"]


def test_older_names_of_options_are_understood(run: Run) -> None:
    run("generate", PROMPT, *SHORT, "--scale", 2, "--out", "a.mp4")
    assert read_clip("a.mp4").images.shape[1:3] == (80, 80)
    run("generate", PROMPT, *SHORT, "--height", 24, "--width=32", "--out", "b.mp4")
    run("generate", PROMPT, *SHORT, "--size", "24x32", "--out", "c.mp4")
    assert (read_clip("b.mp4").images == read_clip("c.mp4").images).all()
    assert read_clip("c.mp4").images.shape[1:3] == (24, 32)
    assert "step 1 of 2" in run("track", "a.mp4", "--grid", 2, "--step", 1, *SHORT, "--dry-run", "--no-estimate").output
    run("record", "--scene=3", "--layers", 1, "--at", -1, *SHORT, "--branch", "cond", "--out", "r.zarr")
    run("sweep", "--scenes", 3, "--branch", "cond", *SHORT, "--at", -1, "--dry-run", "--no-estimate")
    printed = run("generate", PROMPT, "--size", "24x32", "--height", 24, code=2).output
    assert printed == "error: --size is the height and the width. Leave --height and --width out.\n"
    printed = run("sweep", "--scenes", 3, "--branches", "cond,uncond", code=2).output
    assert printed == "error: --branches 'cond,uncond' names several; a sweep measures one.\n"


def test_what_scale_means_in_guide_is_said(run: Run) -> None:
    words = ("guide", PROMPT, *SHORT, "--dry-run", "--no-estimate")
    result = run(*words, "--scale", 8)
    assert "cross-attention guidance 8 " in result.output
    assert result.stderr == (
        "warning: --scale of guide is the guidance's strength and is called --strength; --pixel-scale enlarges.\n"
    )
    assert run(*words, "--strength", 8).stdout == result.stdout


def test_words_after_two_dashes_are_no_options(run: Run) -> None:
    printed = run("generate", "--dry-run", "--no-estimate", *SHORT, "--", "--scale", code=2).output
    assert "--scale" in printed
    assert "--pixel-scale" not in printed


def test_help_names_no_python_types_and_cuts_no_sentence(run: Run) -> None:
    text = run("--help").output
    assert not re.search(r"\w\.\.\.", text)
    assert "Start here" in text
    assert text.index("generate") < text.index("transfer") < text.index("info")
    rows = re.findall(r"^  ([a-z][a-z-]+) {2,}(\S.*)$", text, re.MULTILINE)
    assert sorted(name for name, _ in rows) == VERBS
    assert all(line.endswith(".") for _, line in rows), "each verb is told in one line of 80 columns"
    for verb in VERBS:
        text = run(verb, "--help").output
        assert not re.search(r"^  -.*(list\[|<str>|<int|<path>|<float>)", text, re.MULTILINE), verb
        assert all(len(line) <= 80 for line in text.partition("Examples:")[0].splitlines()), verb


def test_a_verb_shows_its_options_in_groups(run: Run) -> None:
    text = run("track", "--help").output
    order = [text.index(f"\n{heading}:\n") for heading in ("Arguments", "Options", "Run of the model")]
    assert order == sorted(order)
    model = text.partition("\nModel:\n")[2].partition("\n\n")[0]
    assert "--backbone" in model
    assert "--grid" not in model


def test_the_file_beside_a_generated_clip_is_mentioned(run: Run) -> None:
    assert run("generate", PROMPT, *SHORT, "--out", "a.mp4").output.startswith(
        "a.mp4: 6 images of 40 x 40 px (height x width) at 8 fps, seed 0; its prompt is in a.mp4.npz\n"
    )
    assert Path("a.mp4.npz").is_file()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("sweep", "--scenes", 0, "--at", -1), "'scene 0': 1 window of 1 forward pass at 40 x 40 px and 6 images"),
        (("guide", PROMPT, "--layers", 5), "in layer 5 at 2 of 2 steps"),
    ],
)
def test_one_of_a_kind_is_not_told_as_several(run: Run, words: tuple[object, ...], line: str) -> None:
    assert line in run(*words, *SHORT, "--dry-run", "--no-estimate").output
