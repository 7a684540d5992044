"""``ditprobe record`` and ``info``: what they refuse before a model runs, and how errors of the library are told."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from typer.testing import Result

import probe.recording.record as recording
from ditprobe.cli.console import for_command_line, verb
from store import make_scene, read_clip, write_clip
from store.errors import InvalidInputError
from store.scenes.prompt import PromptWarning
from store.wording import Wording

OLD = Path(__file__).parents[3] / "store" / "data" / "recording-v1.zarr"
Run = Callable[..., Result]
ONE = ("--layers", "1", "--at", "-1", "--steps", "3")
needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model ran")

    for name in ("show_clip", "sample_prompt"):
        monkeypatch.setattr(recording, name, ran)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("made.mp4", "made.mp4 exists already. Choose another path for the clip, or pass --overwrite to replace it."),
        (
            "made.txt",
            "made.txt cannot hold the clip: its suffix must be .mp4, .mov, .m4v, .mkv or .avi. Name it made.mp4.",
        ),
        ("made", "made cannot hold the clip: its suffix must be .mp4, .mov, .m4v, .mkv or .avi. Name it made.mp4."),
        (".", ". is a folder. Name a file, for example clip.mp4."),
    ],
)
def test_a_clip_that_cannot_be_saved_is_refused_before_the_model_runs(run: Run, path: str, message: str) -> None:
    Path("made.mp4").write_text("precious")
    assert run("record", "--scene", 1, *ONE, "--save-clip", path, code=2).output == f"error: {message}\n"
    assert Path("made.mp4").read_text() == "precious"
    assert not Path("recording.zarr").exists()


@pytest.mark.usefixtures("no_model")
def test_the_clip_that_is_shown_is_never_replaced(run: Run) -> None:
    write_clip("shown.mp4", make_scene(1))
    words = ("record", "--clip", "shown.mp4", *ONE, "--save-clip", "./shown.mp4", "--overwrite")
    assert run(*words, code=2).output == "error: --save-clip would replace --clips. Choose another path.\n"
    assert len(read_clip("shown.mp4")) == 6


@pytest.mark.parametrize("source", [("--prompt", "a red disc moves left over blue stripes"), ("--scene", 1)])
def test_a_complete_recording_resumed_still_saves_its_clip(run: Run, source: tuple[object, ...]) -> None:
    run("record", *source, *ONE)
    run("record", *source, *ONE, "--resume", "--save-clip", "made.mp4")
    assert len(read_clip("made.mp4")) == 6


def test_refusals_name_options(run: Run) -> None:
    run("record", "--scene", 1, *ONE)
    assert run("record", "--scene", 1, *ONE, code=2).output.endswith(
        "error: recording.zarr exists already. Choose another path for the recording, or pass --overwrite to "
        "replace it "
        "or --resume to complete it.\n"
    )
    printed = run("record", "--scene", 1, *ONE, "--limit", "10kB", code=2).output
    limit = printed.strip().rpartition(" or raise it with --limit ")[2].rstrip(".")
    run("record", "--scene", 1, *ONE, "--limit", limit, "--out", "other.zarr")
    assert run("record", "--scene", 1, "--steps", 2000, code=2).output == (
        "error: a run of 2000 steps was asked for; CogVideoXDDIMScheduler has 1000 timesteps, so at most --steps "
        "1000.\n"
    )


def test_a_damaged_recording_is_named_by_info_and_mended_by_the_same_command_with_resume(run: Run) -> None:
    run("record", "--scene", 1, *ONE)
    assert run("info", "recording.zarr", "--verify").output.endswith(
        "\n  every record marked done is intact, and so are metadata and coordinates\n"
    )
    file = Path("recording.zarr/key/c.0.0.0.0.0.0.0.0")
    data = bytearray(file.read_bytes())
    data[100] ^= 4
    file.write_bytes(data)
    printed = run("info", "recording.zarr", "--verify", code=1).output
    assert "\n  step 2, layer 1, branch 'cond', key: the checksum of key is " in printed
    assert printed.endswith("\n  `ditprobe record` with the same options and --resume records damaged parts again\n")
    run("record", "--scene", 1, *ONE, "--resume")
    run("info", "recording.zarr", "--verify")


def test_info_says_what_format_1_cannot_vouch_for(run: Run) -> None:
    shutil.copytree(OLD, "old.zarr")
    assert run("info", "old.zarr", "--verify").output.endswith(
        "\n  every record marked done is intact\n"
        "  not verified: status, times and counts, which have no checksum in format 1\n"
    )


def test_too_little_room_for_a_recording_is_a_failure_and_not_bad_input(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    printed = run("record", "--scene", 1, *ONE, code=1).output
    assert " has 10.0 kB free. Free some space, choose another path, or select fewer steps, layers or heads." in printed
    assert not Path("recording.zarr").exists()


@needs_no_cuda
def test_a_device_that_is_not_there_is_told_in_a_line(run: Run) -> None:
    assert run("record", "--scene", 1, *ONE, "--device", "foo", code=2).output == (
        "error: device 'foo' is unknown. Available here: cpu.\n"
    )
    printed = run("info", "mini", "--device", "cuda", code=2).output
    assert printed.startswith("error: device 'cuda' cannot be used: ")
    assert printed.endswith("Available here: cpu.\n")


def test_info_of_nothing_says_so_at_once(run: Run) -> None:
    assert run("info", "nothere.mp4", code=2).output == ("error: nothere.mp4 is missing. Give the path of a file.\n")
    assert run("info", "", code=2).output.startswith("error: no backbone was named: the name is empty. ")
    Path("empty.zarr").mkdir()
    assert run("info", "empty.zarr", code=2).output.startswith(
        "error: empty.zarr holds no arrays. It is not a video, a recording, "
    )


@pytest.mark.parametrize(
    ("remedy", "parameters", "told"),
    [
        (Wording("Raise it with {limit_bytes}.", limit_bytes=2000), ["limit"], "Raise it with --limit 2000."),
        (Wording("Pass {overwrite}.", overwrite=True), ["overwrite"], "Pass --overwrite."),
        (Wording("Pass {resume} to go on.", resume=True), ["overwrite"], "Pass resume=True to go on."),
        (Wording("Record with {layers}.", layers=[13, 14]), ["layers"], "Record with --layers 13,14."),
        (Wording("Record with {steps}.", steps=[0, -1]), ["at", "steps"], "Record with --at 0,-1."),
        (Wording("Continue with {steps}.", steps=20), ["at", "steps"], "Continue with --steps 20."),
        (Wording("Best is {size}.", size=(40, 64)), ["size"], "Best is --size 40x64."),
        (Wording("Pass {vae_dtype}.", vae_dtype="float32"), ["vae_dtype"], "Pass --vae-dtype float32."),
        (
            Wording("Pass a {guidance_scale} above 1, or {branches}.", guidance_scale=None, branches=("cond",)),
            ["guidance_scale", "branches"],
            "Pass a --guidance-scale above 1, or --branches cond.",
        ),
        (
            Wording("Pass {conditioning}.", conditioning={"image": ...}),
            [],
            "Pass conditioning={'image': ...}. There is no option for conditioning: run this from Python.",
        ),
    ],
)
def test_arguments_are_told_as_the_options_a_verb_has(remedy: Wording, parameters: list[str], told: str) -> None:
    assert for_command_line(InvalidInputError("no.", remedy=remedy), parameters) == f"no. {told}"


def outcome(function: Callable[..., Any], capsys: pytest.CaptureFixture[str], **given: Any) -> tuple[int, str]:
    with pytest.raises(typer.Exit) as caught:
        verb(function)(**given)
    return caught.value.exit_code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "interrupted. Finished work is kept; run the same command with --resume to continue.\n"),
        (
            {"overwrite": True},
            "interrupted. Finished work is kept; run the same command with --resume in place of --overwrite to "
            "continue.\n",
        ),
        ({"dry_run": True}, "interrupted.\n"),
    ],
)
def test_ctrl_c_promises_what_the_verb_can_do(
    given: dict[str, bool], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def plain(out: Path) -> None:
        raise KeyboardInterrupt

    def resumable(resume: bool, overwrite: bool = False, dry_run: bool = False) -> None:
        raise KeyboardInterrupt

    assert outcome(plain, capsys, out=Path("x")) == (130, "interrupted.\n")
    assert outcome(resumable, capsys, resume=False, **given) == (130, told)


def test_failures_of_the_disk_are_one_line_and_others_are_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    def denied() -> None:
        raise PermissionError(13, "Permission denied", "out.nc")

    def wrong() -> None:
        raise InvalidInputError("no overwrite=True here")

    def closed() -> None:
        raise BrokenPipeError

    assert outcome(denied, capsys) == (1, "error: [Errno 13] Permission denied: 'out.nc'\n")
    assert outcome(wrong, capsys) == (2, "error: no overwrite=True here\n")
    with pytest.raises(BrokenPipeError):
        verb(closed)()


def test_a_warning_about_a_prompt_is_told_once_however_often_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    def warned() -> None:
        warnings.simplefilter("always")
        for text in ("one", "two", "one", "one"):
            warnings.warn(text, PromptWarning, stacklevel=1)

    verb(warned)()
    assert capsys.readouterr().err == "warning: one\nwarning: two\n"


def test_a_clip_in_a_folder_that_cannot_be_made_is_refused_and_nothing_replaced(run: Run) -> None:
    run("record", "--scene", 1, *ONE, "--save-clip", "deep/er/made.mp4")
    assert len(read_clip("deep/er/made.mp4")) == 6
    shutil.rmtree("deep")
    Path("deep").touch()
    printed = run("record", "--scene", 1, *ONE, "--overwrite", "--save-clip", "deep/er/made.mp4", code=2).output
    assert printed == (
        f"error: deep/er/made.mp4 cannot be written: {Path('deep').absolute()} is a file, not a folder. Choose another "
        "path.\n"
    )
    assert Path("recording.zarr").is_dir()
