"""A recording of format version 2, made when that version was new, is read forever.

``python tests/store/test_format_v2.py FOLDER`` made the sample; never make it anew, add one for a new version.
"""

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from store import Provenance, RecordingWriter, Selection, TokenLayout, open_recording
from store.errors import NotRecordedError

SAMPLE = Path(__file__).parents[1] / "data" / "recording-v2.zarr"


def values(name, shape, step, layer):
    """Numbers that any version of any library computes alike: multiples of 1/8, exact in float16."""
    numbers = np.arange(np.prod(shape)) * (3 + len(name)) + 17 * step + 5 * layer
    return ((numbers % 509 - 254) / 8).astype(np.float16).reshape(shape)


def make_sample(path):
    layers = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=3, channels=4) for i in range(6)]
    layout = TokenLayout(3, 5, 7, 80, 84, 9, text_tokens=8)
    selection = Selection([2, -1], [1, 4], heads=[0, 2], frames=[0, 2])
    plan = selection.plan(SimpleNamespace(name="sample", layers=layers), layout, 10, features=True)
    provenance = Provenance(model="sample", revision="1", prompt="a red ball", seed=3, softmax_scale=0.5)
    with RecordingWriter(path, plan, provenance=provenance) as writer:
        for step, layer in [(2, 1), (2, 4), (9, 1)]:  # the record of step 9, layer 4 is missing on purpose
            given = {array.name: values(array.name, array.record_shape, step, layer) for array in plan.arrays}
            given["key"] = given["key"].astype(np.float32)
            given["key"][0, 0, 0, :step] = 1 + 2.0**-12  # seven columns at most, of four channels each, are inexact
            writer.write(step=step, layer=layer, timestep=1000.0 - step, **given)


@pytest.mark.parametrize("memmap", [True, False])
def test_the_sample_is_read(memmap):
    recording = open_recording(SAMPLE, memmap=memmap)
    assert recording.attributes["schema_version"] == 2
    assert recording.state == "open"
    for step, layer in [(2, 1), (2, 4), (9, 1)]:
        where = {"step": step, "layer": layer}
        found = dict(zip(("query", "key"), recording.read(**where), strict=True))
        found |= dict(zip(("text_query", "text_key"), recording.read_text(**where), strict=True))
        found["features"] = recording.read_features(**where)
        for array in recording.plan.arrays:
            expected = values(array.name, array.record_shape, step, layer)
            if array.name == "key":
                expected[0, 0, 0, :step] = 1
            np.testing.assert_array_equal(found[array.name], expected)
    with pytest.raises(NotRecordedError):
        recording.read(step=9, layer=4)
    assert recording.verify() == []
    assert recording.inexact_casts == recording.attributes["inexact_casts"] == 4 * (2 + 2 + 7)
    assert recording.provenance == Provenance(
        model="sample", revision="1", prompt="a red ball", seed=3, softmax_scale=0.5
    )
    assert recording.layout == TokenLayout(3, 5, 7, 80, 84, 9, text_tokens=8)
    assert recording.timesteps.tolist() == [998.0, 991.0]


def test_plain_xarray_shows_the_arrays_without_a_warning_or_an_option():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xr.open_zarr(SAMPLE)
        found = dataset["query"].sel(step=2, branch="cond", layer=4).values
    np.testing.assert_array_equal(found, values("query", (2, 2, 5, 7, 4), 2, 4))
    assert np.isnan(dataset["query"].sel(step=9, branch="cond", layer=4).values).all()
    assert dataset["head"].values.tolist() == [0, 2]
    assert dataset.status.values.tolist() == [[[1, 1]], [[1, 0]]]
    assert dataset.inexact_casts.values.tolist() == [[[8, 8]], [[28, 0]]]


def test_shard_bytes_are_those_of_the_specification():
    file = SAMPLE / "query" / "c.0.0.1.0.0.0.0.0"
    payload, chunk = values("query", (2, 2, 5, 7, 4), 2, 4).astype("<f2").tobytes(), 2 * 5 * 7 * 4
    assert file.read_bytes()[: len(payload)] == payload
    index = np.frombuffer(file.read_bytes()[len(payload) : -4], "<u8").reshape(4, 2)
    assert index.tolist() == [[number * chunk, chunk] for number in range(4)]


def test_the_root_repeats_the_metadata_of_every_array():
    consolidated = json.loads((SAMPLE / "zarr.json").read_text())["consolidated_metadata"]
    own = {file.parent.name: json.loads(file.read_text()) for file in SAMPLE.glob("*/zarr.json")}
    assert consolidated == {"kind": "inline", "must_understand": False, "metadata": own}


def test_what_is_written_today_is_still_version_2(tmp_path):
    """Every file but the metadata, which hold library versions, is that of the sample to the byte."""
    make_sample(tmp_path / "now.zarr")
    names = {file.relative_to(SAMPLE) for file in SAMPLE.rglob("*") if file.is_file()}
    assert {f.relative_to(tmp_path / "now.zarr") for f in (tmp_path / "now.zarr").rglob("*") if f.is_file()} == names
    for name in names:
        if name.name != "zarr.json":
            assert (SAMPLE / name).read_bytes() == (tmp_path / "now.zarr" / name).read_bytes(), name


if __name__ == "__main__":
    make_sample(sys.argv[1])
