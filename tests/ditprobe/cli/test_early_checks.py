"""What is wrong with a command is said before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from ditprobe.cli import options
from probe import load_backbone
from probe.mini import BUNDLED

ROOT = Path(__file__).parents[3]
Run = Callable[..., Result]

# Every command, how it ends, and what has not been imported by then.
EARLY = [
    (["track", "nothere.mp4", "--grid", "3"], "nothere.mp4 is missing. Give the path of a video."),
    (["amf", "nothere.mp4"], "nothere.mp4 is missing. Give the path of a video."),
    (["transfer", "nothere.mp4", "a dog"], "nothere.mp4 is missing. Give the path of a video."),
    (["transfer", "a dog", "--embedding", "no.safetensors"], "no.safetensors is missing."),
    (["record", "--clips", "nothere.mp4"], "nothere.mp4 is missing. Give the path of a video."),
    (["sweep", "--clips", "nowhere"], "nowhere is missing. Give the path of a video or of a folder of clips."),
    (["sweep", "--recording", "no.zarr"], "no.zarr is missing. Give the path of a recording."),
    (["track", "clip.txt", "--points", "no.csv"], "no.csv is missing. Give the path of a CSV file of points."),
    (["info", "nothere.mp4"], "nothere.mp4 is missing."),
    (["generate", "a dog", "--out", "clip.gif"], "clip.gif cannot hold the clip: its suffix must be .mp4,"),
    (["generate", "a dog", "--out", "clip.mp4"], "clip.mp4 exists already."),
    (["guide", "a dog", "--out", "clip.mp4"], "clip.mp4 exists already."),
    (["sweep", "--scenes", "0", "--layers", "4-5"], "Both included, that range is '4:6'."),
    (["sweep", "--scenes", "0-4"], "Both included, that range is '0:5'."),
    (["record", "--scenes", "0:4"], "--scenes '0:4' names 4 scenes; a recording holds one."),
    (["sweep", "--scenes", "0", "--size", "41x41"], "The nearest size that fits is --size 40x40."),
    (["track", "clip.txt", "--grid", "3", "--size", "41x41"], "--size 40x40."),
    (["generate", "a dog", "--size", "41"], "--size '41' is not HEIGHTxWIDTH."),
    (["guide", "a dog", "--layers", "4-5"], "Both included, that range is '4:6'."),
    (["sweep", "--scenes", "0", "--out", "sweep.csv"], "does not end in .nc"),
]
PROBE = """
import json, sys
from typer.testing import CliRunner
from ditprobe.cli.app import app
found = []
for words in json.load(sys.stdin):
    result = CliRunner().invoke(app, words)
    heavy = [name for name in ("torch", "diffusers", "xarray") if name in sys.modules]
    found.append([result.exit_code, result.output, heavy])
json.dump(found, sys.stdout)
"""


def test_missing_files_taken_paths_and_syntax_are_told_without_torch(tmp_path: Path) -> None:
    for name in ("clip.mp4", "clip.txt"):
        (tmp_path / name).write_text("no video")
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        input=json.dumps([words for words, _ in EARLY]),
        capture_output=True,
        text=True,
        check=True,
    )
    for (words, message), (code, printed, imported) in zip(EARLY, json.loads(done.stdout), strict=True):
        assert code == 2, f"{words}: {printed}"
        assert message in printed, words
        assert printed.count("\n") == 1, words
        assert imported == [], f"{words} imports {imported}"


def test_selecting_and_describing_a_sweep_need_no_torch(run: Run, tmp_path: Path) -> None:
    run("sweep", "--scenes", "0:2", "--steps", 2, "--at", -1, "--layers", "4,5")
    commands = [["select", "sweep.nc"], ["info", "sweep.nc"], ["report", "sweep.nc", "--dry-run"]]
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
    )
    for words, (code, printed, imported) in zip(commands, json.loads(done.stdout), strict=True):
        assert code == 0, printed
        assert "torch" not in imported, words


@pytest.mark.parametrize("name", BUNDLED)
def test_the_sizes_known_without_a_model_are_those_of_the_bundled_backbones(name: str) -> None:
    step = options._PIXEL_STEP_OF_MINIS[name]
    assert load_backbone(name).pixel_steps == (step, step)


def test_a_sweep_is_not_written_under_the_name_of_a_table(run: Run, tmp_path: Path) -> None:
    printed = run("sweep", "--scenes", "0:2", "--out", "x.csv", code=2).output
    assert printed == (
        "error: --out x.csv does not end in .nc: a sweep is a netCDF file. Name it x.nc; --csv writes a table.\n"
    )
    assert not list(tmp_path.iterdir())
