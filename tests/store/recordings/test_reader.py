"""Recordings: what is written comes back, through ours and through plain xarray, and damage is named."""

import warnings

import numpy as np
import pytest
import xarray as xr
from recording_helpers import LAYOUT, PROVENANCE, TEXT_LAYOUT, plan_for, record_all, shard, tensors

from store import RecordingWriter, Selection, open_recording
from store.errors import (
    CorruptRecordingError,
    InvalidInputError,
    NotRecordedError,
    UnknownLayerError,
)


@pytest.mark.parametrize("memmap", [True, False])
def test_everything_comes_back(tmp_path, memmap):
    plan = plan_for(layout=TEXT_LAYOUT, features=True)
    record_all(tmp_path / "run.zarr", plan)
    recording = open_recording(tmp_path / "run.zarr", memmap=memmap)
    for step in plan.steps:
        for layer in plan.layers:
            for branch in plan.branches:
                want, where = tensors(plan, step, layer, branch), {"step": step, "layer": layer, "branch": branch}
                query, key = recording.read(**where)
                np.testing.assert_array_equal(query, want["query"])
                np.testing.assert_array_equal(key, want["key"])
                text_query, text_key = recording.read_text(**where)
                np.testing.assert_array_equal(text_query, want["text_query"])
                np.testing.assert_array_equal(text_key, want["text_key"])
                np.testing.assert_array_equal(recording.read_features(**where), want["features"])
                np.testing.assert_array_equal(recording.read(**where, heads=[-1])[0], want["query"][1:])
    assert recording.verify() == []
    assert query.flags.writeable


def test_plain_xarray_reads_it_without_warnings_or_us(tmp_path):
    plan = plan_for(layout=TEXT_LAYOUT, features=True)
    record_all(tmp_path / "run.zarr", plan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xr.open_zarr(str(tmp_path / "run.zarr"))
        one = dataset.key.sel(step=9, layer=3, branch="uncond").values
    np.testing.assert_array_equal(one, tensors(plan, 9, 3, "uncond")["key"])
    assert dataset["query"].dims == ("step", "branch", "layer", "head", "frame", "y", "x", "channel")
    assert dataset["query"].dtype == np.float16
    assert dataset.text_key.dims == ("step", "branch", "layer", "head", "token", "channel")
    assert dataset.features.dims == ("step", "branch", "layer", "frame", "y", "x", "feature")
    assert dataset.status.dtype == np.uint8
    assert dataset.status.values.tolist() == [[[1, 1, 1]] * 2] * 2


def test_coordinates_are_real_numbers_and_pixels(recorded):
    dataset = recorded.dataset
    assert dataset.step.values.tolist() == [2, 9]
    assert dataset.timestep.values.tolist() == [102.0, 109.0]
    assert np.isnan(dataset.sigma.values).all()
    assert dataset.layer.values.tolist() == [1, 3, 4]
    assert dataset.layer_name.values.tolist() == ["blocks.1.attn1", "blocks.3.attn1", "blocks.4.attn1"]
    assert dataset.branch.values.tolist() == ["cond", "uncond"]
    assert dataset.frame_time.values.tolist() == [0.0, 2.5, 6.5]
    assert dataset.y.values.tolist() == [8.0, 24.0, 40.0, 56.0, 72.0]
    assert dataset.x.values.tolist() == [6.0, 18.0, 30.0, 42.0, 54.0, 66.0, 78.0]
    assert {"timestep", "sigma", "layer_name", "frame_time"} <= set(dataset.coords)
    assert dataset.y.attrs == {"long_name": "centre of the cell", "units": "px"}


def test_attributes_tell_where_it_comes_from(recorded):
    attributes = recorded.dataset.attrs
    assert attributes["schema_version"] == 2
    assert attributes["state"] == recorded.state == "complete"
    assert attributes["prompt"] == "a red ball"
    assert attributes["stage"] == "post_norm_post_rope"
    assert attributes["geometry"]["spans"] == [[0, 1], [1, 5], [5, 9]]
    assert (attributes["run_steps"], attributes["layer_count"]) == (10, 6)
    assert "numpy" in attributes["libraries"]
    assert recorded.provenance == PROVENANCE
    assert recorded.plan == plan_for()
    assert recorded.layout == LAYOUT
    assert recorded.timesteps.tolist() == [102.0, 109.0]
    assert recorded.status.sel(step=9, layer=4, branch="cond").item() == 1


def test_repr(tmp_path):
    recording = record_all(tmp_path / "run.zarr", plan_for(Selection([-1], [4])))
    assert repr(recording) == (
        "Recording of tiny: complete, 1 of 1 records, 3.4 kB\n"
        "  steps     9 (1 of 10)\n"
        "  layers    4 (1 of 6)\n"
        "  branches  cond\n"
        "  heads     0, 1 (2 of 2)\n"
        "  frames    0, 1, 2 (3 of 3)\n"
        "  cells     5 x 7 of a clip of 80 x 84 px (height x width)\n"
        "  query  float16  1.7 kB  (step: 1, branch: 1, layer: 1, head: 2, frame: 3, y: 5, x: 7, channel: 4)\n"
        "  key    float16  1.7 kB  (step: 1, branch: 1, layer: 1, head: 2, frame: 3, y: 5, x: 7, channel: 4)\n"
        "  prompt    'a red ball'"
    )


def test_negative_numbers_count_from_the_end_of_the_run_and_the_backbone(recorded):
    np.testing.assert_array_equal(recorded.read(step=-1, layer=-2)[1], recorded.read(step=9, layer=4)[1])
    with pytest.raises(NotRecordedError):
        recorded.read(step=-1, layer=-1)  # layer 5 exists and was not recorded


NOT_THERE = [
    (
        {"step": 9, "layer": 2},
        NotRecordedError,
        "layer 2 was not recorded. Recorded layers: 1, 3, 4. Record again with layers=[1, 2, 3, 4].",
    ),
    (
        {"step": -2, "layer": 1},
        NotRecordedError,
        "step 8 was not recorded. Recorded steps: 2, 9. Record again with steps=[2, 8, 9].",
    ),
    (
        {"step": 9, "layer": 1, "branch": "uncond"},
        NotRecordedError,
        "branch uncond was not recorded. Recorded branches: cond. Record again with branches=['cond', 'uncond'].",
    ),
    (
        {"step": 9, "layer": 1, "heads": [0, 1]},
        NotRecordedError,
        "head 0 was not recorded. Recorded heads: 1. Record again with heads=[0, 1].",
    ),
    ({"step": 9, "layer": 6}, UnknownLayerError, "layer 6 does not exist. The backbone has layers 0 to 5."),
    ({"step": 10, "layer": 1}, UnknownLayerError, "step 10 does not exist. The run has steps 0 to 9."),
    (
        {"step": 9, "layer": 1, "heads": [2]},
        UnknownLayerError,
        "head 2 does not exist. The backbone has heads 0 to 1.",
    ),
    (
        {"step": 9, "layer": 1, "branch": "best"},
        UnknownLayerError,
        "branch 'best' does not exist. Branches are 'cond' and 'uncond'.",
    ),
    (
        {"step": 9, "layer": 1, "heads": []},
        InvalidInputError,
        "heads is empty: nothing would be read. Leave it out to read all of them.",
    ),
    (
        {"step": 9, "layer": 1, "heads": 1},
        InvalidInputError,
        "heads must be an iterable of ints, such as heads=[0]; got 1.",
    ),
    (
        {"step": 9, "layer": 1, "heads": "01"},
        InvalidInputError,
        "heads must be an iterable of ints, such as heads=[0]; got '01'.",
    ),
    ({"step": 9, "layer": 1, "heads": ["1"]}, InvalidInputError, "head must be an int; got '1'."),
    ({"step": "0", "layer": 1}, InvalidInputError, "step must be an int; got '0'."),
    ({"step": 9, "layer": None}, InvalidInputError, "layer must be an int; got None."),
]


@pytest.mark.parametrize(("where", "kind", "message"), NOT_THERE, ids=[message[:40] for *_, message in NOT_THERE])
def test_asking_for_what_is_not_there(tmp_path, where, kind, message):
    recording = record_all(tmp_path / "run.zarr", plan_for(Selection([2, 9], [1, 3, 4], heads=[1])))
    with pytest.raises(kind) as caught:
        recording.read(**where)
    assert str(caught.value) == message


def test_text_features_and_latents_that_were_not_recorded(recorded):
    with pytest.raises(NotRecordedError, match="text tokens were not recorded: the self-attention of tiny has none"):
        recorded.read_text(step=9, layer=1)
    with pytest.raises(NotRecordedError, match=r"features were not recorded. Record again with features=True."):
        recorded.read_features(step=9, layer=1)
    with pytest.raises(NotRecordedError, match=r"latents of step 9 were not recorded"):
        recorded.read_latents(9)


def test_only_selected_heads_and_frames_are_kept_of_full_tensors(tmp_path):
    plan = plan_for(Selection([9], [1], heads=[1], frames=[0, 2]), features=True)
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 2, 3, 5, 7, 4)).astype(np.float16)
    features = rng.normal(size=(3, 5, 7, 8)).astype(np.float16)
    with RecordingWriter(tmp_path / "run.zarr", plan) as writer:
        writer.write(step=9, layer=1, query=query, key=key, features=features)
    recording = open_recording(tmp_path / "run.zarr")
    np.testing.assert_array_equal(recording.read(step=9, layer=1)[1], key[1:][:, [0, 2]])
    np.testing.assert_array_equal(recording.read_features(step=9, layer=1), features[[0, 2]])
    assert recording.dataset.frame_time.values.tolist() == [0.0, 6.5]


def test_a_shorter_text_comes_back_as_short(tmp_path):
    plan = plan_for(Selection([9], [1]), layout=TEXT_LAYOUT)
    given = tensors(plan, 9, 1)
    given["text_query"], given["text_key"] = given["text_query"][:, :5], given["text_key"][:, :5]
    with RecordingWriter(tmp_path / "run.zarr", plan) as writer:
        writer.write(step=9, layer=1, **given)
    recording = open_recording(tmp_path / "run.zarr")
    np.testing.assert_array_equal(recording.read_text(step=9, layer=1, heads=[1])[1], given["text_key"][1:])
    assert np.isnan(recording.dataset.text_key.values[..., 5, :]).all()
    assert recording.verify() == []


def test_a_mapped_record_is_the_one_that_is_read_and_cannot_be_changed(tmp_path):
    recording = record_all(tmp_path / "run.zarr", plan_for(layout=TEXT_LAYOUT, features=True))
    where = {"step": -1, "layer": 3, "branch": "uncond"}
    found = recording.mapped(**where)
    wanted = dict(zip(("query", "key"), recording.read(**where), strict=True))
    wanted |= dict(zip(("text_query", "text_key"), recording.read_text(**where), strict=True))
    wanted["features"] = recording.read_features(**where)
    assert sorted(found) == sorted(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
        assert not found[name].flags.writeable
        assert isinstance(found[name], np.memmap)


def test_a_mapped_record_that_is_damaged_is_refused(recorded):
    with shard(recorded).open("r+b") as file:
        file.write(b"\xff\xff")
    with pytest.raises(CorruptRecordingError, match="the checksum of query"):
        recorded.mapped(step=2, layer=1)
    assert recorded.mapped(step=2, layer=3)["query"].shape == (2, 3, 5, 7, 4)
