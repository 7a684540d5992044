"""``ditprobe eval-tapvid``: what it prints and keeps, and what it rejects."""

from __future__ import annotations

import csv
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import Result

from analyses.metrics.tapvid import mean_tapvid_metrics, tapvid_metrics, tapvid_queries
from analyses.trackers.patches import PatchTracker
from analyses.tracking.track import track_points
from probe import load_backbone
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline, save_mini
from store import Clip, make_scene, read_tapvid, write_clip, write_tapvid

Run = Callable[..., Result]
SMALL = MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)
SCENES = {f"scene {seed}": make_scene(seed, images=5, height=32, width=48) for seed in range(3)}
STILL = ("--tracker", "nothing-moves")


@pytest.fixture
def small(run: Run) -> Backbone:
    torch.manual_seed(0)
    save_mini(new_pipeline(SMALL), "small")
    return load_backbone("./small", device="cpu")


@pytest.fixture
def scenes(run: Run) -> str:
    return str(write_tapvid("scenes.pkl", SCENES))


def means_of(predict: Callable[[Clip, np.ndarray], tuple[np.ndarray, np.ndarray]], mode: str) -> list[float]:
    """Position accuracy, Jaccard and occlusion accuracy in percent, from what is predicted for queries (t, x, y)."""
    rows = []
    for clip in read_tapvid("scenes.pkl").values():  # whose positions are float32
        scale = np.array([256 / clip.width, 256 / clip.height])
        queries, owner = tapvid_queries(clip.tracks, clip.visibility, mode)
        tracks, visible = predict(clip, queries[:, [0, 2, 1]])
        truth = clip.tracks[:, owner] * scale, clip.visibility[:, owner]
        rows.append(tapvid_metrics(queries, *truth, tracks * scale, visible, mode=mode))
    means = mean_tapvid_metrics(rows)
    return [100 * means[name] for name in ("average_pts_within_thresh", "average_jaccard", "occlusion_accuracy")]


def at_rest(clip: Clip, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tracks = np.repeat(queries[None, :, 1:], len(clip), axis=0)
    return tracks, np.ones(tracks.shape[:2], bool)


def rows_of(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def printed_means(output: str, tracker: str) -> list[float]:
    """The row of a tracker below the heading of the means, without its intervals."""
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("mean over 3 clips"))
    row = next(line for line in lines[start:] if line.startswith(tracker))
    return [float(part) for part in row.removeprefix(tracker).split() if "(" not in part]


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_the_means_that_are_printed(run: Run, small: Backbone, scenes: str, mode: str) -> None:
    names = ("backbone", "nothing-moves", "patches", "flow")
    words = [word for name in names for word in ("--tracker", name)]
    on_small = ("-b", "./small", "--device", "cpu", "--layer", 1, "--step", 5, "--out", "found.csv")
    output = run("eval-tapvid", "--data", scenes, "--mode", mode, *words, *on_small).stdout

    def attend(clip: Clip, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = track_points(clip, queries, small, layer=1, step=5)
        return found.tracks, found.visibility

    def patches(clip: Clip, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = PatchTracker(cell=4, size=(16, 24))(clip, queries)  # the grid of the backbone
        return found.tracks, found.visibility

    for name, predict in {"nothing-moves": at_rest, "backbone": attend, "patches": patches}.items():
        assert printed_means(output, name) == pytest.approx(means_of(predict, mode), abs=0.0501), name
    rows = rows_of("found.csv")
    assert [(row["clip"], row["tracker"]) for row in rows] == [(clip, name) for clip in SCENES for name in names]
    shown = [np.mean([float(row["average_jaccard"]) for row in rows if row["tracker"] == name]) for name in names]
    assert [printed_means(output, name)[1] for name in names] == pytest.approx(shown, abs=0.051)
    assert "PUBLISHED" not in output


def test_tables_fit_eighty_columns(run: Run, scenes: str) -> None:
    output = run("eval-tapvid", "--data", scenes, *STILL, "--tracker", "patches").stdout
    assert max(map(len, output.splitlines())) <= 80
    assert "scene 0        5       96  nothing-moves" in output
    assert output.splitlines()[-1] == "written to tapvid.nc, finished clips in tapvid.nc.clips.jsonl"
    assert sorted(path.name for path in Path().iterdir()) == ["scenes.pkl", "tapvid.nc", "tapvid.nc.clips.jsonl"]


def test_published_figures_stand_under_their_own_heading_and_only_beside_davis(run: Run) -> None:
    clips = dict(zip(("goat", "horsejump-high"), SCENES.values(), strict=False))
    write_tapvid("animals.pkl", clips)
    write_tapvid("tapvid_davis.pkl", clips)
    assert "CogVideoX" not in run("eval-tapvid", "--data", "animals.pkl", *STILL, "--out", "a.nc").stdout
    output = run("eval-tapvid", "--data", "tapvid_davis.pkl", *STILL, "--out", "b.nc").stdout
    own, published = output.split("PUBLISHED on TAP-Vid DAVIS, position accuracy, %\n")
    assert "CogVideoX" not in own
    assert published.splitlines()[:5] == [
        "DIFT           39.7",
        "DINOv2         42.1",
        "HunyuanVideo   44.1",
        "CogVideoX-2B   46.3",
        "CogVideoX-5B   46.9",
    ]
    told = " ".join(published.split())
    assert "Comparable only with the same data, mode and protocol. This run differs: 2 of the 30 clips; " in told
    assert "points that appear in later images too (without --first-image-only); clips not brought to 256 x 256" in told
    assert max(map(len, published.splitlines())) <= 80


def test_options_reach_the_evaluation(run: Run, scenes: str) -> None:
    words = ("--first-image-only", "--clip-size", "16x24", "--clip", "scene [12]", "--limit", 1, "--out", "one.json")
    run("eval-tapvid", "--data", scenes, *STILL, *words, "--checkpoint", "kept.jsonl")
    found = json.loads(Path("one.json").read_text())
    assert [row["clip"] for row in found["clips"]] == ["scene 1"]
    assert found["clips"][0]["queries"] == SCENES["scene 1"].visibility[0].sum()
    assert found["settings"] == {
        "data": "scenes.pkl at 16 x 24",
        "mode": "first",
        "first_image_only": True,
        "trackers": {"nothing-moves": {"kind": "StaticTracker"}},
    }
    assert Path("kept.jsonl").exists()


def test_the_published_procedure_is_an_option(run: Run, small: Backbone, scenes: str) -> None:
    words = ("--preset", "difftrack-tracking", "-b", "./small", "--device", "cpu", "--layer", 1, "--out", "a.json")
    run("eval-tapvid", "--data", scenes, "--tracker", "backbone", "--limit", 1, *words)
    found = json.loads(Path("a.json").read_text())
    options = found["settings"]["trackers"]["backbone"]["options"]
    assert (options["geometry"], options["max_cycle_error"], options["refine"]) == ("difftrack-tracking", "inf", False)
    hidden = 1 - SCENES["scene 0"].visibility[1:, SCENES["scene 0"].visibility[0]].mean()
    assert found["clips"][0]["occlusion_accuracy"] == pytest.approx(100 * (1 - hidden), abs=5)


def test_ctrl_c_loses_no_finished_clip_and_resume_tracks_only_the_rest(
    run: Run, scenes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    track = PatchTracker.__call__

    def call(self: PatchTracker, images: np.ndarray, queries: np.ndarray) -> object:
        asked.append(len(asked))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return track(self, images, queries)

    monkeypatch.setattr(PatchTracker, "__call__", call)
    words = ("eval-tapvid", "--data", scenes, "--tracker", "patches", "--out", "a.csv")
    told = run(*words, code=130)
    assert "interrupted. Finished work is kept; run the same command with --resume to continue." in told.output
    assert not Path("a.csv").exists()
    assert "--resume" in run(*words, code=2).output
    assert "mode was 'first', now 'strided'" in run(*words, "--mode", "strided", "--resume", code=2).output
    resumed = run(*words, "--resume").stdout
    assert len(asked) == 4  # the clip that was interrupted, and the last
    whole = run(*words[:-1], "b.csv").stdout
    kept, fresh = ([{**row, "seconds": ""} for row in rows_of(name)] for name in ("a.csv", "b.csv"))
    assert kept == fresh
    assert len(kept) == 3
    assert printed_means(resumed, "patches") == printed_means(whole, "patches")
    assert len(asked) == 7
    run(*words, "--resume")
    assert len(asked) == 7


def test_videos_with_tracks_beside_them(run: Run) -> None:
    write_clip("clips/with.mp4", SCENES["scene 0"])
    write_clip("clips/without.mp4", Clip(SCENES["scene 1"].images, fps=8))
    write_clip("bare/without.mp4", Clip(SCENES["scene 1"].images, fps=8))
    run("eval-tapvid", "--data", "clips", *STILL, "--out", "a.csv")
    assert [row["clip"] for row in rows_of("a.csv")] == ["with"]
    told = run("eval-tapvid", "--data", "bare", *STILL, "--out", "b.csv", code=2).output
    assert "bare holds no clip with tracks." in told


def test_a_dry_run_prints_the_plan_and_writes_nothing(run: Run, small: Backbone, scenes: str) -> None:
    words = ("-b", "./small", "--device", "cpu", "--layer", 1, "--dry-run")
    lines = run("eval-tapvid", "--data", scenes, *words).stdout.splitlines()
    queries = sum(int(clip.visibility.any(0).sum()) for clip in SCENES.values())
    assert lines[0].startswith("Mini('./small': 2 layers")
    assert lines[1:3] == [
        f"  data        3 clips of scenes.pkl: 15 images, {queries} queries",
        "  trackers    backbone, nothing-moves",
    ]
    assert lines[3:6] == [
        "  backbone    layer 1 at step -1 of 50",
        "  figures     tapvid.nc",
        "  finished    tapvid.nc.clips.jsonl",
    ]
    assert lines[6].startswith("  memory    at most about ")
    assert lines[7].startswith("  decoding  ") or lines[7].startswith("  time      about ")
    assert sorted(path.name for path in Path().iterdir()) == ["scenes.pkl", "small"]


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch owned",)


@pytest.mark.parametrize("tracker", ["backbone", "nothing-moves"])
def test_bad_data_is_refused_before_a_model_is_loaded(
    run: Run, scenes: str, tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*args: object) -> None:
        raise AssertionError("a backbone was loaded")

    monkeypatch.setattr("ditprobe.cli.verbs.eval_tapvid.load_backbone_option", loaded)
    Path("evil.pkl").write_bytes(pickle.dumps({"goat": _Evil()}))
    Path("empty.pkl").touch()
    for words, text in {
        ("--data", "evil.pkl"): "system",
        ("--data", "nowhere.pkl"): "nowhere.pkl does not exist.",
        ("--data", "empty.pkl"): "empty.pkl",
        ("--data", scenes, "--clip", "goat*", "--clip", "dog"): "scenes.pkl has no clip 'goat*' or 'dog'. It has "
        "scene 0, scene 1, scene 2.",
        ("--data", scenes, "--out", "found.txt"): "Name it found.nc.",
        ("--data", scenes, "--checkpoint", "tapvid.nc"): "--out and --checkpoint are both tapvid.nc.",
        ("--data", scenes, "--clip-size", "big"): "--clip-size 'big' is not HEIGHTxWIDTH.",
        ("--data", scenes, "--resume", "--overwrite"): "are mutually exclusive: ",
        ("--data", scenes, "--first-image-only", "--mode", "strided"): "--first-image-only goes with --mode first.",
    }.items():
        told = run("eval-tapvid", *words, "--tracker", tracker, code=2).output
        assert text in " ".join(told.split()), told
    assert sorted(path.name for path in Path().iterdir()) == ["empty.pkl", "evil.pkl", "scenes.pkl"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("--tracker", "flown"),
            "--tracker 'flown' is unknown. Known: backbone, nothing-moves, patches, flow, backbone+lk.",
        ),
        ((*STILL, "--layer", 3), "--layer applies to --tracker backbone, which is not used. Leave it out."),
        ((*STILL, "--device", "cpu"), "--device applies to --tracker backbone, which is not used."),
        ((*STILL, "--cotracker-code", "x"), "--cotracker-code applies to --cotracker, which is not given."),
        ((*STILL, "--cotracker", "x.pth"), "x.pth does not exist. Name a file of CoTracker3 weights."),
        ((*STILL, "--mode", "last"), "'last' is not one of 'first', 'strided'"),
        (("--preset", "difftrack-tracking", "--encode", "clip"), "encodes images alone. Leave --encode clip out."),
    ],
)
def test_options_that_cannot_be(run: Run, scenes: str, words: tuple[object, ...], text: str) -> None:
    assert text in " ".join(run("eval-tapvid", "--data", scenes, *words, code=2).output.replace("│", " ").split())
    assert [path.name for path in Path().iterdir()] == ["scenes.pkl"]
