"""``ditprobe heads``: from scenes to classes, a file and a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr
from typer.testing import Result

from analyses.heads.files import load_heads, save_heads
from ditprobe.cli.verbs import heads as verb
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from store.errors import RecordingError

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(new_pipeline(MiniConfig(layers=2, images=3, height=24, width=24)))
    monkeypatch.setattr(verb, "load_backbone_option", lambda *_, **__: backbone)


def test_scenes_become_classes_a_file_and_a_page(run: Run) -> None:
    said = run("heads", "--scenes", "0:3", "--at", "0,-1", "--steps", 4, "--picture", "heads.html").stdout
    assert said.startswith("8 heads at step 3, 3 clips: ")
    assert [line.split()[0] for line in said.splitlines()[1:4]] == ["layer", "0", "1"]
    assert load_heads("heads.nc")["step"].values.tolist() == [0, 3]
    assert run("info", "heads.nc").stdout.startswith("8 heads at step 3, 3 clips: ")
    assert "Heads of" in Path("heads.html").read_text()
    run("heads", "--scenes", "0:3", code=2)  # the file is there
    found = json.loads(run("heads", "--scenes", "0:2", "--steps", 4, "--json", "--overwrite").stdout)
    assert found["clips"] == 2
    assert {row["class"] for row in found["heads"]} <= {"spatial", "temporal", "undecided"}


def test_a_dry_run_measures_nothing(run: Run) -> None:
    assert "2 windows of 2 clips" in run("heads", "--scenes", "0:2", "--dry-run", "--no-estimate").stdout
    assert not Path("heads.nc").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to measure"),
        (("--clips", "nothere.mp4"), "nothere.mp4 is missing"),
        (("--scenes", "0:2", "--at", "99"), "99"),
        (("--scenes", "0:2", "--layers", "7"), "layer 7"),
        (("--scenes", "0:2", "--out", "x.csv"), "suffix must be .nc"),
        (("--scenes", "0:2", "--images", "1"), "is one latent frame long"),
        (("--scenes", "0:2", "--margin", "0.5"), "greater than or equal to 1"),
    ],
)
def test_bad_input_is_refused(run: Run, words: tuple[str, ...], message: str) -> None:
    assert message in run("heads", *words, code=2).stderr
    assert not Path("heads.nc").exists()


def test_a_full_disk_at_the_end_leaves_the_classes_that_were_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RecordingError("the disk is full.") from OSError(28, "No space left on device")

    monkeypatch.setattr("analyses.heads.files.save_heads", full)
    found = run("heads", "--scenes", "0:2", "--steps", 4, code=1)
    assert found.stdout.startswith("8 heads at step 3, 2 clips: ")
    assert "the disk is full" in found.stderr


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.nc"
    save_heads(xr.Dataset({"mass": ("head", [1.0])}), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RecordingError):
        load_heads(path)


def test_the_report_of_a_sweep_has_a_section_on_heads(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ditprobe.cli.verbs import report, sweep

    for each in (sweep, report):
        monkeypatch.setattr(each, "load_backbone_option", verb.load_backbone_option)
    scenes = ("--scenes", "0:2", "--steps", 4)
    run("heads", *scenes)
    run("sweep", *scenes, "--at", "3", "--out", "sweep.nc")
    plan = run("report", "sweep.nc", "--heads", "heads.nc", "--dry-run").stdout
    assert "classes of heads" in plan
    run("report", "sweep.nc", "--heads", "heads.nc", "--scenes", "0:1", "--out", "page.html")
    text = Path("page.html").read_text()
    assert 'id="classes"' in text
    assert "head 0 of layer" in text or "head 1 of layer" in text or "head 2 of layer" in text or "head 3" in text
    assert "holds no sweep of heads" in run("report", "sweep.nc", "--heads", "no.nc", code=2).stderr.replace("\n", " ")
