"""The demo: what it makes, and that it never removes what it did not make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from analyses.layers.sweep_files import load_sweep
from ditprobe.demo import MADE, MARKER, SCENES, TRANSFERRED_SCENE, demo, prepare
from store import make_scene
from store.errors import OutputExistsError
from store.scenes.prompt import parse_prompt

FEW = ("--scenes", "2", "--every", "49")  # the first and the last step


def run(*words: object) -> Result:
    app = typer.Typer()
    app.command()(demo)
    return CliRunner().invoke(app, [str(word) for word in words])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_it_makes_everything_and_a_second_run_removes_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ditprobe.demo.STEPS", 10)
    monkeypatch.setattr("ditprobe.demo.TRANSFER_STEPS", 2)
    monkeypatch.setattr("ditprobe.demo.TRACKED_IMAGES", 8)
    out = tmp_path / "deep" / "out"
    first = run("--out", out, *FEW)
    assert first.exit_code == 0, first.output
    assert names(out) == {*MADE, MARKER}
    number = r"(\d\.\d\d|–)"
    both = rf"{number} \(plain backbone: {number}\)"
    said = (
        f"a pink star over yellow clouds, moving as scene 18: motion fidelity {both}, motion error {both}; one clip is"
    )
    assert re.search(rf"\n{said} an example, not a measurement\n", first.output)
    assert 'id="table-transfer"' in (out / "report.html").read_text()
    assert (out / "report.html").stat().st_size > 1000
    (out / "notes.txt").write_text("mine")
    prepare(out)  # as each run begins
    assert names(out) == {MARKER, "notes.txt"}
    assert (out / "notes.txt").read_text() == "mine"


def test_a_folder_that_no_demo_made_is_refused_and_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "sweep.nc").write_text("precious")
    result = run("--out", tmp_path, *FEW)
    assert result.exit_code == 2
    assert result.output == (
        f"error: {tmp_path} holds files and was not made by the demo (it has no .ditprobe-demo), so nothing in it is "
        "touched. Choose another --out, or remove the folder.\n"
    )
    assert names(tmp_path) == {"sweep.nc"}
    assert (tmp_path / "sweep.nc").read_text() == "precious"


def test_a_file_is_refused_and_an_empty_folder_taken(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    result = run("--out", file, *FEW)
    assert result.exit_code == 2
    assert result.output == f"error: {file} is a file; the demo needs a folder. Choose another --out.\n"
    assert file.read_text() == "precious"
    with pytest.raises(OutputExistsError):
        prepare(file)
    empty = tmp_path / "empty"
    empty.mkdir()
    prepare(empty)
    assert names(empty) == {MARKER}


def test_a_link_is_removed_but_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").touch()
    prepare(tmp_path / "out")
    (tmp_path / "out" / "scene.zarr").symlink_to(precious)
    prepare(tmp_path / "out")
    assert names(tmp_path / "out") == {MARKER}
    assert names(precious) == {"data"}


def test_the_scene_whose_motion_is_transferred_is_the_first_of_one_object_and_a_still_camera() -> None:
    prompts = {seed: parse_prompt(make_scene(seed).prompt) for seed in SCENES}
    plain = [seed for seed, words in prompts.items() if len(words.objects) == 1 and not str(words.camera)]
    assert plain[0] == TRANSFERRED_SCENE


@pytest.mark.parametrize("finished", [0, 1])
def test_ctrl_c_says_where_the_finished_scenes_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int
) -> None:
    import analyses.layers.sweep_run as sweep_module

    real, calls = sweep_module.show_clip, []

    def interrupted(*args: object, **kwargs: object) -> None:
        calls.append(1)
        if len(calls) == finished + 1:
            raise KeyboardInterrupt
        real(*args, **kwargs)

    monkeypatch.setattr(sweep_module, "show_clip", interrupted)
    result = run("--out", tmp_path / "out", *FEW)
    assert result.exit_code == 130
    sweep = tmp_path / "out" / "sweep.nc"
    if finished:
        kept = f"The scenes that were finished are in {sweep}; the demo starts over when it runs again."
        assert load_sweep(sweep)["clip"].values.tolist() == ["scene 0"]
    else:
        kept = "No scene was finished."
        assert not sweep.exists()
    assert result.output.endswith(f"interrupted. {kept}\n")
