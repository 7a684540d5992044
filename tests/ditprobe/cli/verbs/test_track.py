"""``ditprobe track``: the tracks and the video that it writes, and what it rejects before a model runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import Result

from analyses.plots.overlay import draw_tracks
from analyses.tracking.track import PUBLISHED, TrackingOptions, track_points
from ditprobe.cli.inputs import read_part
from ditprobe.cli.verbs.track import read_points
from probe import load_backbone
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline, save_mini
from store import Clip, read_clip, write_clip
from store.errors import InvalidInputError
from store.tracks.files import load_tracks
from store.tracks.queries import grid_queries

Run = Callable[..., Result]
SMALL = MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)
ON_SMALL = ("-b", "./small", "--device", "cpu", "--layer", 1)
HEIGHT, WIDTH, IMAGES = 32, 48, 7


@pytest.fixture
def small(run: Run) -> Backbone:
    """A backbone in the folder ``small`` of where the commands run."""
    torch.manual_seed(0)
    save_mini(new_pipeline(SMALL), "small")
    return load_backbone("./small", device="cpu")


@pytest.fixture
def clip(run: Run) -> Clip:
    """The clip that is ``clip.mp4`` where the commands run, as it is read."""
    noise = np.random.default_rng(0).integers(0, 255, (IMAGES, 4, 6, 3), np.uint8)
    return read_clip(write_clip("clip.mp4", Clip(noise, fps=12).resized(HEIGHT, WIDTH)))


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*args: object, **kwargs: object) -> None:
        raise AssertionError("a backbone was loaded")

    monkeypatch.setattr("ditprobe.cli.verbs.track.load_backbone_option", loaded)


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir() if path.name != "small")


def test_help_names_what_can_be_chosen(run: Run) -> None:
    text = run("track", "--help").output
    for option in ("--grid", "--points", "--preset", "--layer", "--overlay", "--no-overlay", "--trail", "--stride"):
        assert option in text


def test_a_grid_is_tracked_and_drawn(run: Run, small: Backbone, clip: Clip) -> None:
    lines = run("track", "clip.mp4", "--grid", 3, "--image", 2, *ON_SMALL).stdout.splitlines()
    expected = track_points(clip, grid_queries(3, HEIGHT, WIDTH, 2), small, layer=1)
    found = load_tracks("clip.tracks.npz")
    for name in ("queries", "tracks", "visibility", "confidence"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-6)
    assert [found.details[name] for name in ("backbone", "layer", "clip", "stride")] == ["./small", 1, "clip.mp4", 1]
    visible = expected.visibility[-1]
    moved = np.median(np.linalg.norm(expected.tracks[-1] - expected.queries[:, 1:], axis=-1)[visible])
    assert lines[:4] == [
        "clip.tracks.npz: 9 points in 7 images",
        "clip.tracks.mp4: 7 images of 320 x 480 px (height x width) at 12 fps",
        "./small, layer 1 at step 49 of 50",
        f"{visible.sum()} of 9 points visible in the last image; the median of these moved {moved:.1f} px",
    ]
    assert lines[4].endswith(" % of it in the model")
    assert len(lines) == 5
    video = read_clip("clip.tracks.mp4").images.astype(int)
    drawn, plain = draw_tracks(clip.images, expected, scale=10), clip.images.repeat(10, axis=1).repeat(10, axis=2)
    encoded = read_clip(write_clip("expected.mp4", Clip(drawn, fps=12))).images  # colours lose detail in a video
    points = (drawn != plain).any(-1)
    assert np.abs(video - encoded)[points].mean() < 1 < np.abs(video - plain)[points].mean() / 40


def test_points_and_options_reach_the_tracker(run: Run, small: Backbone, clip: Clip) -> None:
    Path("points.csv").write_text("image,x,y\n0,10.5,20\n3,40,8\n")
    words = ("--points", "points.csv", "--step", 5, "--heads", "1", "--seed", 3, "--noise", "forward", "--steps", 9)
    more = ("--preset", "difftrack-tracking", "--size", "32x48", "--out", "deep/er/tracks.nc", "--no-overlay")
    run("track", "clip.mp4", *words, *more, *ON_SMALL)
    how: dict[str, Any] = {"options": replace(PUBLISHED, noise="forward"), "size": (32, 48)}
    how |= {"layer": 1, "step": 5, "heads": [1], "seed": 3, "steps": 9}
    expected = track_points(clip, [[0, 10.5, 20], [3, 40, 8]], small, **how)
    found = load_tracks("deep/er/tracks.nc")
    np.testing.assert_allclose(found.tracks, expected.tracks, atol=1e-6)
    np.testing.assert_array_equal(found.queries, expected.queries)
    timed = ("seconds", "seconds_in_model", "clip", "first", "stride", "heads")
    for name in set(found.details) - set(timed):
        assert found.details[name] == expected.details[name], name
    assert tuple(found.details["heads"]) == expected.details["heads"] == (1,)
    assert found.visibility.all()
    assert files() == ["clip.mp4", "deep", "points.csv"]


@pytest.mark.usefixtures("small")
@pytest.mark.filterwarnings("always::analyses.tracking.track.AspectWarning")
def test_a_stretched_clip_is_said_in_one_line(run: Run) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 4, 12, 3), np.uint8)
    write_clip("clip.mp4", Clip(noise, fps=12).resized(32, 96))
    told = run("track", "clip.mp4", "--grid", 2, *ON_SMALL).output
    assert (
        "warning: the clip of 32 x 96 px is shown as 16 x 24 px (height x width), narrower by a factor of 2.00. Of "
        "about its own aspect is --size 16x48. " in f"{' '.join(told.split())} "
    )
    assert "AspectWarning" not in told


@pytest.mark.usefixtures("small")
def test_a_part_of_the_clip(run: Run, clip: Clip) -> None:
    run("track", "clip.mp4", "--grid", 1, "--first", 1, "--last", 5, "--stride", 2, "--scale", 1, *ON_SMALL)
    found = load_tracks("clip.tracks.npz")
    assert found.tracks.shape == (3, 1, 2)
    assert (found.details["first"], found.details["stride"]) == (1, 2)
    assert read_clip("clip.tracks.mp4").fps == 6
    part = read_part(Path("clip.mp4"), 1, 5, 2)
    np.testing.assert_array_equal(part.images, clip.images[[1, 3, 5]])


def test_the_encoding_is_an_option(run: Run, small: Backbone, clip: Clip) -> None:
    run("track", "clip.mp4", "--grid", 2, "--encode", "clip", "--no-overlay", *ON_SMALL)
    how = TrackingOptions(encode="clip")
    expected = track_points(clip, grid_queries(2, HEIGHT, WIDTH), small, layer=1, options=how)
    np.testing.assert_allclose(load_tracks("clip.tracks.npz").tracks, expected.tracks, atol=1e-6)


@pytest.mark.usefixtures("clip")
def test_the_bundled_backbone_knows_its_layer_and_a_dry_run_writes_nothing(run: Run) -> None:
    lines = run("track", "clip.mp4", "--grid", 2, "--size", "24x40", "--device", "cpu", "--dry-run").stdout.splitlines()
    from analyses.selection.defaults import tracking_defaults

    known = tracking_defaults(load_backbone("mini", device="cpu"))
    assert lines[0].startswith("Mini('mini': ")
    assert lines[1:6] == [
        "  clip      7 images of clip.mp4, 32 x 48 px (height x width)",
        "  points    4",
        "  tracks    clip.tracks.npz",
        "  overlay   clip.tracks.mp4",
        f"  run       layer {known.layer} at step {known.step} of 50",
    ]
    assert re.fullmatch(r"  memory    at most about [0-9.]+ MB in addition to the model", lines[6])
    assert lines[7].startswith("  time      about ")
    assert float(lines[7].split()[2]) >= 0  # a fast machine rounds to nothing
    assert files() == ["clip.mp4"]


@pytest.mark.usefixtures("small", "clip")
def test_a_backbone_of_which_nothing_is_known_needs_a_layer(run: Run) -> None:
    result = run("track", "clip.mp4", "--grid", 2, "-b", "./small", "--device", "cpu", code=2)
    assert result.output == (
        "error: no layer is known to track well on ./small. Give --layer; ditprobe sweep and ditprobe select find "
        "one.\n"
    )


@pytest.mark.usefixtures("clip", "no_model")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no points are given. Give one of --grid and --points."),
        (("--grid", 2, "--points", "p.csv"), "--grid and --points both say which points. Give one of --grid and"),
        (
            ("--points", "good.csv", "--image", 1),
            "--image applies to --grid; each point of --points has its own image.",
        ),
        (("--grid", 2, "--image", 7), "query 0 is in image 7, but the clip has images 0 to 6."),
        (("--grid", 2, "--no-overlay", "--trail", 3), "--trail has no effect with --no-overlay. Leave one out."),
        (("--grid", 2, "--first", 7), "clip.mp4 has images 0 to 6; images 7 to the end were asked for."),
        (("--grid", 2, "--last", 7), "clip.mp4 has images 0 to 6; --last 7 lies beyond them."),
        (("--grid", 2, "--first", 3, "--last", 2), "images 3 to 2 were asked for: last lies before first."),
        (("--grid", 2, "--out", "a.csv"), "a.csv cannot hold the tracks: its suffix must be .npz, .nc or .zarr."),
        (("--grid", 2, "--out", "taken.nc"), "taken.nc exists already. Choose another path for the tracks, or pass --"),
        (("--grid", 2, "--overlay", "taken.mp4"), "taken.mp4 exists already. Choose another path for the clip, or"),
        (("--grid", 2, "--overlay", "a.gif"), "a.gif cannot hold the clip: its suffix must be .mp4,"),
        (
            ("--grid", 2, "--overlay", "clip.mp4", "--overwrite"),
            "--overlay clip.mp4 is the clip itself, or its extra file",
        ),
        (
            ("--grid", 2, "--out", "./clip.mp4.npz", "--overwrite"),
            "--out clip.mp4.npz is the clip itself, or its extra file",
        ),
        (("--grid", 2, "--out", "a.mp4.npz", "--overlay", "a.mp4"), "--out a.mp4.npz and --overlay a.mp4 are the same"),
        (("--grid", 2, "--preset", "difftrack-tracking", "--encode", "clip"), "--preset difftrack-tracking encodes"),
        (("--points", "."), "--points . is a folder. Give a CSV file."),
        (("--points", "none.csv"), "none.csv is missing. Give the path of a CSV file of points."),
        (
            ("--points", "swapped.csv"),
            "swapped.csv: query 1 at (x, y) = (8, 40) lies outside the clip of 32 x 48 px (height x width). With x and "
            "y exchanged all would lie inside: are they (y, x)? Query 0 is the first point of the file.",
        ),
        (("--points", "bad.csv"), "bad.csv, line 3: y is 'low', which is not a number."),
    ],
)
def test_bad_input_is_refused_before_a_backbone_is_loaded(words: tuple[object, ...], message: str, run: Run) -> None:
    Path("good.csv").write_text("image,x,y\n0,1,1\n")
    Path("swapped.csv").write_text("image,x,y\n0,10,10\n0,8,40\n")
    Path("bad.csv").write_text("image,x,y\n0,10,10\n0,8,low\n")
    for name in ("taken.nc", "taken.mp4"):
        Path(name).write_text("precious")
    before = files()
    assert run("track", "clip.mp4", *words, code=2).output.startswith(f"error: {message}")
    assert files() == before
    assert Path("taken.nc").read_text() == Path("taken.mp4").read_text() == "precious"


@pytest.mark.usefixtures("no_model")
def test_a_missing_clip_is_refused(run: Run) -> None:
    assert run("track", "no.mp4", "--grid", 2, code=2).output == "error: no.mp4 is missing. Give the path of a video.\n"


@pytest.mark.usefixtures("small", "clip")
def test_existing_files_are_replaced_where_asked(run: Run) -> None:
    for name in ("clip.tracks.npz", "clip.tracks.mp4"):
        Path(name).write_text("old")
    run("track", "clip.mp4", "--grid", 1, *ON_SMALL, "--overwrite", "--scale", 1)
    assert load_tracks("clip.tracks.npz").tracks.shape == (IMAGES, 1, 2)
    assert len(read_clip("clip.tracks.mp4")) == IMAGES


@pytest.mark.usefixtures("small", "clip")
def test_ctrl_c_leaves_no_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("analyses.tracking.tokens.LayerTokens.tokens", stopped)
    assert run("track", "clip.mp4", "--grid", 1, *ON_SMALL, code=130).stderr.lstrip("\n") == "interrupted.\n"
    assert files() == ["clip.mp4"]


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "points.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_points_are_read_by_the_names_of_their_columns(tmp_path: Path) -> None:
    text = '\ufeffY, Name ,x,Image\n3,nose,12.5, 0\n\n4.25,"left, ear",1e1,2.0\n,,,\n'
    np.testing.assert_array_equal(read_points(csv_file(tmp_path, text)), [[0, 12.5, 3], [2, 10, 4.25]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the columns are none. The first line has to name image, x and y"),
        ("0,12,3\n", "line 1: the columns are '0', '12', '3'."),
        ("image;x;y\n0;1;2\n", "line 1: the columns are 'image;x;y'."),
        ("image,x,y,x\n", "line 1: the columns are 'image', 'x', 'y', 'x'."),
        ("image,x,y\n", "holds no points below its first line."),
        ("image,x,y\n0,1,2\n\n0,1\n", "line 4: 2 values in '0,1', but 3 columns."),
        ("image,x,y\n0,1,2,3\n", "line 2: 4 values in '0,1,2,3', but 3 columns."),
        ("image,x,y\n0,nan,2\n", "line 2: x is 'nan', which is not a number."),
        ("image,x,y\n0,1,\n", "line 2: y is '', which is not a number."),
        ("image,x,y\n0.5,1,2\n", "line 2: image is '0.5'. Images are numbered 0, 1, 2 ..."),
        ("image,x,y\n-1,1,2\n", "line 2: image is '-1'. Images are numbered 0, 1, 2 ..."),
    ],
)
def test_malformed_points_are_named_by_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_points(csv_file(tmp_path, text))
    assert message in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_bytes(b"image,x,y\n\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match=r"points\.csv is not a CSV file: .* Save it as UTF-8 text\."):
        read_points(tmp_path / "points.csv")
