"""Recordings: what is written comes back, through ours and through plain xarray, and damage is named."""

import json
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from store import Damage, Provenance, RecordingWriter, Selection, TokenLayout, open_recording
from store.errors import (
    CorruptRecordingError,
    FormatVersionError,
    InvalidInputError,
    NotRecordedError,
    OutputExistsError,
    RecordingError,
    UnknownLayerError,
)

LAYOUT = TokenLayout(3, 5, 7, 80, 84, 9)
TEXT_LAYOUT = TokenLayout(3, 5, 7, 80, 84, 9, text_tokens=6)
PROVENANCE = Provenance(model="tiny", revision="abc", prompt="a red ball", seed=3, extra={"mood": "good"})
SELECTION = Selection([2, -1], [1, 3, 4], ("cond", "uncond"))


def tiny(layers=6):
    made = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=2, channels=4) for i in range(layers)]
    return SimpleNamespace(name="tiny", layers=made)


def plan_for(selection=SELECTION, layout=LAYOUT, **options):
    return selection.plan(tiny(), layout, 10, **options)


def tensors(plan, step, layer, branch="cond"):
    """One record's arrays, different for every record."""
    rng = np.random.default_rng([step, layer, branch == "cond"])
    return {array.name: rng.normal(size=array.record_shape).astype(np.float16) for array in plan.arrays}


def record_all(path, plan, **options):
    with RecordingWriter(path, plan, provenance=PROVENANCE, **options) as writer:
        for step in plan.steps:
            for layer in plan.layers:
                for branch in plan.branches:
                    given = tensors(plan, step, layer, branch)
                    writer.write(step=step, layer=layer, branch=branch, timestep=100.0 + step, **given)
    return open_recording(path)


@pytest.fixture
def recorded(tmp_path):
    return record_all(tmp_path / "run.zarr", plan_for())


def shard(recording, name="query", position=(0, 0, 0)):
    from pathlib import Path

    return Path(recording.path) / name / ".".join(["c", *map(str, position), "0", "0", "0", "0", "0"])


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


class TestDamage:
    def test_a_missing_shard_is_named_and_the_rest_stays_readable(self, recorded):
        shard(recorded, position=(1, 0, 2)).unlink()
        with pytest.raises(CorruptRecordingError) as caught:
            recorded.read(step=9, layer=4)
        assert str(caught.value) == (
            f"step 9, layer 4, branch 'cond' of {recorded.path} is damaged: the file c.1.0.2.0.0.0.0.0 is missing. "
            f"Every other record stays readable. Record again with resume=True to replace what is damaged."
        )
        recorded.read(step=9, layer=3)
        assert recorded.verify() == [Damage("query", "the file c.1.0.2.0.0.0.0.0 is missing", 9, "cond", 4)]

    def test_a_cut_off_shard(self, recorded):
        file = shard(recorded, "key")
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(CorruptRecordingError, match=r"the file c.0.0.0.0.0.0.0.0 has 1707 bytes instead of 1716"):
            recorded.read(step=2, layer=1)

    @pytest.mark.parametrize("byte", [5, -3])
    def test_one_flipped_bit_in_payload_or_index(self, recorded, byte):
        file = shard(recorded, "key", (0, 1, 1))
        data = bytearray(file.read_bytes())
        data[byte] ^= 4
        file.write_bytes(data)
        problem = "the checksum of key is" if byte == 5 else "the shard index in"
        for heads in (None, [1]):
            with pytest.raises(CorruptRecordingError, match=f"step 2, layer 3, branch 'uncond' .* {problem}"):
                recorded.read(step=2, layer=3, branch="uncond", heads=heads)
        assert [(bad.step, bad.layer, bad.array) for bad in recorded.verify()] == [(2, 3, "key")]

    def test_the_check_can_be_left_out(self, recorded):
        file = shard(recorded, "key")
        data = bytearray(file.read_bytes())
        data[5] ^= 4
        file.write_bytes(data)
        open_recording(recorded.path, check=False).read(step=2, layer=1)

    @pytest.mark.parametrize("how", ["missing", "cut", "bit"])
    def test_damage_is_noticed_through_zarr_too(self, recorded, how):
        file = shard(recorded)
        data = bytearray(file.read_bytes())
        data[5] ^= 4
        file.unlink()
        if how != "missing":
            file.write_bytes(data if how == "bit" else data[:-9])
        recording = open_recording(recorded.path, memmap=False)
        with pytest.raises(CorruptRecordingError, match="step 2, layer 1, branch 'cond' of"):
            recording.read(step=2, layer=1)
        recording.read(step=2, layer=3)

    def test_status_and_metadata(self, recorded):
        status = shard(recorded).parent.parent / "status" / "c.0.0.0"
        status.write_bytes(b"\1")
        with pytest.raises(CorruptRecordingError, match=r"the array 'status' of .* is damaged"):
            open_recording(recorded.path)
        metadata = status.parent.parent / "zarr.json"
        metadata.write_text(metadata.read_text()[:100])
        with pytest.raises(CorruptRecordingError, match=r"the metadata .*zarr.json is damaged"):
            open_recording(recorded.path)

    @pytest.mark.parametrize("memmap", [True, False])
    def test_a_missing_array_is_named_when_the_recording_is_opened(self, recorded, memmap):
        shutil.rmtree(shard(recorded, "key").parent)
        with pytest.raises(CorruptRecordingError) as caught:
            open_recording(recorded.path, memmap=memmap)
        remedy = "Copy it again, or record again with resume=True."
        assert str(caught.value) == f"the array 'key' of {recorded.path} is missing. {remedy}"
        shutil.rmtree(shard(recorded, "query").parent)
        with pytest.raises(CorruptRecordingError) as caught:
            open_recording(recorded.path, memmap=memmap)
        assert str(caught.value) == f"the arrays 'query', 'key' of {recorded.path} are missing. {remedy}"
        assert record_all(recorded.path, recorded.plan, resume=True).verify() == []

    @pytest.mark.parametrize("memmap", [True, False])
    def test_a_missing_status(self, recorded, memmap):
        shutil.rmtree(shard(recorded).parent.parent / "status")
        with pytest.raises(CorruptRecordingError, match=r"the array 'status' of .* is damaged"):
            open_recording(recorded.path, memmap=memmap)

    def test_attributes_that_lost_a_value(self, recorded):
        change_attributes(recorded.path, run_steps=None, geometry={})
        with pytest.raises(CorruptRecordingError, match=r"the attributes of .* are damaged: their fingerprint is"):
            open_recording(recorded.path)
        with pytest.raises(CorruptRecordingError, match=r"the attributes of .* are damaged: KeyError"):
            open_recording(recorded.path, check=False)


def change_attributes(path, **changes):
    from pathlib import Path

    file = Path(path) / "zarr.json"
    document = json.loads(file.read_text())
    document["attributes"] |= changes
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("memmap", [True, False])
def test_a_newer_format_is_refused(recorded, memmap):
    change_attributes(recorded.path, schema_version=3)
    with pytest.raises(FormatVersionError) as caught:
        open_recording(recorded.path, memmap=memmap)
    assert str(caught.value) == (
        f"{recorded.path} has recording format 3; this ditprobe reads up to format 2. Update ditprobe to read it."
    )


@pytest.mark.parametrize("version", ["x", None, 0, 1.5])
def test_a_format_version_that_is_no_version_is_refused(recorded, version):
    change_attributes(recorded.path, schema_version=version)
    with pytest.raises(CorruptRecordingError) as caught:
        open_recording(recorded.path)
    assert str(caught.value) == (
        f"{recorded.path} has an unreadable format version {version!r}; versions are numbers from 1 to 2. "
        f"Copy it again."
    )


def test_what_is_no_recording_is_refused(tmp_path, recorded):
    with pytest.raises(RecordingError, match="nowhere is not a recording: it does not exist"):
        open_recording(tmp_path / "nowhere")
    with pytest.raises(RecordingError, match=r"is not a recording: it has no zarr\.json"):
        open_recording(tmp_path)
    with pytest.raises(RecordingError, match="is not a recording"):
        open_recording(tmp_path / "nowhere", memmap=False)
    change_attributes(recorded.path, format="something else")
    with pytest.raises(RecordingError, match="its attributes were not written by ditprobe"):
        open_recording(recorded.path)


class TestInput:
    """Bad input to the writer is refused by name, and the recording goes on."""

    @pytest.fixture
    def plan(self):
        return plan_for(Selection([9], [1, 4]))

    @pytest.fixture
    def good(self, plan):
        return tensors(plan, 9, 4)

    def refuse(self, tmp_path, plan, message, **given):
        with RecordingWriter(tmp_path / "run.zarr", plan) as writer:
            with pytest.raises(InvalidInputError) as caught:
                writer.write(**{"step": 9, "layer": 4, **given})
            writer.write(step=9, layer=1, **tensors(plan, 9, 1))
        assert str(caught.value) == message
        recording = open_recording(tmp_path / "run.zarr")
        assert recording.state == "open"
        assert recording.is_done(step=9, layer=1)
        with pytest.raises(NotRecordedError) as missing:
            recording.read(step=9, layer=4)
        assert str(missing.value) == (
            "step 9, layer 4, branch 'cond' was not written before the run ended. Record again with resume=True."
        )
        return recording

    def test_wrong_rank(self, tmp_path, plan, good):
        message = "step 9, layer 4, branch 'cond': query must be floats of shape (2, 3, 5, 7, 4); got float16 of shape"
        self.refuse(tmp_path, plan, f"{message} (3, 5, 7, 4).", query=good["query"][0], key=good["key"])

    def test_integers(self, tmp_path, plan, good):
        message = "step 9, layer 4, branch 'cond': key must be floats of shape (2, 3, 5, 7, 4); got int64 of shape"
        self.refuse(
            tmp_path, plan, f"{message} (2, 3, 5, 7, 4).", query=good["query"], key=good["key"].astype(np.int64)
        )

    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_nan(self, tmp_path, plan, good, dtype):
        query = good["query"].astype(dtype)
        query[1, 2, 4, 6, 3] = np.nan
        message = (
            "step 9, layer 4, branch 'cond': query holds 1 values that are not finite; "
            "such attention cannot be recorded."
        )
        self.refuse(tmp_path, plan, message, query=query, key=good["key"])

    def test_overflow(self, tmp_path, plan, good):
        key = good["key"].astype(np.float32)
        key[1, 2, 4, 6, 3] = -70_000
        message = (
            "step 9, layer 4, branch 'cond': key holds 1 values beyond float16 (largest 70000, limit 65504); a "
            "recording would lose them. Leave this layer out, or analyse it while sampling instead of recording it."
        )
        recording = self.refuse(tmp_path, plan, message, query=good["query"], key=key)
        assert recording.attributes["overflowing_casts"] == 1

    def test_not_planned(self, tmp_path, plan, good):
        message = (
            "step 9, layer 2, branch 'cond' is not planned. Planned are steps [9], layers [1, 4], branches ['cond']."
        )
        self.refuse(tmp_path, plan, message, layer=2, **good)

    def test_features_not_planned(self, tmp_path, plan, good):
        message = "step 9, layer 4, branch 'cond': features was given but is not planned."
        self.refuse(tmp_path, plan, message, **good, features=np.zeros((3, 5, 7, 8), np.float16))

    def test_text_missing(self, tmp_path, plan):
        plan = plan_for(Selection([9], [1, 4]), layout=TEXT_LAYOUT)
        good = tensors(plan, 9, 4)
        del good["text_key"]
        message = "step 9, layer 4, branch 'cond': text_key is planned but was not given."
        self.refuse(tmp_path, plan, message, **good)

    def test_more_text_than_planned(self, tmp_path):
        plan = plan_for(Selection([9], [1, 4]), layout=TEXT_LAYOUT)
        good = tensors(plan, 9, 4)
        good["text_key"] = np.zeros((2, 8, 4), np.float16)
        message = "step 9, layer 4, branch 'cond': text_key must be floats of shape (2, 6, 4); got float16 of shape"
        self.refuse(tmp_path, plan, f"{message} (2, 8, 4).", **good)

    def test_twice(self, tmp_path, plan, good):
        with RecordingWriter(tmp_path / "run.zarr", plan) as writer:
            writer.write(step=9, layer=4, **good)
            with pytest.raises(InvalidInputError) as caught:
                writer.write(step=-1, layer=-2, **good)
        assert str(caught.value) == (
            "step 9, layer 4, branch 'cond' was written already. A recording holds one sample of one run."
        )

    def test_inexact_casts_are_counted(self, tmp_path, plan, good):
        query = good["query"].astype(np.float32)
        query[0, 0, 0, 0, :3] = 1 + 2.0**-12
        with RecordingWriter(tmp_path / "run.zarr", plan) as writer:
            writer.write(step=9, layer=4, query=query, key=good["key"].astype(np.float64))
        assert open_recording(tmp_path / "run.zarr").attributes["inexact_casts"] == 3

    def test_the_caller_may_reuse_its_memory(self, tmp_path, plan, good):
        buffers = {name: values.copy() for name, values in good.items()}
        with RecordingWriter(tmp_path / "run.zarr", plan) as writer:
            writer.write(step=9, layer=4, **buffers)
            for values in buffers.values():
                values[...] = 0
        np.testing.assert_array_equal(open_recording(tmp_path / "run.zarr").read(step=9, layer=4)[0], good["query"])

    def test_outside_a_with_block(self, tmp_path, plan, good):
        with pytest.raises(RecordingError, match=r"the writer is not open. Use it in a with block."):
            RecordingWriter(tmp_path / "run.zarr", plan).write(step=9, layer=4, **good)
        assert not (tmp_path / "run.zarr").exists()

    def test_options(self, tmp_path, plan):
        with pytest.raises(InvalidInputError, match="unknown policy 'wait'"):
            RecordingWriter(tmp_path / "run.zarr", plan, policy="wait")
        with pytest.raises(InvalidInputError, match="mutually exclusive"):
            RecordingWriter(tmp_path / "run.zarr", plan, resume=True, overwrite=True)
        with pytest.raises(InvalidInputError, match=r"queue_records must be at least 1; got 0\."):
            RecordingWriter(tmp_path / "run.zarr", plan, queue_records=0)
        with pytest.raises(InvalidInputError, match="provenance must be plain values that JSON can hold"):
            RecordingWriter(tmp_path / "run.zarr", plan, provenance={"model": "tiny", "model_object": object()})


class TestOutputPath:
    def test_an_existing_path_is_refused(self, recorded):
        with pytest.raises(OutputExistsError) as caught:
            RecordingWriter(recorded.path, plan_for())
        assert str(caught.value) == (
            f"{recorded.path} exists already. Choose another path for the recording, or pass overwrite=True to "
            "replace it or "
            f"resume=True to complete it."
        )

    def test_overwrite_replaces_a_recording_and_nothing_else(self, tmp_path, recorded):
        plan = plan_for(Selection([5], [2]))
        assert record_all(recorded.path, plan, overwrite=True).layers == (2,)
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter.txt").write_text("long")
        with pytest.raises(RecordingError, match="thesis is not a recording and is not replaced"):
            RecordingWriter(tmp_path / "thesis", plan, overwrite=True)
        assert (tmp_path / "thesis" / "chapter.txt").read_text() == "long"

    def test_no_space(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
        with pytest.raises(RecordingError) as caught:
            RecordingWriter(tmp_path / "run.zarr", plan_for())
        assert str(caught.value) == (
            f"the recording needs 40.3 kB, {tmp_path} has 10.0 kB free. Free some space, choose another path, or "
            f"select fewer steps, layers or heads."
        )


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
