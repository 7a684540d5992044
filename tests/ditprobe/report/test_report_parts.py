"""Parts of a report about trackers and motion transfer."""

import itertools
import json
import re

import numpy as np
import pytest
import xarray as xr
from report_helpers import EVIL, Page, sweep
from typer.testing import CliRunner

from analyses.evaluation.compare import compare_trackers
from analyses.evaluation.files import save_evaluation
from analyses.evaluation.tapvid import evaluate_tapvid, tapvid_means
from analyses.evaluation.transfer import fit_pair
from analyses.layers.sweep_files import save_sweep
from analyses.metrics.track_errors import tracking_errors
from analyses.trackers.static import StaticTracker
from ditprobe.cli.app import app
from ditprobe.report.report import render_report
from ditprobe.report.tracking import tracking_part
from ditprobe.report.transfer import TransferredClip
from store import make_scene, write_clip
from store.clips.clip import Clip
from store.datasets.tapvid_raster import THRESHOLDS
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks


def planted_clip(shift, *, late=False):
    """Two points that move by so many pixels an image; the second appears in image 1 where ``late``."""
    moves = shift * np.arange(5)[:, None, None] * [1.0, 0.0]
    tracks = np.array([[20.0, 30.0], [40.0, 50.0]]) + moves
    visibility = np.ones((5, 2), bool)
    visibility[0, 1] = not late
    return Clip(np.zeros((5, 64, 128, 3), np.uint8), 8, tracks=tracks, visibility=visibility, prompt=EVIL)


class Moving:
    """A tracker that lets everything move to the right, and counts its calls."""

    def __init__(self, shift):
        self.shift, self.calls = shift, 0

    def __call__(self, images, queries):
        self.calls += 1
        still = StaticTracker()(images, queries)
        lag = np.arange(len(images))[:, None] - queries[:, 0]
        tracks = still.tracks + self.shift * lag[..., None] * [1.0, 0.0]
        return PointTracks(still.queries, tracks, still.visibility, still.confidence)


CLIPS = {"slow": planted_clip(2.0), "fast": planted_clip(3.0, late=True), "faster": planted_clip(4.0)}


def scores(position, *, kinds=None, **attrs):
    """An evaluation with these position accuracies (tracker, clip), 0 to 1; everything else is half of them."""
    position = 100 * np.asarray(position)
    half = ("average_jaccard", "occlusion_accuracy", *(f"pts_within_{pixels}" for pixels in THRESHOLDS))
    both = ("tracker", "clip")
    data = {"average_pts_within_thresh": (both, position)} | dict.fromkeys(half, (both, position / 2))
    data["queries"] = ("clip", np.full(position.shape[1], 10))
    names = [f"t{number}" for number in range(len(position))]
    settings = {"mode": "first", "first_image_only": False, "trackers": dict(zip(names, kinds or names, strict=True))}
    coords = {"tracker": names, "clip": [f"clip {number}" for number in range(position.shape[1])]}
    return xr.Dataset(data, coords, {"settings": json.dumps(settings | attrs), "skipped": "[]"})


def part_of(evaluation, tracked=()):
    return tracking_part(evaluation, tracked, (f"figure-{number}" for number in itertools.count(1)))


BACKBONE = {"kind": "BackboneTracker"}


def test_compared_trackers_score_as_in_an_evaluation_and_run_once_a_clip():
    moving = Moving(3.0)
    found = compare_trackers(CLIPS, {"moving": moving, "nothing moves": StaticTracker()})
    assert moving.calls == len(CLIPS)
    alone = evaluate_tapvid(CLIPS, {"moving": Moving(3.0), "nothing moves": StaticTracker()})
    metrics = [name for name in alone if name != "seconds"]
    xr.testing.assert_equal(found.evaluation[metrics], alone[metrics])
    assert found.evaluation.attrs == alone.attrs
    errors = found.evaluation["error"].sel(tracker="moving")
    np.testing.assert_allclose(errors.sel(clip="fast"), 0, atol=1e-9)
    np.testing.assert_allclose(errors.sel(clip="faster"), [1, 2, 3, 4])
    one = found.tracked["moving"]["fast"]
    assert one.tracks.queries[:, 0].tolist() == [0, 1]
    np.testing.assert_allclose(one.tracks.tracks[one.clip.visibility], one.clip.tracks[one.clip.visibility])


def test_truth_of_a_compared_clip_is_in_the_order_of_its_queries():
    clip = planted_clip(2.0)
    clip.visibility[:2, 0] = False
    (one,) = compare_trackers({"clip": clip}, {"moving": Moving(2.0)}).tracked["moving"].values()
    own = one.tracks.queries[:, 0].astype(int)
    assert sorted(own) == [0, 2]
    np.testing.assert_allclose(one.clip.tracks[own, [0, 1]], one.tracks.queries[:, 1:])
    errors = tracking_errors(one.tracks, one.clip.tracks, one.clip.visibility, (64, 128))
    np.testing.assert_allclose(errors["error"], 0, atol=1e-9)


def test_the_best_tracker_is_named_and_the_backbone_held_against_each():
    found = scores(
        [[0.5, 0.6, 0.7], [0.9, 0.9, 0.9], [0.1, 0.2, 0.3], [0.6, 0.6, 0.6]], kinds=[BACKBONE, "a", "b", "c"]
    )
    part = part_of(found)
    assert part.headline == ("Highest position accuracy: t1, 90.0 % (95 % interval 90.0 to 90.0) over 3 clips.")
    assert part.details[:1] == ("Queries: 30 points, each in the first image in which it is visible.",)
    assert part.details[1].startswith("t0 is behind t1 by 30.0 percentage points of position accuracy (95 % interval ")
    assert part.details[2] == (
        "t0 is ahead of t2 by 40.0 percentage points of position accuracy (95 % interval 40.0 to 40.0), paired by clip."
    )
    assert re.match("t0 and t3 are not distinguished by these clips: [-+]0.0 percentage points", part.details[3])
    assert part.notes[0] == "3 clips: too few to trust the intervals much."


def test_one_clip_has_differences_but_no_interval():
    part = part_of(scores([[0.5], [0.25]], kinds=[BACKBONE, "still"], mode="strided", stride=5))
    assert part.headline == "Highest position accuracy: t0, 50.0 % over 1 clip."
    assert part.details == (
        "Queries: 10 points in every 5th image, followed forward and backward in time.",
        "t0 minus t1: +25.0 percentage points of position accuracy on one clip.",
    )
    assert part.tables[0].rows == (("t0", "50.0", "25.0", "25.0"), ("t1", "25.0", "12.5", "12.5"))
    assert part.tables[0].strong_cells == ((0, 1), (0, 2), (0, 3))


def test_the_table_of_trackers_holds_means_and_their_ends():
    found = compare_trackers(CLIPS, {"moving": Moving(3.0), "nothing moves": StaticTracker()}).evaluation
    part = part_of(found)
    means = tapvid_means(found)
    for row, name in zip(part.tables[0].rows, ("moving", "nothing moves"), strict=True):
        cells = [
            "{:.1f} ({:.1f} to {:.1f})".format(*means[metric].sel(tracker=name).values)
            for metric in ("average_pts_within_thresh", "average_jaccard", "occlusion_accuracy")
        ]
        assert row == (name, *cells)
    assert len(part.figures) == 3
    assert len(part_of(found.drop_dims("lag")).figures) == 2


def test_more_trackers_than_colours_are_all_in_the_table():
    part = part_of(scores(np.full((7, 9), 0.5)))
    assert len(part.tables[0].rows) == 7
    assert part.notes[0] == "Drawn are the first 6 of 7 trackers."


def test_a_page_about_tracking_is_there_only_where_asked_for():
    compared = compare_trackers(CLIPS, {"moving": Moving(3.0)})
    shown = list(compared.tracked["moving"].values())[:1]
    found = sweep()
    plain = render_report(found, None, title="Report")
    assert "tracking" not in Page(plain).ids
    assert plain == render_report(found, None, tracking=None, tracked=(), title="Report")
    page = Page(render_report(found, None, tracking=compared.evaluation, tracked=shown, title="Report"))
    assert "#tracking" in page.links
    assert {"tracking", "table-trackers"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    words = " ".join(page.text)
    followed = "5 images of 64 x 128 px (height x width); 2 points followed, 0 % of all positions predicted as hidden."
    assert followed in words
    assert EVIL in words
    assert "b" not in page.tags
    alone = Page(render_report(found, None, tracked=shown, title="Report"))
    assert "tracking" in alone.ids
    assert "table-trackers" not in alone.ids


def test_the_command_shows_an_evaluation_beside_a_sweep(tmp_path):
    save_sweep(sweep(), tmp_path / "sweep.nc")
    save_evaluation(scores([[0.5, 0.75], [0.25, 0.25]], kinds=[BACKBONE, "still"]), tmp_path / "tapvid.nc")
    words = ["report", str(tmp_path / "sweep.nc"), "--tracking", str(tmp_path / "tapvid.nc"), "--out"]
    dry = CliRunner().invoke(app, [*words, str(tmp_path / "page.html"), "--dry-run"])
    assert "no examples, 2 trackers" in dry.output
    made = CliRunner().invoke(app, [*words, str(tmp_path / "page.html")])
    assert made.exit_code == 0, made.output
    assert "Highest position accuracy: t0, 62.5 %" in " ".join(Page((tmp_path / "page.html").read_text()).text)
    before = (tmp_path / "tapvid.nc").read_bytes()
    taken = CliRunner().invoke(app, [*words, str(tmp_path / "tapvid.nc"), "--overwrite"])
    assert taken.exit_code == 2
    assert taken.output == f"error: {tmp_path / 'tapvid.nc'} is the evaluation itself. Choose another --out.\n"
    assert (tmp_path / "tapvid.nc").read_bytes() == before


def test_what_is_no_evaluation_is_refused(tmp_path):
    save_sweep(sweep(), tmp_path / "sweep.nc")
    (tmp_path / "tapvid.csv").write_text("clip,tracker\n")
    for name, said in {
        "sweep.nc": f"{tmp_path / 'sweep.nc'} holds no evaluation of trackers, or it is damaged: tracking needs what "
        "evaluate_tapvid returns; it lacks the dim tracker. ditprobe eval-tapvid writes them; name its --out with .nc.",
        "none.nc": f"{tmp_path / 'none.nc'} holds no evaluation of trackers: it does not exist.",
        "tapvid.csv": f"{tmp_path / 'tapvid.csv'} holds no evaluation of trackers, or it is damaged: it is not a "
        "netCDF 3 file. ditprobe eval-tapvid writes them; name its --out with .nc.",
    }.items():
        words = [
            "report",
            str(tmp_path / "sweep.nc"),
            "--tracking",
            str(tmp_path / name),
            "-o",
            str(tmp_path / "a.html"),
        ]
        rejected = CliRunner().invoke(app, words)
        assert rejected.exit_code == 2
        assert rejected.output == f"error: {said}\n"
    assert not (tmp_path / "a.html").exists()
    with pytest.raises(InvalidInputError) as error:
        render_report(sweep(), None, tracking=scores([[0.5]]).drop_vars("pts_within_8"), title="Report")
    assert str(error.value) == "tracking needs what evaluate_tapvid returns; it lacks pts_within_8."


def test_a_page_about_motion_transfer_is_there_only_where_asked_for():
    clip = Clip(np.zeros((9, 80, 112, 3), np.uint8), 8)
    dims = ("frame", "frame_to", "y", "x", "xy")
    flow = xr.DataArray(np.zeros((3, 3, 5, 7, 2)), {"image": ("frame", [0, 2, 6])}, dims)
    measured = {"result": {"motion fidelity": 0.7}, "plain backbone": {"motion fidelity": 0.25}}
    one = TransferredClip(EVIL, clip, clip, flow, flow, prompt=EVIL, method=EVIL, measured=measured)
    found = sweep()
    plain = render_report(found, None, title="Report")
    assert "transfer" not in Page(plain).ids
    assert plain == render_report(found, None, transfers=(), title="Report")
    page = Page(render_report(found, None, transfers=[one, one], title="Report"))
    assert "#transfer" in page.links
    assert {"transfer", "table-transfer"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    header = page.rows.index(["motion of", "clip", "motion fidelity", "motion error"])
    assert page.rows[header + 1] == [EVIL, "result", "0.70", "–"]
    assert page.rows[header + 2] == [EVIL, "plain backbone", "0.25", "–"]
    words = " ".join(page.text)
    assert words.count("One clip is an example, not a measurement") == 1
    assert f"9 images of 80 x 112 px (height x width); {EVIL}." in words
    assert "b" not in page.tags


@pytest.fixture
def transferring(tmp_path, monkeypatch):
    """A sweep of mini, two videos of one length and size, and the command that shows them."""
    monkeypatch.chdir(tmp_path)
    save_sweep(sweep(), "sweep.nc")
    for name, seed in {"reference.mp4": 18, "made.mp4": 16}.items():
        write_clip(name, make_scene(seed, images=8))

    def call(*words, code=0):
        result = CliRunner().invoke(app, ["report", "sweep.nc", "--device", "cpu", *words])
        assert result.exit_code == code, result.output
        return result.output

    return call


def test_the_command_shows_two_videos_beside_their_flow(transferring, tmp_path):
    dry = transferring("--transfer", "reference.mp4", "made.mp4", "--dry-run")
    assert "3 steps, 4 layers, no examples, a motion transfer seen by mini\n" in dry
    assert not (tmp_path / "report.html").exists()
    transferring("--transfer", "reference.mp4", "made.mp4")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    words = " ".join(page.text)
    assert "reference.mp4 in made.mp4" in words
    assert "a red disc moves up and a grey disc moves up over cyan waves" in words
    assert "6 images of 40 x 40 px (height x width); images 0 to 5 of 8, 40 x 40 px." in words
    row = page.rows[page.rows.index(["motion of", "clip", "motion fidelity", "motion error"]) + 1]
    assert row[:2] == ["reference.mp4 in made.mp4", "result"]
    assert all(-1 <= float(cell) < 10 for cell in row[2:])
    assert "Motion as layer 4 of mini sees it" in text  # the best layer of the sweep


def test_a_report_takes_an_enlarged_reference_as_the_picture_of_a_transfer_does(transferring, tmp_path):
    scene = make_scene(18, images=8)
    large = Clip(scene.images.repeat(8, axis=1).repeat(8, axis=2), scene.fps, prompt=scene.prompt)
    write_clip("large.mp4", large)
    for words, resized in {("large.mp4", "made.mp4"): "reference", ("made.mp4", "large.mp4"): "result"}.items():
        transferring("--transfer", *words, "--overwrite")
        told = " ".join(Page((tmp_path / "report.html").read_text()).text)
        assert f"6 images of 40 x 40 px (height x width); images 0 to 5 of 8, 40 x 40 px; the {resized} was" in told
        assert "was resized from 320 x 320 px." in told


def test_a_pair_is_compared_at_the_size_of_the_smaller_clip_whose_pixels_stay():
    small, large = make_scene(16), make_scene(18).resized(80, 80)
    for pair in ((small, large), (large, small)):
        fitted = fit_pair(*pair)
        assert [(each.height, each.width) for each in fitted] == [(40, 40)] * 2
        assert fitted[pair.index(small)] is small
    with pytest.raises(InvalidInputError, match="40 x 40 px and the result 6 of 60 x 60 px"):
        fit_pair(small, small.resized(60, 60))
    with pytest.raises(InvalidInputError, match="40 x 40 px and the result 6 of 80 x 40 px"):
        fit_pair(small, small.resized(80, 40))
    with pytest.raises(InvalidInputError, match="6 images of 40 x 40 px and the result 5 of"):
        fit_pair(large, small.window(0, 5))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("reference.mp4", "none.mp4"), "none.mp4 is missing; a video file is needed."),
        (
            ("reference.mp4", "short.mp4"),
            "the reference has 8 images of 40 x 40 px and the result 5 of 40 x 40 px (height x width), so they cannot "
            "be compared image by image. Cut or resize one of them.",
        ),
        (
            ("wide.mp4", "reference.mp4"),
            "the reference has 8 images of 40 x 56 px and the result 8 of 40 x 40 px (height x width), so they cannot "
            "be compared image by image. Cut or resize one of them.",
        ),
        (
            ("reference.mp4", "made.mp4", "--out", "made.mp4", "--overwrite"),
            "made.mp4 is the result itself. Choose another --out.",
        ),
    ],
)
def test_videos_that_do_not_fit_are_refused_before_a_model_is_loaded(transferring, monkeypatch, words, message):
    def loaded(*args):
        raise AssertionError("a backbone was loaded")

    monkeypatch.setattr("ditprobe.cli.verbs.report.load_backbone_option", loaded)
    scene = make_scene(16, images=8)
    write_clip("short.mp4", scene.window(0, 5))
    write_clip("wide.mp4", scene.resized(40, 56))
    assert transferring("--transfer", *words, code=2) == f"error: {message}\n"
