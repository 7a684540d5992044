"""Whatever ends a recording, each record that is marked done is whole, and the rest can be resumed."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import store.recordings.writer
from store import RecordingWriter, Selection, TokenLayout, open_recording
from store.errors import CorruptRecordingError, NotRecordedError, RecordingError
from store.files.atomic import ALIGNMENT
from store.recordings.ledger import Ledger

LAYOUT = TokenLayout(3, 5, 7, 80, 84, 9)
STEPS = 8


def plan_for(layers=(1, 3, 4), channels=4):
    made = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=2, channels=channels) for i in range(6)]
    return Selection("all", layers).plan(SimpleNamespace(name="tiny", layers=made), LAYOUT, STEPS)


def tensors(step, layer, channels=4):
    values = np.random.default_rng([step, layer]).normal(size=(2, 2, 3, 5, 7, channels)).astype(np.float16)
    return {"query": values[0], "key": values[1]}


def write_steps(writer, steps):
    for step in steps:
        for layer in writer.plan.layers:
            writer.write(step=step, layer=layer, timestep=float(step), **tensors(step, layer))


def assert_complete(path):
    recording = open_recording(path)
    assert recording.state == "complete"
    assert recording.verify() == []
    for step in recording.steps:
        for layer in recording.layers:
            query, key = recording.read(step=step, layer=layer)
            np.testing.assert_array_equal([query, key], list(tensors(step, layer).values()))
    assert recording.timesteps.tolist() == list(range(STEPS))


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_an_exception_keeps_finished_work_and_resume_completes_it(tmp_path, failure):
    path = tmp_path / "run.zarr"

    def interrupted():
        with RecordingWriter(path, plan_for()) as writer:
            write_steps(writer, range(3))
            raise failure("stop")

    with pytest.raises(failure, match="stop"):
        interrupted()
    recording = open_recording(path)
    assert recording.state == "open"
    assert recording.status.sum() == 9
    assert recording.verify() == []

    with RecordingWriter(path, plan_for(), resume=True) as writer:
        assert writer.is_done(2, 4)
        assert not writer.is_done(3, 1)
        before = (path / "query" / "c.0.0.0.0.0.0.0.0").stat().st_mtime_ns
        write_steps(writer, range(STEPS))
    assert (path / "query" / "c.0.0.0.0.0.0.0.0").stat().st_mtime_ns == before  # skipped, not rewritten
    assert_complete(path)


def test_resume_of_a_complete_recording_changes_nothing(tmp_path):
    path = tmp_path / "run.zarr"
    for _ in range(2):
        with RecordingWriter(path, plan_for(), resume=True) as writer:
            write_steps(writer, range(STEPS))
        assert_complete(path)


def test_resume_writes_again_what_is_missing_or_cut_off_and_removes_partial_files(tmp_path):
    path = tmp_path / "run.zarr"
    with RecordingWriter(path, plan_for()) as writer:
        write_steps(writer, range(STEPS))
    folder = path / "query"
    (folder / "c.0.0.0.0.0.0.0.0").unlink()
    (folder / "c.2.0.1.0.0.0.0.0").write_bytes(b"short")
    (folder / "c.3.0.1.0.0.0.0.0.partial").write_bytes(b"left by a killed run")
    with RecordingWriter(path, plan_for(), resume=True) as writer:
        assert not writer.is_done(0, 1)
        assert not writer.is_done(2, 3)
        assert open_recording(path).state == "open"
        write_steps(writer, range(STEPS))
    assert not list(path.rglob("*.partial"))
    assert_complete(path)


def test_resume_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.zarr"
    with RecordingWriter(path, plan_for(), provenance={"model": "tiny", "seed": 0}):
        pass
    with pytest.raises(RecordingError) as caught:
        RecordingWriter(path, plan_for(), provenance={"model": "tiny", "seed": 1}, resume=True)
    assert str(caught.value) == (
        f"{path} was recorded by another run and cannot be resumed: seed is 1, was 0. "
        f"Record with the same settings, or to another path."
    )
    with pytest.raises(RecordingError, match="selection is "):
        RecordingWriter(path, plan_for((1, 3)), provenance={"model": "tiny", "seed": 0}, resume=True)


CHILD = """
    import sys
    sys.path.insert(0, {folder!r})
    from test_writer import RecordingWriter, plan_for, tensors, write_steps
    with RecordingWriter({path!r}, plan_for(), resume=True) as writer:
        write_steps(writer, range({steps}))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no kill -9")
def test_kill_9_leaves_every_record_that_is_marked_done_whole(tmp_path):
    path = tmp_path / "run.zarr"
    child = textwrap.dedent(CHILD.format(folder=os.path.dirname(__file__), path=str(path), steps=STEPS))
    done = 0
    for more in (1, 4):
        process = subprocess.Popen([sys.executable, "-c", child])
        status = path / "status" / "c.0.0.0"
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if status.exists() and sum(status.read_bytes()[:-4]) >= done + more:
                break
        process.kill()
        process.wait()
        recording = open_recording(path)
        assert recording.verify() == []
        assert int(recording.status.sum()) >= done + more
        done = int(recording.status.sum())
    subprocess.run([sys.executable, "-c", child], check=True)
    assert_complete(path)


def test_a_full_disk_is_a_typed_error_and_finished_records_stay_readable(tmp_path, monkeypatch):
    path, block, calls, real = tmp_path / "run.zarr", ALIGNMENT, [], os.write

    def full_after_three_records(descriptor, data):
        if len(data) == block:  # a payload and its index, filled up
            calls.append(block)
            if len(calls) > 6:
                real(descriptor, data[:100])
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full_after_three_records)

    def run():
        with RecordingWriter(path, plan_for(), threads=1, queue_records=1) as writer:
            write_steps(writer, range(STEPS))

    with pytest.raises(RecordingError) as caught:
        run()
    monkeypatch.undo()
    assert str(caught.value) == (
        f"step 1, layer 1, branch 'cond' could not be written to {path}: [Errno 28] No space left on device. "
        f"3 of 24 records are done and readable. Remove the cause and record again with resume=True."
    )
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert len(calls) == 7  # later records were not tried
    recording = open_recording(path)
    assert (recording.state, int(recording.status.sum())) == ("open", 3)
    assert recording.verify() == []
    assert not list(path.rglob("*.partial"))
    with RecordingWriter(path, plan_for(), resume=True) as writer:
        write_steps(writer, range(STEPS))
    assert_complete(path)


def test_an_error_of_the_last_record_surfaces_at_exit(tmp_path, monkeypatch):
    def fails(*args, **options):
        raise OSError(errno.EIO, "Input/output error")

    def run():
        with RecordingWriter(tmp_path / "run.zarr", plan_for()) as writer:
            monkeypatch.setattr(store.recordings.writer, "write_atomically", fails)
            writer.write(step=0, layer=1, **tensors(0, 1))

    with pytest.raises(RecordingError, match="step 0, layer 1, branch 'cond' could not be written"):
        run()


class Gate:
    """A disk that writes nothing until it is opened."""

    def __init__(self, monkeypatch):
        self.open, self.waiting, real = threading.Event(), threading.Event(), store.recordings.writer.write_atomically

        def gated(*args, **options):
            self.waiting.set()
            assert self.open.wait(30)
            real(*args, **options)

        monkeypatch.setattr(store.recordings.writer, "write_atomically", gated)


def fill(writer, gate):
    """One record in the hands of the only thread, one in the queue."""
    writer.write(step=0, layer=1, **tensors(0, 1))
    assert gate.waiting.wait(30)
    writer.write(step=0, layer=3, **tensors(0, 3))


def test_policy_error(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    with RecordingWriter(tmp_path / "run.zarr", plan_for(), policy="error", queue_records=1, threads=1) as writer:
        fill(writer, gate)
        with pytest.raises(RecordingError) as caught:
            writer.write(step=0, layer=4, **tensors(0, 4))
        gate.open.set()
    assert str(caught.value) == (
        "step 0, layer 4, branch 'cond' came while 1 records wait for the disk. Use policy='block', raise "
        "queue_records, or select less."
    )


def test_policy_drop_is_counted_and_resume_fills_the_gap(tmp_path, monkeypatch):
    gate, path = Gate(monkeypatch), tmp_path / "run.zarr"
    with RecordingWriter(path, plan_for(), policy="drop", queue_records=1, threads=1) as writer:
        fill(writer, gate)
        writer.write(step=0, layer=4, **tensors(0, 4))
        gate.open.set()
    recording = open_recording(path)
    assert recording.attributes["drops"] == 1
    assert recording.status.values[0].tolist() == [[1, 1, 2]]
    with pytest.raises(NotRecordedError) as caught:
        recording.read(step=0, layer=4)
    assert str(caught.value) == (
        "step 0, layer 4, branch 'cond' was dropped: the writer's queue was full. Record again with resume=True."
    )
    with RecordingWriter(path, plan_for(), resume=True) as writer:
        write_steps(writer, range(STEPS))
    assert_complete(path)


def test_policy_block_waits_and_counts_a_stall(tmp_path, monkeypatch):
    gate, path = Gate(monkeypatch), tmp_path / "run.zarr"
    with RecordingWriter(path, plan_for(), queue_records=1, threads=1) as writer:
        fill(writer, gate)
        opener = threading.Timer(0.05, gate.open.set)
        opener.start()
        writer.write(step=0, layer=4, **tensors(0, 4))
        opener.join()
    recording = open_recording(path)
    assert recording.attributes["stalls"] >= 1
    assert recording.status.values[0].tolist() == [[1, 1, 1]]


def test_nothing_is_left_at_the_path_when_creation_fails(tmp_path, monkeypatch):
    def fails(*args):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(store.recordings.writer, "create", fails)
    with (
        pytest.raises(RecordingError, match="could not be created"),
        RecordingWriter(tmp_path / "run.zarr", plan_for()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_record_marked_done_whose_file_was_swapped_for_another_is_noticed(tmp_path):
    path = tmp_path / "run.zarr"
    with RecordingWriter(path, plan_for()) as writer:
        write_steps(writer, range(1))
    folder = path / "key"
    (folder / "c.0.0.0.0.0.0.0.0").write_bytes((folder / "c.0.0.1.0.0.0.0.0").read_bytes())
    with pytest.raises(CorruptRecordingError, match="step 0, layer 1"):
        open_recording(path).read(step=0, layer=1)


def test_times_that_are_noted_while_they_are_written_do_not_change_what_is_written(tmp_path, monkeypatch):
    """The file's checksum is that of its values, although the sampler goes on."""
    plan, kept = plan_for(), []
    ledger = Ledger(tmp_path, plan)

    def write(path, name, values, **options):
        before = values.copy()
        ledger.note_times(1, {"timestep": 7.0 + len(kept), "sigma": 0.5 + len(kept)})
        np.testing.assert_array_equal(values, before)
        kept.append((name, values[1]))

    monkeypatch.setattr("store.recordings.ledger.write_small", write)
    ledger.note_times(0, {"timestep": 999.0, "sigma": 1.0})
    ledger.commit()
    assert [name for name, _ in kept] == ["timestep", "sigma"]
    ledger.commit()  # what was noted meanwhile comes with the next one
    assert [value for _, value in kept[2:]] == [8.0, 1.5]
