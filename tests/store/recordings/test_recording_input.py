"""What a recording rejects: damage, other formats, input of the writer, paths."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from recording_helpers import (
    TEXT_LAYOUT,
    plan_for,
    record_all,
    shard,
    tensors,
)

from store import Damage, RecordingWriter, Selection, open_recording
from store.errors import (
    CorruptRecordingError,
    FormatVersionError,
    InvalidInputError,
    NotRecordedError,
    OutputExistsError,
    RecordingError,
)


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
    change_attributes(recorded.path, schema_version=4)
    with pytest.raises(FormatVersionError) as caught:
        open_recording(recorded.path, memmap=memmap)
    assert str(caught.value) == (
        f"{recorded.path} has recording format 4; this ditprobe reads up to format 3. Update ditprobe to read it."
    )


@pytest.mark.parametrize("version", ["x", None, 0, 1.5])
def test_a_format_version_that_is_no_version_is_refused(recorded, version):
    change_attributes(recorded.path, schema_version=version)
    with pytest.raises(CorruptRecordingError) as caught:
        open_recording(recorded.path)
    assert str(caught.value) == (
        f"{recorded.path} has an unreadable format version {version!r}; versions are numbers from 1 to 3. "
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
    """Bad input to the writer is rejected by name, and the recording goes on."""

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
            "step 9, layer 4, branch 'cond' is not written yet, or the run ended before it. Record again with "
            "resume=True."
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
            "recording would lose them. Leave this layer out, record with stored_dtype='bfloat16', or analyse it while "
            "sampling instead of recording it."
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
