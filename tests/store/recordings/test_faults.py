"""What attacks on recordings found: two writers, kills, flipped bits, full disks. One section for each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

import store.recordings.lock
from store import Damage, Plan, RecordingWriter, Selection, TokenLayout, open_recording
from store.errors import CorruptRecordingError, DitprobeError, OutputExistsError, RecordingError
from store.recordings.lock import LOCK, WriterLock, remove_leftovers
from store.recordings.schema import sealed
from store.recordings.shards import crc32c

STEPS = 4
RECORDS = [(step, layer) for step in range(STEPS) for layer in (1, 3)]
needs_flock = pytest.mark.skipif(store.recordings.lock.fcntl is None, reason="the system has no flock")


def plan_for(layers: tuple[int, ...] = (1, 3)) -> Plan:
    made = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=2, channels=4) for i in range(6)]
    return Selection("all", layers).plan(
        SimpleNamespace(name="tiny", layers=made), TokenLayout(3, 5, 7, 80, 84, 9), STEPS
    )


def tensors(step: int, layer: int) -> dict[str, np.ndarray]:
    """float32 values, about half of which float16 cannot hold exactly."""
    values = np.random.default_rng([step, layer]).integers(0, 4096, (2, 2, 3, 5, 7, 4)).astype(np.float32)
    return {"query": values[0], "key": values[1]}


def write_all(writer: RecordingWriter, records: list[tuple[int, int]] = RECORDS) -> None:
    for step, layer in records:
        writer.write(step=step, layer=layer, timestep=float(step), sigma=step / 2, **tensors(step, layer))


def make(path: Path) -> Path:
    with RecordingWriter(path, plan_for()) as writer:
        write_all(writer)
    return path


def assert_right(path: Path) -> None:
    recording = open_recording(path)
    assert recording.state == "complete"
    assert recording.verify() == []
    for step, layer in RECORDS:
        expected = [values.astype(np.float16) for values in tensors(step, layer).values()]
        np.testing.assert_array_equal(recording.read(step=step, layer=layer), expected)
    assert recording.timesteps.tolist() == list(range(STEPS))


def flip(file: Path, byte: int = 5, bit: int = 2) -> None:
    data = bytearray(file.read_bytes())
    data[byte] ^= 1 << bit
    file.write_bytes(data)


def change_attributes(path: Path, seal: bool = True, **changes: object) -> None:
    document = json.loads((path / "zarr.json").read_text())
    changed = document["attributes"] | changes
    document["attributes"] = sealed(changed) if seal else changed
    (path / "zarr.json").write_text(json.dumps(document))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return make(tmp_path / "run.zarr")


# Finding 3: two writers


@needs_flock
@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_second_writer_is_refused_with_the_process_that_writes(tmp_path: Path, how: str) -> None:
    path = tmp_path / "run.zarr"
    with RecordingWriter(path, plan_for()) as first:
        write_all(first, RECORDS[:3])
        (path / "query" / "c.9.partial").write_bytes(b"what a file of the first looks like")
        with (
            pytest.raises(RecordingError) as caught,
            RecordingWriter(path, plan_for(), resume=how == "resume", overwrite=how == "overwrite"),
        ):
            pass
        assert str(caught.value) == (
            f"{path} is being written by process {os.getpid()}. Wait until it ends, or choose another path."
        )
        assert (path / "query" / "c.9.partial").exists(), "a second writer removed files of the first"
        write_all(first, RECORDS[3:])
    assert_right(path)
    assert [file.name for file in tmp_path.iterdir()] == ["run.zarr"]


def test_nothing_is_deleted_by_a_writer_that_was_not_asked_to_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    late = RecordingWriter(path, plan_for())  # nothing was there as yet
    make(path)
    with pytest.raises(OutputExistsError, match="exists already"), late:
        pass
    assert_right(path)


@needs_flock
def test_writers_that_begin_at_once_leave_one_whole_recording(tmp_path: Path) -> None:
    path, barrier, ends = tmp_path / "run.zarr", threading.Barrier(4), []

    def run() -> None:
        writer = RecordingWriter(path, plan_for())
        barrier.wait(30)
        try:
            with writer:
                write_all(writer)
            ends.append("done")
        except DitprobeError as error:
            ends.append(type(error).__name__)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ends) == ["OutputExistsError"] * 3 + ["done"]
    assert_right(path)
    assert [file.name for file in tmp_path.iterdir()] == ["run.zarr"]


@needs_flock
def test_a_writer_that_loses_the_race_for_the_path_deletes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with pytest.raises(OutputExistsError) as caught:
        store.recordings.lock.install(path, lambda folder: make(path))
    assert str(caught.value) == f"{path} was created by another writer just now. Choose another path."
    assert_right(path)
    assert [file.name for file in tmp_path.iterdir()] == ["run.zarr"]


CHILD = """
    import os, signal, sys, time
    sys.path.insert(0, {folder!r})
    from pathlib import Path
    from test_faults import RECORDS, RecordingWriter, plan_for, write_all
    with RecordingWriter(Path({path!r}), plan_for(), resume={resume}, threads=1) as writer:
        write_all(writer, RECORDS[: {stop}])
        while writer._ledger.done < {stop} or not writer._queue.empty():
            time.sleep(0.01)
        writer._ledger.commit()
        print("ready", flush=True)
        sys.stdin.readline()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def child(path: Path, stop: int, resume: bool = False) -> subprocess.Popen[str]:
    """A process that has written ``stop`` records and waits; killed by a line on its standard input."""
    program = textwrap.dedent(CHILD.format(folder=os.path.dirname(__file__), path=str(path), stop=stop, resume=resume))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", program], **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A recording of which five of eight records are done when its process is killed."""
    path = tmp_path / "killed.zarr"
    process = child(path, 5)
    if store.recordings.lock.fcntl is not None:
        with pytest.raises(RecordingError, match=f"is being written by process {process.pid}"):
            RecordingWriter(path, plan_for(), resume=True).__enter__()
    process.communicate("die\n", timeout=30)
    return path


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no kill -9")
class TestKill:
    """Findings 3, 4 and 24 with a process that is killed."""

    def test_after_kill_9_the_lock_is_free_and_the_counts_are_those_of_a_whole_run(
        self, killed: Path, tmp_path: Path
    ) -> None:
        assert (killed / LOCK).exists(), "a killed writer leaves its file, which holds nobody back"
        half = open_recording(killed)
        assert (half.state, half.attributes["inexact_casts"]) == ("open", None)
        assert half.verify() == []
        with RecordingWriter(killed, plan_for(), resume=True) as writer:
            write_all(writer)
        whole = open_recording(make(tmp_path / "whole.zarr"))
        resumed = open_recording(killed)
        assert whole.inexact_casts > 1000
        assert 0 < half.inexact_casts < whole.inexact_casts
        for name in ("inexact_casts", "overflowing_casts", "drops"):
            assert resumed.attributes[name] == whole.attributes[name]
        xr.testing.assert_identical(resumed.dataset.inexact_casts, whole.dataset.inexact_casts)
        assert_right(killed)
        assert not (killed / LOCK).exists()

    def test_a_killed_recording_opens_with_plain_xarray(self, killed: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dataset = xr.open_zarr(killed)
            one = dataset["query"].sel(step=1, layer=3, branch="cond").values
        np.testing.assert_array_equal(one, tensors(1, 3)["query"].astype(np.float16))
        assert int(dataset.status.sum()) == 5


@needs_flock
def test_a_lock_whose_process_is_dead_but_that_is_held_is_explained(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = WriterLock(tmp_path)
    (tmp_path / LOCK).write_text(str(dead.pid))
    with pytest.raises(RecordingError) as caught:
        WriterLock(tmp_path)
    lock.release()
    assert str(caught.value) == (
        f"{tmp_path} is being written by process {dead.pid}, which does not run on this machine. If it does not run on "
        f"another one either, a child of it has kept the lock: end that, or remove {tmp_path / LOCK}."
    )
    WriterLock(tmp_path).release()


def test_a_disk_without_locks_is_written_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    if store.recordings.lock.fcntl is not None:
        monkeypatch.setattr(store.recordings.lock.fcntl, "flock", unsupported)
    assert_right(make(tmp_path / "run.zarr"))


@needs_flock
def test_a_recording_that_another_writer_takes_away_is_not_made_anew_by_its_lock(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"run\.zarr was removed just now, by another writer or by hand"):
        WriterLock(tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()


# Finding 4: counts


def test_what_was_refused_or_dropped_is_counted_once_however_often_a_run_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    huge = {name: values + 70_000 for name, values in tensors(0, 1).items()}
    for resume in (False, True, True):
        with RecordingWriter(path, plan_for(), resume=resume) as writer:
            with pytest.raises(ValueError, match="beyond float16"):
                writer.write(step=0, layer=1, **huge)
            write_all(writer, RECORDS[1:])
        recording = open_recording(path)
        assert (recording.attributes["overflowing_casts"], recording.attributes["drops"]) == (1, 0)
        assert recording.attributes["inexact_casts"] == recording.inexact_casts


# Finding 5: damaged records


@pytest.mark.parametrize("how", ["bit", "index", "cut", "missing", "other"])
def test_resume_records_again_what_verify_finds_bad(recorded: Path, how: str) -> None:
    file, other = (recorded / "key" / f"c.{step}.0.1.0.0.0.0.0" for step in (2, 3))
    if how == "missing":
        file.unlink()
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "other":
        shutil.copy(other, file)
    else:
        flip(file, 5 if how == "bit" else -7)
    (damage,) = open_recording(recorded).verify()
    assert (damage.array, damage.step, damage.branch, damage.layer) == ("key", 2, "cond", 3)
    with pytest.raises(CorruptRecordingError, match="Record again with resume=True to replace what is damaged"):
        open_recording(recorded).read(step=2, layer=3)
    with RecordingWriter(recorded, plan_for(), resume=True) as writer:
        assert [writer.is_done(*record) for record in RECORDS] == [record != (2, 3) for record in RECORDS]
        write_all(writer)
    assert_right(recorded)


@pytest.mark.parametrize("name", ["status", "checksum", "inexact_casts", "timestep", "sigma"])
def test_resume_records_everything_again_where_nothing_vouches_for_the_records(recorded: Path, name: str) -> None:
    chunk = next(file for file in (recorded / name).iterdir() if file.name.startswith("c."))
    flip(chunk, 1)
    with RecordingWriter(recorded, plan_for(), resume=True) as writer:
        assert not any(writer.is_done(*record) for record in RECORDS)
        assert open_recording(recorded).verify() == []
        write_all(writer)
    assert_right(recorded)


@pytest.mark.parametrize("name", ["y/c.0", "layer_name/c.0", "query/zarr.json", "step/zarr.json", "zarr.json"])
def test_resume_writes_damaged_metadata_anew_and_keeps_the_records(recorded: Path, name: str) -> None:
    if name == "zarr.json":
        change_attributes(recorded, seal=False, backbone="tini")
    else:
        flip(recorded / name, 40, 0)
        assert open_recording(recorded).verify() != []
    with RecordingWriter(recorded, plan_for(), resume=True) as writer:
        assert all(writer.is_done(*record) for record in RECORDS)
    assert_right(recorded)


@pytest.mark.parametrize("how", ["cut", "missing"])
def test_a_recording_without_readable_metadata_of_its_root_may_be_recorded_anew(recorded: Path, how: str) -> None:
    root = recorded / "zarr.json"
    root.write_bytes(root.read_bytes()[:99])
    if how == "missing":
        root.unlink()
    with pytest.raises(RecordingError):
        open_recording(recorded)
    with pytest.raises(RecordingError):
        RecordingWriter(recorded, plan_for(), resume=True)
    with RecordingWriter(recorded, plan_for(), overwrite=True) as writer:
        write_all(writer)
    assert_right(recorded)


# Finding 6: metadata


def test_flipped_bits_of_the_attributes_are_noticed(recorded: Path) -> None:
    file = recorded / "zarr.json"
    whole = file.read_bytes()
    before = json.loads(whole)
    rng, silent = np.random.default_rng(0), []
    for byte in rng.choice(whole.index(b'"zarr_format"'), 150, replace=False):
        flip(file, byte, int(rng.integers(7)))
        try:
            noticed = bool(open_recording(recorded).verify())
        except RecordingError:
            noticed = True
        if not noticed and json.loads(file.read_bytes()) != before:
            silent.append(bytes(file.read_bytes()[byte - 20 : byte + 20]))
        file.write_bytes(whole)
    assert silent == []


@pytest.mark.parametrize(
    "name", ["step", "layer", "head", "frame", "frame_time", "y", "x", "branch", "layer_name", "array"]
)
def test_flipped_coordinates_are_found_by_verify_and_by_plain_xarray(recorded: Path, name: str) -> None:
    flip(recorded / name / "c.0", 8)
    (damage,) = open_recording(recorded).verify()
    assert damage.array == name
    with pytest.raises(Exception, match=r"checksum"):
        xr.open_zarr(recorded)[name].load()


def test_coordinates_of_another_selection_are_found_though_their_own_checksum_is_right(recorded: Path) -> None:
    values = np.array([4, 1], "<i8").tobytes()
    (recorded / "layer" / "c.0").write_bytes(values + crc32c(values).to_bytes(4, "little"))
    assert open_recording(recorded).verify() == [
        Damage("layer", "its values are not those that the attributes lead to")
    ]


@pytest.mark.parametrize("name", ["query", "status"])
@pytest.mark.parametrize("text", [b"{", b"\xff", b"{}", b'{"zarr_format": 3, "node_type": "array"}'])
def test_damaged_metadata_of_an_array_are_named_through_zarr(recorded: Path, name: str, text: bytes) -> None:
    (recorded / name / "zarr.json").write_bytes(text)
    with pytest.raises(CorruptRecordingError, match=rf"the array '{name}' of .* is (damaged|missing)"):
        open_recording(recorded, memmap=False)
    assert [damage.array for damage in open_recording(recorded).verify()] == [name]


def test_flipped_times_are_found_by_verify_and_by_reading(recorded: Path) -> None:
    flip(recorded / "timestep" / "c.0", 7)
    recording = open_recording(recorded)
    assert [damage.array for damage in recording.verify()] == ["timestep"]
    with pytest.raises(
        CorruptRecordingError, match=r"the array 'timestep' of .* is damaged: the checksum of its chunk"
    ):
        _ = recording.timesteps


@pytest.mark.parametrize("memmap", [True, False])
def test_a_flipped_status_is_noticed_on_opening(recorded: Path, memmap: bool) -> None:
    flip(recorded / "status" / "c.0.0.0", 3, 0)
    with pytest.raises(CorruptRecordingError, match=r"the array 'status' of .* is damaged"):
        open_recording(recorded, memmap=memmap)


def test_complete_means_that_no_record_is_missing(recorded: Path) -> None:
    status = recorded / "status" / "c.0.0.0"
    values = bytearray(status.read_bytes()[:-4])
    values[2], values[5] = 0, 7
    status.write_bytes(values + crc32c(bytes(values)).to_bytes(4, "little"))
    found = open_recording(recorded).verify()
    assert Damage("status", "the recording is called complete, but 1 of 8 are missing") in found
    assert Damage("status", "it is 7, which means nothing", 2, "cond", 3) in found
    assert [damage.array for damage in found] == ["status", "inexact_casts", "status"]


@pytest.mark.parametrize("memmap", [True, False])
@pytest.mark.parametrize("layers", [[4, 1], [1, 1], [1, 6], [-1, 3], []])
def test_layers_must_ascend_and_exist(recorded: Path, layers: list[int], memmap: bool) -> None:
    selection = json.loads((recorded / "zarr.json").read_text())["attributes"]["selection"]
    change_attributes(recorded, selection=selection | {"layers": layers})
    with pytest.raises(CorruptRecordingError, match="their fingerprint is"):
        open_recording(recorded, memmap=memmap)
    with pytest.raises(CorruptRecordingError, match=r"layers \[.*\] must ascend between 0 and 5"):
        open_recording(recorded, memmap=memmap, check=False)


def test_the_checksum_of_the_attributes_is_needed(recorded: Path) -> None:
    change_attributes(recorded, seal=False, attributes_checksum=None)
    with pytest.raises(CorruptRecordingError, match="their attributes_checksum is"):
        open_recording(recorded)
    assert open_recording(recorded, check=False).is_done(step=0, layer=1)


# Finding 7: through Zarr


def test_some_heads_through_zarr_are_compared_as_a_whole_record(recorded: Path) -> None:
    flip(recorded / "query" / "c.0.0.0.0.0.0.0.0")
    with pytest.raises(CorruptRecordingError, match="the checksum of query is"):
        open_recording(recorded, memmap=False).read(step=0, layer=1, heads=[1])
    query, _ = open_recording(recorded, memmap=False, check=False).read(step=0, layer=1, heads=[1])
    np.testing.assert_array_equal(query, tensors(0, 1)["query"][1:].astype(np.float16))
    query, _ = open_recording(recorded, memmap=False).read(step=0, layer=3, heads=[0])
    np.testing.assert_array_equal(query, tensors(0, 3)["query"][:1].astype(np.float16))


# Finding 15: what is left beside, and room on the disk


@needs_flock
def test_folders_of_dead_writers_are_removed_at_the_next_start_and_no_others(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = tmp_path / "run[1].zarr"
    gone = [tmp_path / f".{path.name}.{dead.pid}{end}.partial" for end in ("", ".0123abcd")]
    locked, fresh = (tmp_path / f".{path.name}.{os.getpid()}.{end}.partial" for end in ("00000000", "11111111"))
    free = tmp_path / f".{path.name}.{os.getpid()}.22222222.partial"  # a new process may have the number of a dead one
    other = tmp_path / f".else.zarr.{dead.pid}.partial"
    for folder in (*gone, locked, fresh, free, other):
        (folder / "status").mkdir(parents=True)
    held = WriterLock(locked)
    (free / LOCK).write_text(str(os.getpid()))
    remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == sorted([locked, fresh, other])
    held.release()
    locked.rename(gone[0])
    assert_right(make(path))
    assert not gone[0].exists()


def test_a_recording_behind_a_link_stays_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    link = tmp_path / "run.zarr"
    make(tmp_path / "scratch" / "real.zarr")
    link.symlink_to(tmp_path / "scratch" / "real.zarr")
    with RecordingWriter(link, plan_for(), overwrite=True) as writer:
        write_all(writer)
    assert link.is_symlink()
    assert_right(tmp_path / "scratch" / "real.zarr")


@pytest.mark.parametrize("resume", [False, True])
def test_too_little_room_is_a_failure_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    path = tmp_path / "run.zarr"
    if resume:
        with RecordingWriter(path, plan_for()):
            pass
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(RecordingError, match=r"needs 26\.9 kB, .* has 10\.0 kB free") as caught:
        RecordingWriter(path, plan_for(), resume=resume).__enter__()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == 28
