"""The report: one offline file, the same bytes for the same input, honest about what is not known, nothing injected."""

import re

import numpy as np
import pytest
from report_helpers import EVIL, Page, example, sweep

from analyses.selection.select import select_layers
from analyses.selection.words import interval_in_words
from ditprobe.report.report import render_report, write_report
from ditprobe.report.words import answer, facts, notes
from store.errors import InvalidInputError, OutputExistsError


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
    drawn = [name for name in page.ids if name.startswith("figure-")]
    assert sorted(int(name.split("-")[1]) for name in drawn) == list(range(1, len(drawn) + 1))
    assert page.links
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert "default-src 'none'" in html
    assert not page.open


def test_every_part_is_there(page):
    parts = ["answer", "selection", "curves", "examples", "tables", "notes", "run"]
    assert [link[1:] for link in page.links] == parts
    assert {"maps", "cell", "example", "heads"} <= set(page.ids)
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
