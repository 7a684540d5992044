"""``ditprobe sweep --truth`` on one's own videos, which have no tracks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from analyses.layers.sweep_files import load_sweep
from analyses.trackers.cotracker import CoTracker
from analyses.trackers.static import StaticTracker
from store import Clip, make_scene, write_clip

Run = Callable[..., Result]
SHORT = ("--layers", "4,5", "--at", -1, "--no-features", "--threshold-cells", 1, "--count", 1)


@pytest.fixture(autouse=True)
def video(tmp_path: Path) -> None:
    scene = make_scene(3, images=12)
    write_clip(tmp_path / "mine.mp4", Clip(scene.images, scene.fps))


def test_a_plain_video_is_swept_against_optical_flow_and_called_so(run: Run) -> None:
    printed = run("sweep", "--clips", "mine.mp4", *SHORT, "--truth", "flow", "--report", "page.html").output
    assert printed.count("accuracy against optical flow, not truth") == 2
    found = load_sweep("sweep.nc")
    assert np.isfinite(found["accuracy"]).all()
    assert found["points"].values.tolist() == [100, 100]
    assert "against optical flow, not truth" in Path("page.html").read_text()
    assert "against optical flow, not truth" in run("select", "sweep.nc", "--count", 1).output


def test_a_sweep_without_accuracy_says_how_to_get_one(run: Run) -> None:
    printed = run("sweep", "--clips", "mine.mp4", *SHORT).output
    assert "No clip has true tracks: no accuracy, no selection.\nAdd --truth flow to measure accuracy" in printed


def test_a_file_of_tracks_and_cotracker_are_named_as_the_source(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("track", "mine.mp4", "--grid", 3, "--no-overlay", "--out", "found.npz")
    run("sweep", "--clips", "mine.mp4", *SHORT, "--truth", "found.npz")
    assert load_sweep("sweep.nc").attrs["pseudo_truth"] == "accuracy against the attention of mini, not truth"

    weights = Path("weights.pth")
    weights.touch()
    monkeypatch.setattr(CoTracker, "from_checkpoint", lambda path, **_: named_still(path))
    words = ("--truth", "cotracker", "--cotracker", weights, "--overwrite")
    run("sweep", "--clips", "mine.mp4", *SHORT, *words)
    assert load_sweep("sweep.nc").attrs["pseudo_truth"] == "accuracy against nothing moves, not truth"


def named_still(path: Path) -> object:
    assert path.name == "weights.pth"
    return StaticTracker()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--clips", "mine.mp4", "--truth", "cotracker"), "--truth cotracker needs the weights of CoTracker3 offline."),
        (("--clips", "mine.mp4", "--truth", "flown"), "--truth 'flown' is neither 'flow', 'cotracker' nor a file"),
        (("--clips", "mine.mp4", "--cotracker", "w.pth"), "--cotracker applies to --truth cotracker."),
        (("--scenes", "0", "--truth", "flow"), "--truth applies to the videos of --clips, which are not given."),
    ],
)
def test_a_truth_that_names_nothing_is_refused(run: Run, words: tuple[object, ...], message: str) -> None:
    assert message in " ".join(run("sweep", *words, *SHORT, code=2).output.split())


def test_clips_with_tracks_keep_them(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "known.mp4", make_scene(3))
    printed = run("sweep", "--clips", "known.mp4", *SHORT, "--truth", "flow").output
    assert "--truth flow has no effect: every clip already has tracks" in printed
    assert "pseudo_truth" not in load_sweep("sweep.nc").attrs
