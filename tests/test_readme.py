"""What the README and the other pages tell people to type works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from typer.testing import CliRunner

from ditprobe.cli.app import app
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from probe.recording.record import record
from store import Clip, Selection, make_scene
from store.datasets.tapvid import read_tapvid
from store.datasets.tapvid_writing import write_tapvid

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def python_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


BLOCKS = python_of("README.md")
FEWER = {  # scenes and steps than a reader's; what the commands do is the same
    "--scenes 0:16": "--scenes 0:3 --steps 12 --at 0:12:3,-1",
    "--scenes 0:8": "--scenes 0:3",
    "--at 0,25,-1": "--steps 12 --at 0,6,-1",
    "ditprobe generate ": "ditprobe generate --steps 4 ",
    "ditprobe transfer ": "ditprobe transfer --steps 4 ",
    "--steps 10": "--steps 4",
}
FEWER_IN_PYTHON = {"range(16)": "range(6)", "range(0, 50, 7)": "range(0, 50, 21)", "steps=20": "steps=6"}
COMMANDS = [line.split("  #")[0] for line in re.findall(r"^ditprobe .*$", README, flags=re.MULTILINE)]


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[go.Figure] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    names: dict[str, object] = {}
    bundled = [block for block in BLOCKS if "from_pretrained" not in block]
    assert [written for written in FEWER_IN_PYTHON if written not in "".join(bundled)] == []
    for block in bundled:
        for written, fewer in FEWER_IN_PYTHON.items():
            block = block.replace(written, fewer)
        exec(block, names)
    assert len(bundled) == 4
    assert len(shown) == 1
    assert names["tracks"].shape == (6, 100, 2)
    assert names["followed"].tracks.shape == (12, 2, 2)
    assert names["strip"].shape == (178, 980, 3)
    assert list(names["scores"]["tracker"].values) == ["mini", "nothing moves"]
    assert names["moved"].images.shape == (6, 40, 40, 3)
    assert list(read_tapvid(tmp_path / "scenes.pkl")) == ["scene 4"]


def test_the_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tapvid("scenes.pkl", {"scene 4": make_scene(4)})  # as the Python above the command does
    assert [written for written in FEWER if written not in README] == []
    ran = 0
    for command in COMMANDS:
        if "CogVideoX" in command or "$DITPROBE_DATA" in command:
            continue  # no network; real clips have their own tests
        for written, fewer in FEWER.items():
            command = command.replace(written, fewer)
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}: {result.output}"
        ran += 1
    assert ran == 14
    assert (tmp_path / "view.html").stat().st_size < 8_000_000
    assert (tmp_path / "again.html").exists()
    assert 'id="table-trackers"' in (tmp_path / "trackers.html").read_text()


def test_the_python_of_every_page_has_a_test_here() -> None:
    pages = [path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))]
    pages = [page for page in pages if not page.startswith("docs/extending/")]  # tests/test_extending.py runs those
    pages.append("probe/mini/MODEL_CARD.md")
    found = {page: len(python_of(page)) for page in pages}
    assert {page: count for page, count in found.items() if count} == {
        "README.md": 5,  # of which one downloads; tests/ditprobe/test_own_pipeline.py has its like
        "docs/errors.md": 1,
        "docs/format.md": 2,
        "docs/scenes.md": 1,
        "probe/mini/MODEL_CARD.md": 1,
    }


def test_the_python_of_the_errors_catches_one(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = python_of("docs/errors.md")
    exec(block, {})
    assert "no-such-folder.zarr" in capsys.readouterr().out


def test_the_python_of_the_scenes_turns_the_object() -> None:
    names: dict[str, object] = {}
    (block,) = python_of("docs/scenes.md")
    exec(block, names)
    scene = names["scene"]
    assert isinstance(scene, Clip)
    assert scene.prompt == "a red disc moves right over blue stripes"
    assert names["prompt"].objects[0].direction == "left"
    np.testing.assert_array_equal(scene.images, make_scene(7, prompt=scene.prompt).images)


def test_the_python_of_the_format_reads_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mini = MiniConfig(images=2, height=16, width=24, layers=18, heads=1, channels=16)
    backbone = load_backbone(new_pipeline(mini), device="cpu")
    run = record(backbone, make_scene(0, 2, 16, 24), Selection([49], [17]), "run.zarr", noise="forward")
    names: dict[str, object] = {}
    usual, in_bfloat16 = python_of("docs/format.md")
    exec(usual, names)
    assert names["query"].shape == (1, 2, 4, 6, 16)
    np.testing.assert_array_equal(names["query"], run.read(step=49, layer=17)[0])
    options = {"noise": "forward", "stored_dtype": "bfloat16", "overwrite": True}
    run = record(backbone, make_scene(0, 2, 16, 24), Selection([49], [17]), "run.zarr", **options)
    exec(in_bfloat16, names)
    np.testing.assert_array_equal(names["query"], run.read(step=49, layer=17)[0])


def test_the_python_of_the_model_card_generates_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    (block,) = python_of("probe/mini/MODEL_CARD.md")
    assert "num_frames=6)" in block
    exec(block.replace("num_frames=6)", "num_frames=6, num_inference_steps=8)"), names)
    assert [image.size for image in names["video"]] == 6 * [(40, 40)]
