"""A layer selection as a value: iterating, comparing, saving and loading."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from analyses.selection.files import load_selection, save_selection
from analyses.selection.layer_selection import LayerSelection
from analyses.selection.select import select_layers
from store.errors import FormatVersionError, InvalidInputError, OutputExistsError, RecordingError
from store.selection import Selection

ATTRS = {
    "backbone": "mini",
    "config_hash": "0123abcd",
    "steps": 50,
    "selected_heads": [0, 2],
    "threshold_cells": 1.0,
}


def made_sweep(clips: int = 8) -> xr.Dataset:
    """Random measures of four layers at three steps."""
    rng = np.random.default_rng(4)
    dims = ("clip", "step", "layer", "target")
    measures = rng.random((3, clips, 3, 4, 1))
    data = {"accuracy": (dims[:3], 100 * measures[0, ..., 0])}
    cross = {"confidence": (dims, measures[1]), "attention_score": (dims, measures[2])}
    return xr.Dataset(data | cross, {"step": [0, 24, 49], "layer": [2, 3, 4, 5], "target": ["cross"]})


@pytest.fixture
def chosen() -> LayerSelection:
    return select_layers(made_sweep().assign_attrs(ATTRS), 2, samples=50)


def test_a_selection_stands_for_its_layers(chosen: LayerSelection) -> None:
    assert list(chosen) == list(chosen.layers)
    assert len(chosen) == 2
    assert chosen.layers[0] in chosen
    assert bool(chosen)
    assert Selection(steps=[-1], layers=chosen).layers == chosen.layers


def test_a_selection_says_where_it_was_measured(chosen: LayerSelection) -> None:
    said = (chosen.backbone, chosen.config_hash, chosen.step, chosen.steps, chosen.heads, chosen.threshold_cells)
    assert said == ("mini", "0123abcd", 49, 50, (0, 2), 1.0)
    silent = select_layers(made_sweep(), 2, samples=5)
    assert (silent.backbone, silent.steps, silent.heads, silent.threshold_cells) == ("", None, None, None)


@pytest.mark.parametrize("clips", [6, 1])
def test_a_saved_selection_comes_back_equal(clips: int, tmp_path: Path) -> None:
    before = select_layers(made_sweep(clips).assign_attrs(ATTRS), 2, samples=50)
    after = load_selection(save_selection(before, tmp_path / "layers.json"))
    assert after == before
    assert hash(after) == hash(before)
    xr.testing.assert_identical(after.scores, before.scores)
    assert repr(after) == repr(before)
    assert after != select_layers(made_sweep(clips).assign_attrs(ATTRS), 1, samples=50)
    assert before != "layers"


def test_a_changed_selection_is_refused(chosen: LayerSelection, tmp_path: Path) -> None:
    path = save_selection(chosen, tmp_path / "layers.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content))  # white space is no change
    assert load_selection(path) == chosen
    content["layers"].reverse()
    path.write_text(json.dumps(content))
    with pytest.raises(RecordingError, match="was changed or damaged since it was saved: its digest does not match"):
        load_selection(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "or it is damaged: Expecting value"),
        (b"\xff\xfe", "or it is damaged"),
        (b"[5, 4]", "does not say 'ditprobe layer selection' in 'format'"),
        (b'{"layers": [5]}', "does not say 'ditprobe layer selection' in 'format'"),
        (b'{"format": "ditprobe layer selection", "version": 1}', "its digest does not match"),
    ],
)
def test_another_file_is_no_selection(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_bytes(text)
    with pytest.raises(RecordingError, match=message):
        load_selection(path)


def test_a_folder_and_a_newer_format_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="holds no layer selection: it is a folder"):
        load_selection(tmp_path)
    newer = tmp_path / "newer.json"
    newer.write_text('{"format": "ditprobe layer selection", "version": 9}')
    with pytest.raises(FormatVersionError, match="of version 9; this ditprobe reads version 1"):
        load_selection(newer)


def test_saving_replaces_only_when_asked(chosen: LayerSelection, tmp_path: Path) -> None:
    path = save_selection(chosen, tmp_path / "deep" / "layers.json")
    with pytest.raises(OutputExistsError, match="pass overwrite=True"):
        save_selection(chosen, path)
    assert save_selection(chosen, path, overwrite=True) == path
    with pytest.raises(OutputExistsError, match="is a folder"):
        save_selection(chosen, tmp_path)
    with pytest.raises(InvalidInputError, match="takes a LayerSelection; got list"):
        save_selection([5], tmp_path / "b.json")  # type: ignore[arg-type]
    assert [item.name for item in path.parent.iterdir()] == ["layers.json"]


def test_the_file_is_readable(chosen: LayerSelection, tmp_path: Path) -> None:
    content = json.loads(save_selection(chosen, tmp_path / "layers.json").read_text())
    assert content["layers"] == list(chosen.layers)
    assert content["backbone"] == "mini"
    assert content["scores"]["layer"]["values"] == [2, 3, 4, 5]
    np.testing.assert_allclose(content["scores"]["mean"]["values"], chosen.scores["mean"])
