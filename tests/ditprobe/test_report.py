"""The report: one offline file, the same bytes for the same input, honest about what is not known, nothing injected."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from analyses.attention import attention_of_points
from analyses.selection import interval_in_words, select_layers
from ditprobe.report import render_report, write_report
from ditprobe.report_figures import Example
from ditprobe.report_words import answer, facts, notes
from store.clip import Clip
from store.errors import InvalidInputError, OutputExistsError
from store.layout import TokenLayout

DIMS = ("clip", "step", "layer")
EVIL = "<script>alert(1)</script> & </script><b>"


def sweep(count=5, steps=(0, 20, 49), layers=(1, 2, 4, 7), heads=0, truth=True, static=20.0, **attrs):
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
        "points": ("clip", np.full(count, 35)),
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
    return xr.Dataset(data, coords, {"backbone": "mini", "seed": 0, "noise": "forward", "steps": 50} | attrs)


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
        "Layers 4 and 2 carry temporal correspondence best, by the harmonic mean of accuracy, cross confidence and "
        "cross attention score at step 49, over 5 clips."
    )
    row = selection.table()[0]
    assert said.details[0] == (
        f"Layer 4: harmonic mean {row['mean']:.3f} ({interval_in_words(row['low'], row['high'])}); in the top 2 "
        "with probability 1.00."
    )
    curve = found["accuracy"].mean("clip").sel(layer=4)
    assert said.tiles[0].label == "accuracy of layer 4 at step 49, its best"
    assert said.tiles[0].value == f"{float(curve.max()):.1f} %"
    assert said.tiles[1].value == f"{float(found['accuracy'].mean('clip').sel(step=49).median()):.1f} %"
    assert said.tiles[3].value == "20.0 %"


def test_a_best_layer_that_loses_against_a_guess_is_not_praised():
    found = sweep(static=95.0)
    best = float(found["accuracy"].mean("clip").sel(layer=4).max())
    assert answer(found, select_layers(found, 2)).details[0] == (
        f"Layer 4 finds no more points at its best step ({best:.1f} %) than the guess that nothing moves (95.0 %): the "
        "ranking says which layer is best, not that it is good."
    )


def test_clips_without_truth_are_named():
    found = sweep()
    found["accuracy"][1] = np.nan
    said = answer(found, select_layers(found, 1)).headline
    assert said.startswith("Layer 4 carries temporal correspondence best")
    assert said.endswith("over 4 clips; 1 clip without true tracks left out.")
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
    names = ["clip", "points", "“nothing moves” [%]", "images", "resized from (height x width)", "prompt"]
    header = page.rows.index(names)
    assert page.rows[header + 2] == ["clip 1", "35", "20.0", "images 0 to 4 of 1, 32 x 48 px", "480 x 854 px", EVIL]


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
    parts = ["answer", "run", "maps", "curves", "heads", "examples", "tables", "notes"]
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
    assert str(error.value) == f"{path} exists. Choose another path, or pass overwrite=True to replace it."
    assert path.read_text() == "old"
    write_report(path, sweep(), None, overwrite=True)
    assert path.read_text().startswith("<!doctype html>")
    with pytest.raises(OutputExistsError) as error:
        write_report(tmp_path, sweep(), None, overwrite=True)
    assert str(error.value) == f"{tmp_path} is a folder. Name a file, e.g. {tmp_path / 'report.html'}."


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
    assert "Layer 3 carries" in render_report(found, select_layers(found, 1), title="Report")
