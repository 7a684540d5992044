"""The report: one offline file, the same bytes for the same input, honest about what is not known, nothing injected."""

import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from analyses.attention.rows import attention_of_points
from analyses.evaluation.compare import compare_trackers
from analyses.evaluation.files import save_evaluation
from analyses.evaluation.tapvid import evaluate_tapvid, tapvid_means
from analyses.evaluation.transfer import fit_pair
from analyses.layers.sweep_files import save_sweep
from analyses.metrics.track_errors import tracking_errors
from analyses.selection.select import select_layers
from analyses.selection.words import interval_in_words
from analyses.trackers.static import StaticTracker
from ditprobe.cli.app import app
from ditprobe.report.report import render_report, write_report
from ditprobe.report.sweep import Example
from ditprobe.report.tracking import tracking_part
from ditprobe.report.transfer import TransferredClip
from ditprobe.report.words import answer, facts, notes
from store import make_scene, write_clip
from store.clips.clip import Clip
from store.datasets.tapvid import THRESHOLDS
from store.errors import InvalidInputError, OutputExistsError
from store.layout import TokenLayout
from store.tracks.point_tracks import PointTracks

DIMS = ("clip", "step", "layer")
EVIL = "<script>alert(1)</script> & </script><b>"


def sweep(count=5, steps=(0, 20, 49), layers=(1, 2, 4, 7), heads=0, truth=True, static=29.5, **attrs):
    rng = np.random.default_rng(0)
    size = (count, len(steps), len(layers))
    best = np.array([0.1, 0.3, 0.9, 0.2])[: len(layers)] * np.linspace(0.5, 1, len(steps))[:, None]
    share = np.clip(best + 0.02 * rng.standard_normal(size), 0, 1)
    percent = {"units": "%", "long_name": "matching accuracy"}
    accuracy = 100 * share if truth else np.full(size, np.nan)
    cross = np.stack([share / 2, share, np.full(size, np.nan)], axis=-1)
    data = {
        "accuracy": (DIMS, accuracy, percent),
        "moving_accuracy": (DIMS, accuracy * 0.9, percent),
        "confidence": ((*DIMS, "target"), cross / 10),
        "attention_score": ((*DIMS, "target"), cross / 2),
        "static_accuracy": ("clip", np.full(count, static if truth else np.nan), percent),
        "blind_accuracy": ("clip", np.full(count, 20.0 if truth else np.nan), percent),
        "points": ("clip", np.full(count, 35)),
        "pairs": ("clip", np.full(count, 100)),
        "moving_pairs": ("clip", np.full(count, 60)),
    }
    if heads:
        data["head_accuracy"] = ((*DIMS, "head"), np.repeat(accuracy[..., None], heads, -1), percent)
    coords = {
        "clip": [f"clip {i}" for i in range(count)],
        "source": ("clip", [f"clip {i}" for i in range(count)]),
        "step": list(steps),
        "timestep": ("step", [999.0 - 20 * step for step in steps]),
        "layer": list(layers),
        "layer_name": ("layer", [f"blocks.{layer}.attn1" for layer in layers]),
        "target": ["self", "cross", "text"],
    }
    return xr.Dataset(
        data, coords, {"backbone": "mini", "seed": 0, "noise": "forward", "steps": 50, "threshold_cells": 1.0} | attrs
    )


def example(**options):
    rng = np.random.default_rng(1)
    layout = TokenLayout(3, 5, 7, 80, 112, 9)
    images = rng.integers(0, 256, (9, 80, 112, 3), dtype=np.uint8)
    tracks = rng.uniform(10, 70, (9, 4, 2))
    clip = Clip(images, 8, tracks=tracks, prompt=EVIL, **options)
    rows = attention_of_points(
        rng.standard_normal((2, 3, 5, 7, 4)), rng.standard_normal((2, 3, 5, 7, 4)), tracks[0], layout
    )
    return Example("<i>first</i>", clip, tracks + np.array([3.0, 4.0]), 4, 49, rows)


class Page(HTMLParser):
    """Tags, ids, links and table cells of a page; the text inside scripts is kept apart."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.links, self.open, self.rows, self.text = [], [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs[name] for name in ("href", "src") if name in attrs]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def html():
    found = sweep(heads=2)
    return render_report(found, select_layers(found, 2), examples=[example()], title=f"A title {EVIL}")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_answer_is_said_with_its_uncertainty():
    found = sweep()
    selection = select_layers(found, 2)
    said = answer(found, selection)
    assert said.headline == (
        "Layer 4 beats 'nothing moves' on these 5 clips (300 moving pairs), over all points and over the moving ones. "
        "Layer 2 is not above the baseline. Measured at step 49; a match within 1 cell counts as found."
    )
    row = selection.table()[0]
    assert said.details[0].startswith("Layers are ranked by the harmonic mean of accuracy, cross confidence and")
    assert said.details[1] == (
        f"Layer 4, rank 1: {row['mean']:.3f} ({interval_in_words(row['low'], row['high'])}); in the top 2 "
        "with probability 1.00."
    )
    last = found["accuracy"].mean("clip").sel(step=49)
    assert [tile.value for tile in said.tiles[:5]] == [
        f"{float(last.sel(layer=4)):.1f} %",
        "29.5 %",
        f"{0.9 * float(last.sel(layer=4)):.1f} %",
        "20.0 %",
        f"{float(last.median()):.1f} %",
    ]
    assert said.tiles[0].note == f"95 % interval {row['accuracy_low']:.1f} to {row['accuracy_high']:.1f}"


def test_a_first_layer_that_does_not_beat_a_guess_is_not_praised():
    found = sweep(static=95.0)
    said = answer(found, select_layers(found))
    assert said.headline.startswith(
        "No layer is shown to beat 'nothing moves' on these 5 clips (300 moving pairs). Measured at step 49"
    )
    assert said.details[0] == "What would help: more clips (of 5, intervals are wide)."
    text = render_report(found, select_layers(found), title="Report")
    assert "carries temporal correspondence" not in text
    assert not Page(text).ids.count("curves")


def test_a_layer_that_outranks_a_carrier_without_beating_a_guess_is_named():
    found = sweep()
    found["moving_accuracy"].loc[{"layer": 4}] = 0.0  # the layer that ranks first only repeats "nothing moves"
    said = answer(found, select_layers(found))
    assert said.headline.startswith("No layer is shown to beat")
    found["accuracy"].loc[{"layer": 7}] += 40
    found["moving_accuracy"].loc[{"layer": 7}] += 40
    said = answer(found, select_layers(found))
    assert said.headline.startswith("Layer 7 beats 'nothing moves'")
    assert "Ranked before some of these, but not shown to beat 'nothing moves': layers 4 and 2." in said.details


def test_clips_without_truth_are_named():
    found = sweep()
    found["accuracy"][1] = np.nan
    said = answer(found, select_layers(found, 1)).headline
    assert said.startswith("Layer 4 beats 'nothing moves' on these 4 clips")
    assert said.endswith(" 1 clip without true tracks left out.")
    assert notes(found, None)[0] == "Without true tracks, and so without accuracy: clip 1."


def test_one_clip_has_no_interval_in_words():
    found = sweep(count=1)
    said = answer(found, select_layers(found, 1))
    assert said.tiles[0].note == "one clip: no interval"
    assert said.details[-1] == "One clip alone: neither intervals nor probabilities."


def test_without_truth_there_is_no_accuracy_and_no_ranking():
    text = render_report(sweep(truth=False), None, title="Report")
    page = Page(text)
    shown = " ".join(page.text)
    assert "No layers were selected: none of the clips has true tracks" in shown
    assert "Not recorded in this sweep: accuracy, accuracy on moving points" in shown
    assert "table-confidence" in page.ids
    assert not {"table-accuracy", "table-selection", "curves"} & set(page.ids)


def test_what_was_run_is_told_in_full():
    found = sweep(versions='{"torch": "2.13"}', resized="no clip", size=None, clips=[{"name": "x"}], odd_one=1.5)
    told = dict(facts(found))
    assert told == {
        "model": "mini",
        "noise": "forward",
        "seed": "0",
        "sampling steps": "50",
        "threshold [cells]": "1",
        "resized": "no clip",
        "steps recorded": "0, 20, 49 (step 0 has the most noise)",
        "layers": "1, 2, 4, 7",
        "odd one": "1.5",
        "versions": "torch 2.13",
    }


def test_clips_are_told_with_size_window_and_prompt():
    details = [
        {"name": f"clip {i}", "images": f"images 0 to 4 of {i}, 32 x 48 px", "resized_from": [480, 854], "prompt": EVIL}
        for i in range(5)
    ]
    page = Page(render_report(sweep(clips=details), None, title="Report"))
    counts = ["points", "pairs", "moving pairs", "“nothing moves” [%]", "without direction, at most [%]"]
    header = page.rows.index(["clip", *counts, "images", "resized from (height x width)", "prompt"])
    counted = ["35", "100", "60", "29.5", "20.0"]
    assert page.rows[header + 2] == ["clip 1", *counted, "images 0 to 4 of 1, 32 x 48 px", "480 x 854 px", EVIL]


def test_tables_hold_the_means_and_a_dash_where_nothing_was_recorded():
    found = sweep()
    found["accuracy"][:, 1, 2] = np.nan
    page = Page(render_report(found, None, title="Report"))
    header = page.rows.index(["", "step 0 (t 999)", "step 20 (t 599)", "step 49 (t 19)"])
    means = found["accuracy"].mean("clip")
    assert page.rows[header + 1] == ["layer 1", *(f"{value:.1f}" for value in means.sel(layer=1).values)]
    assert page.rows[header + 3] == ["layer 4", f"{float(means[0, 2]):.1f}", "–", f"{float(means[2, 2]):.1f}"]


def test_nothing_of_the_user_becomes_markup(html, page):
    assert "alert(1)" in "".join(page.text)
    assert EVIL in "".join(page.text)
    for chunk in html.split("alert(1)")[:-1]:
        assert not chunk.endswith("<script>")
    assert "i" not in page.tags
    assert "b" not in page.tags


def test_names_inside_figures_cannot_end_their_script():
    found = sweep().assign_coords(layer_name=("layer", [EVIL, "b", "c", "d"]))
    assert Page(render_report(found, select_layers(found, 1), title="Report")).tags.count("script") == Page(
        render_report(sweep(), select_layers(sweep(), 1), title="Report")
    ).tags.count("script")


def test_one_library_fixed_ids_and_no_address(html, page):
    assert len(re.findall(r"\* plotly\.js v", html)) == 1
    assert len(page.ids) == len(set(page.ids))
    figures = [name for name in page.ids if name.startswith("figure-")]
    assert figures == [f"figure-{number}" for number in range(1, len(figures) + 1)]
    assert page.links
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert "default-src 'none'" in html
    assert not page.open


def test_every_part_is_there(page):
    parts = ["answer", "maps", "curves", "heads", "examples", "tables", "run", "notes"]
    assert [link[1:] for link in page.links] == parts
    text = " ".join(page.text)
    assert "Median error 5.0 px over 32 visible (point, image) pairs after image 0" in text
    assert "A title" in text
    assert "Each head alone at step 49; means over clips." in text


def test_the_same_input_gives_the_same_bytes(tmp_path, html):
    found = sweep(heads=2)
    path = write_report(
        tmp_path / "new" / "report.html",
        found,
        select_layers(found, 2),
        examples=[example()],
        title=f"A title {EVIL}",
    )
    assert path.read_bytes() == html.encode()
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(OutputExistsError) as error:
        write_report(path, sweep(), None)
    assert (
        str(error.value)
        == f"{path} exists already. Choose another path for the report, or pass overwrite=True to replace it."
    )
    assert path.read_text() == "old"
    write_report(path, sweep(), None, overwrite=True)
    assert path.read_text().startswith("<!doctype html>")
    with pytest.raises(OutputExistsError) as error:
        write_report(tmp_path, sweep(), None, overwrite=True)
    assert str(error.value) == f"{tmp_path} is a folder. Name a file, for example {tmp_path / 'report.html'}."


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_report(path, sweep(), None, overwrite=True)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_refusals_say_what_is_wrong(tmp_path):
    with pytest.raises(InvalidInputError) as error:
        write_report(tmp_path / "a.html", sweep().isel(layer=0), None)
    assert str(error.value) == ("the sweep needs dims (clip, step, layer); got (clip, step, target): layer missing.")
    with pytest.raises(InvalidInputError) as error:
        write_report(tmp_path / "a.html", sweep().isel(layer=slice(2)), select_layers(sweep(), 1))
    assert str(error.value) == (
        "the selection names layer 4, which this sweep does not have. Layers of the sweep: 1, 2. Select from this "
        "sweep."
    )
    with pytest.raises(InvalidInputError) as error:
        write_report(tmp_path / "a.html", sweep().isel(step=slice(2)), select_layers(sweep(), 1))
    assert str(error.value) == (
        "the selection ranks by step 49, which this sweep does not have. Steps of the sweep: 0, 20. Select from this "
        "sweep."
    )
    with pytest.raises(InvalidInputError) as error:
        write_report(tmp_path / "a.html", sweep().isel(clip=slice(0)), None)
    assert str(error.value) == (
        "the sweep is empty: {'clip': 0, 'step': 3, 'layer': 4}. Sweep at least one clip, step and layer."
    )
    assert not list(tmp_path.iterdir())


def test_one_clip_step_and_layer_make_a_report():
    found = sweep(count=1, steps=(49,), layers=(3,))
    page = Page(render_report(found, select_layers(found, 1), title="Report"))
    assert "No layer is shown to beat 'nothing moves' on this clip" in " ".join(page.text)


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
    assert part.details[:1] == ("Asked for: 30 points, each in the first image that shows it.",)
    assert part.details[1].startswith("t0 is behind t1 by 30.0 percentage points of position accuracy (95 % interval ")
    assert part.details[2] == (
        "t0 is ahead of t2 by 40.0 percentage points of position accuracy (95 % interval 40.0 to 40.0), paired by clip."
    )
    assert re.match("t0 and t3 are not told apart by these clips: [-+]0.0 percentage points", part.details[3])
    assert part.notes[0] == "3 clips: too few to trust the intervals much."


def test_one_clip_has_differences_but_no_interval():
    part = part_of(scores([[0.5], [0.25]], kinds=[BACKBONE, "still"], mode="strided", stride=5))
    assert part.headline == "Highest position accuracy: t0, 50.0 % over 1 clip."
    assert part.details == (
        "Asked for: 10 points in every 5th image, followed forward and backward in time.",
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
    assert "5 images of 64 x 128 px (height x width); 2 points followed, 0 % of all positions called hidden." in words
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
        "sweep.nc": "tracking needs what evaluate_tapvid returns; it lacks the dim tracker.",
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
        refused = CliRunner().invoke(app, words)
        assert refused.exit_code == 2
        assert refused.output == f"error: {said}\n"
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
