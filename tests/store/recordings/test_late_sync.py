"""Files of records are synced together, before the records are called done, and are closed whatever happens."""

import contextlib
import errno
import os

import numpy as np
import pytest
from recording_helpers import plan_for, tensors

import store.recordings.ledger
from store import RecordingWriter, open_recording
from store.errors import RecordingError
from store.recordings.ledger import Ledger
from store.recordings.shards import ShardFormat

pytestmark = pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="open files cannot be listed here")


def open_files(folder):
    """Open files of this process below a folder."""
    links = []
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            links.append(os.readlink(f"/dev/fd/{name}"))
    return [link for link in links if link.startswith(str(folder.resolve()))]


def write_steps(writer, plan, layers):
    for layer in layers:
        for step in plan.steps:
            for branch in plan.branches:
                writer.write(step=step, layer=layer, branch=branch, **tensors(plan, step, layer, branch))


def test_what_is_called_done_was_synced(tmp_path, monkeypatch):
    """The status is replaced only after every file of its records was synced."""
    synced, real, marked, mark = set(), os.fsync, [], Ledger._mark

    def fsync(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    def checked(ledger, finished):
        for record in finished:
            for shard in map(ShardFormat, ledger._plan.arrays):
                assert shard.path(ledger._path, record.position).stat().st_ino in synced
            marked.append(record.position)
        mark(ledger, finished)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Ledger, "_mark", checked)
    plan = plan_for()
    with RecordingWriter(tmp_path / "run.zarr", plan) as writer:
        write_steps(writer, plan, plan.layers)
    assert len(marked) == plan.records
    assert not open_files(tmp_path)


def test_a_commit_is_not_put_off_when_many_files_are_open(tmp_path, monkeypatch):
    monkeypatch.setattr(store.recordings.ledger, "_MOST_FILES", 4)
    plan = plan_for()
    with RecordingWriter(tmp_path / "run.zarr", plan, threads=1) as writer:
        writer._ledger._next_commit = float("inf")
        commits, commit = [], Ledger._mark
        monkeypatch.setattr(Ledger, "_mark", lambda self, new: (commits.append(len(new)), commit(self, new)))
        monkeypatch.setattr(store.recordings.ledger.time, "monotonic", lambda: 0.0)
        write_steps(writer, plan, plan.layers[:2])
    assert max(commits) <= 2, "each record has two files"
    assert sum(commits) == 8


def test_a_sync_that_fails_leaves_its_records_missing(tmp_path, monkeypatch):
    path, plan, real = tmp_path / "run.zarr", plan_for(), os.fsync

    def fails(descriptor):
        if os.readlink(f"/dev/fd/{descriptor}").split("/")[-1].startswith("c.1."):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    def run():
        with RecordingWriter(path, plan, threads=1) as writer:
            write_steps(writer, plan, plan.layers[:1])

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(RecordingError, match="could not be written"):
        run()
    monkeypatch.undo()
    assert not open_files(tmp_path)
    kept = open_recording(path)
    assert kept.state == "open"
    assert not kept.verify()
    with RecordingWriter(path, plan, resume=True) as writer:
        write_steps(writer, plan, plan.layers)
    assert open_recording(path).state == "complete"
    assert not open_recording(path).verify()


def test_a_slab_is_the_file(tmp_path):
    """Payload and index, then zeros that are cut off; the memory of one record serves the next."""
    plan = plan_for()
    shard = ShardFormat(plan.arrays[0])
    slab = shard.slab()
    slab.payload[...] = np.arange(slab.payload.size).reshape(slab.payload.shape) % 100
    assert slab.blocks[: slab.nbytes].tobytes() == slab.payload.tobytes() + shard.index
    assert not slab.blocks[slab.nbytes :].any()
    path = tmp_path / "run.zarr"
    with RecordingWriter(path, plan, threads=1, queue_records=1) as writer:
        write_steps(writer, plan, plan.layers)
        assert len(writer._records._spare["query"]) <= 3
    recording = open_recording(path)
    for step in plan.steps:
        query, _ = recording.read(step=step, layer=3, branch="uncond")
        np.testing.assert_array_equal(query, tensors(plan, step, 3, "uncond")["query"])
