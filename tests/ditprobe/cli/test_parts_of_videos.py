"""A verb reads of a long video what it needs, and its results say which images of the video these were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

import store.clips.decoding
from analyses.layers.sweep_files import load_sweep
from ditprobe.cli.report_of_sweep import _as_swept
from store import Clip, make_scene, open_recording, write_clip

Run = Callable[..., Result]
ONE = ("--layers", 1, "--at", -1)


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One for each decoded image that became a picture in memory."""
    found: list[int] = []
    upright = store.clips.decoding._upright
    monkeypatch.setattr(store.clips.decoding, "_upright", lambda frame: found.append(1) or upright(frame))
    return found


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    scene = make_scene(3, images=60)
    write_clip(tmp_path / "long.mp4", scene)
    return scene


@pytest.mark.usefixtures("clip")
def test_track_reads_no_image_after_the_last(run: Run, converted: list[int]) -> None:
    run("track", "long.mp4", "--grid", 2, "--first", 10, "--last", 14, "--stride", 2, "--no-overlay", "--layer", 1)
    assert len(converted) == 3


@pytest.mark.usefixtures("clip")
def test_a_dry_run_of_amf_reads_what_it_shows(run: Run, converted: list[int]) -> None:
    run("amf", "long.mp4", "--last", 11, "--stride", 2, "--no-picture", "--dry-run")
    assert len(converted) == 6


@pytest.mark.usefixtures("clip")
def test_record_reads_up_to_its_window_and_knows_the_length_of_the_video(run: Run, converted: list[int]) -> None:
    printed = run("record", "--clip", "long.mp4", "--window", 1, "--stride", 2, *ONE).output
    assert len(converted) == 1 + 24
    assert "images 12 to 22, every 2 of 60, 40 x 40 px" in printed
    assert open_recording("recording.zarr").provenance.extra["first_image"] == 12
    assert "window 9 does not exist: the clip has windows 0 to 4." in run(
        "record", "--clip", "long.mp4", "--window", 9, "--stride", 2, *ONE, "--out", "other.zarr", code=2
    ).output.replace("\n", " ")


def test_a_sweep_of_a_part_numbers_the_images_of_the_video(run: Run, clip: Clip, converted: list[int]) -> None:
    run("sweep", "--clips", "long.mp4", "--first", 20, "--last", 31, *ONE, "--no-features", "--threshold-cells", 1)
    assert len(converted) == 12
    found = load_sweep("sweep.nc")
    assert found["first_image"].values.tolist() == [20, 26]
    for source in (clip, clip[20:32]):  # as a report is given it, by itself and by the sweep
        np.testing.assert_array_equal(_as_swept(found, "long", source).images[0], clip.images[20])


@pytest.mark.parametrize("option", ["--first", "--last"])
def test_a_sweep_without_videos_takes_no_part_of_one(run: Run, option: str) -> None:
    words = ("sweep", "--scenes", "0", option, 3)
    assert f"{option} applies to the videos of --clips, which are not given." in run(*words, code=2).output
