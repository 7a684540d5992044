"""A recording of format version 3, which stores bfloat16 by its bits: read forever, and equal to the bit.

``python tests/store/recordings/test_format_v3.py FOLDER`` made the sample; add one for a new version, never change it.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from store import Provenance, RecordingWriter, Selection, TokenLayout, open_recording
from store.bfloat16 import rounded, widened
from store.errors import InvalidInputError, RecordingError

SAMPLE = Path(__file__).parents[1] / "data" / "recording-v3.zarr"
LAYOUT = TokenLayout(3, 5, 7, 80, 84, 9, text_tokens=8)


def bits(name, shape, step, layer):
    """Every finite bfloat16 in turn: large and small ones, subnormals and both zeros."""
    numbers = np.arange(np.prod(shape)) * (3 + len(name)) * 37 + 1717 * step + 55 * layer
    found = (numbers % 65536).astype(np.uint16).reshape(shape)
    return np.where((found & 0x7F80) == 0x7F80, found & 0xBFFF, found)


def plan_for(stored_dtype="bfloat16", **options):
    layers = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=3, channels=4) for i in range(6)]
    selection = Selection([2, -1], [1, 4], heads=[0, 2], frames=[0, 2])
    backbone = SimpleNamespace(name="sample", layers=layers)
    return selection.plan(backbone, LAYOUT, 10, features=True, stored_dtype=stored_dtype, **options)


def make_sample(path):
    plan = plan_for()
    with RecordingWriter(path, plan, provenance=Provenance(model="sample", source_dtype="bfloat16")) as writer:
        for step, layer in [(2, 1), (2, 4), (9, 1)]:  # the record of step 9, layer 4 is missing on purpose
            given = {
                array.name: widened(bits(array.name, array.record_shape, step, layer)).astype(np.float64)
                for array in plan.arrays
            }
            given = {name: value[:, :5] if name.startswith("text") else value for name, value in given.items()}
            writer.write(step=step, layer=layer, timestep=1000.0 - step, **given)


@pytest.mark.parametrize("memmap", [True, False])
def test_the_sample_is_read_to_the_bit(memmap):
    recording = open_recording(SAMPLE, memmap=memmap)
    assert (recording.attributes["schema_version"], recording.plan.stored_dtype) == (3, "bfloat16")
    assert "query       bfloat16" in repr(recording)
    for step, layer in [(2, 1), (2, 4), (9, 1)]:
        where = {"step": step, "layer": layer}
        found = dict(zip(("query", "key"), recording.read(**where), strict=True))
        found |= dict(zip(("text_query", "text_key"), recording.read_text(**where), strict=True))
        found["features"] = recording.read_features(**where)
        mapped = recording.mapped(**where)
        for array in recording.plan.arrays:
            expected = bits(array.name, array.record_shape, step, layer)
            expected = expected[:, :5] if array.name.startswith("text") else expected
            assert found[array.name].dtype == np.float32
            np.testing.assert_array_equal(found[array.name].view(np.uint32), expected.astype(np.uint32) << 16)
            np.testing.assert_array_equal(mapped[array.name].view(np.uint32), found[array.name].view(np.uint32))
        one = recording.read(**where, heads=[2])[0]
        np.testing.assert_array_equal(one.view(np.uint32), found["query"][1:].view(np.uint32))
    assert recording.verify() == []
    assert recording.inexact_casts == 0


def test_plain_xarray_shows_the_bits():
    dataset = xr.open_zarr(SAMPLE, chunks=None)
    found = dataset["query"].sel(step=2, branch="cond", layer=4)
    np.testing.assert_array_equal(found.values, bits("query", (2, 2, 5, 7, 4), 2, 4))
    assert found.attrs["bits_of"] == "bfloat16"
    assert np.isnan(widened(dataset["query"].sel(step=9, branch="cond", layer=4).values)).all()


def test_what_is_written_today_is_still_version_3(tmp_path):
    make_sample(tmp_path / "now.zarr")
    names = {file.relative_to(SAMPLE) for file in SAMPLE.rglob("*") if file.is_file()}
    assert {f.relative_to(tmp_path / "now.zarr") for f in (tmp_path / "now.zarr").rglob("*") if f.is_file()} == names
    for name in names:
        if name.name != "zarr.json":
            assert (SAMPLE / name).read_bytes() == (tmp_path / "now.zarr" / name).read_bytes(), name


def test_wider_floats_are_rounded_and_counted(tmp_path):
    plan = plan_for()
    drawn = np.random.default_rng(0)
    given = {array.name: drawn.normal(size=array.record_shape).astype(np.float32) for array in plan.arrays}
    with RecordingWriter(tmp_path / "run.zarr", plan) as writer:
        writer.write(step=2, layer=1, **given)
        given["key"][0, 0, 0, 0, 0] = 3.4e38
        with pytest.raises(InvalidInputError, match=r"key holds 1 values beyond bfloat16 .*Leave this layer out\.$"):
            writer.write(step=2, layer=4, **given)
        given["key"][0, 0, 0, 0, 0] = np.nan
        with pytest.raises(InvalidInputError, match="key holds 1 values that are not finite"):
            writer.write(step=2, layer=4, **given)
    recording = open_recording(tmp_path / "run.zarr")
    query, _ = recording.read(step=2, layer=1)
    np.testing.assert_array_equal(query, widened(rounded(given["query"])))
    np.testing.assert_allclose(query, given["query"], rtol=2.0**-8)
    assert recording.inexact_casts == sum(
        int((widened(rounded(value)) != value).sum()) for name, value in given.items() if name != "key"
    ) + int((recording.read(step=2, layer=1)[1].ravel()[1:] != given["key"].ravel()[1:]).sum() + 1)


@pytest.mark.parametrize(("first", "second"), [("bfloat16", "float16"), ("float16", "bfloat16")])
def test_a_recording_is_resumed_in_its_own_dtype_only(tmp_path, first, second):
    with RecordingWriter(tmp_path / "run.zarr", plan_for(first)):
        pass
    with RecordingWriter(tmp_path / "run.zarr", plan_for(first), resume=True):
        pass
    with pytest.raises(RecordingError, match="stored_dtype is "):
        RecordingWriter(tmp_path / "run.zarr", plan_for(second), resume=True)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(InvalidInputError, match="unknown stored_dtype 'float8'"):
        plan_for("float8")


if __name__ == "__main__":
    make_sample(sys.argv[1])
