"""Writing recordings while a model runs: a bounded queue, two threads, files that appear whole."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np

from store.arguments import checked
from store.checks import flag, integer, one_of
from store.errors import DitprobeError, InvalidInputError, RecordingError
from store.files.atomic import sync_all, write_atomically
from store.files.outputs import check_modes
from store.plan import Plan
from store.recordings.casting import CastPart
from store.recordings.ledger import Ledger, check_same_run
from store.recordings.lock import WriterLock, install, remove_leftovers
from store.recordings.provenance import Provenance
from store.recordings.records import Record, RecordFormat
from store.recordings.schema import (
    DONE,
    DROPPED,
    MISSING,
    check_version,
    create,
    identity,
    new_attributes,
    restore,
    sealed,
)
from store.recordings.shards import crc32c
from store.recordings.sources import LocalSource, Position, check_replaceable, check_space, write_attributes
from store.wording import Wording

Policy = Literal["block", "drop", "error"]
Ready = Callable[[], Mapping[str, CastPart]]
"""Waits until the parts of a record are filled, and returns how each was cast."""
Fill = Callable[[dict[str, np.ndarray]], Ready]
"""Begins to fill the parts of a record."""


class RecordingWriter:
    """Write a recording, record by record; a context manager.

    Every file is written atomically, and a record is marked done after its files are on the disk: whatever
    kills the process, each record that is marked done can be read. Leaving the ``with`` block by an exception keeps
    what was written; the recording then stays in the state "open" and can be resumed. Within the block no other writer
    can open the recording.

    Parameters
    ----------
    path : folder to create
    plan : Plan
    provenance : Provenance or mapping
        Where the recording comes from.
    policy : "block", "drop" or "error"
        What to do with a record while the queue is full: wait (counted as a stall), leave it out (counted, status 2),
        or raise.
    queue_records : int
        Records that may wait for the disk.
    threads : int
        Writer threads.
    resume : bool
        Complete an existing recording of the same run. What it holds is read once and compared with its checksums;
        damaged records count as missing, so that they are recorded again, and damaged metadata is rewritten.
    overwrite : bool
        Replace an existing recording.
    sync : bool
        Survive a power failure too, not only the end of the process.

    Raises
    ------
    OutputExistsError
        The path is taken and neither ``resume`` nor ``overwrite`` was asked for.
    RecordingError
        Not enough disk space; another run's recording is there to resume; what is there to overwrite is not a
        recording; another writer is at work there (raised on entering the block).

    Examples
    --------
    >>> import tempfile
    >>> from types import SimpleNamespace as Namespace
    >>> from store import Selection, TokenLayout, open_recording
    >>> layers = [Namespace(index=i, name=f"blocks.{i}.attn1", heads=2, channels=4) for i in range(6)]
    >>> backbone = Namespace(name="tiny", layers=layers)
    >>> plan = Selection([-1], [4]).plan(backbone, TokenLayout(3, 5, 7, 80, 112, 9), steps=10)
    >>> query = np.ones((2, 3, 5, 7, 4), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with RecordingWriter(f"{folder}/run.zarr", plan) as writer:
    ...         writer.write(step=9, layer=4, query=query, key=query)
    ...     open_recording(f"{folder}/run.zarr").read(step=-1, layer=4)[0].shape
    (2, 3, 5, 7, 4)
    """

    @checked
    def __init__(
        self,
        path: str | os.PathLike[str],
        plan: Plan,
        *,
        provenance: Provenance | Mapping[str, Any] | None = None,
        policy: Policy = "block",
        queue_records: int = 4,
        threads: int = 2,
        resume: bool = False,
        overwrite: bool = False,
        sync: bool = True,
    ) -> None:
        one_of(policy, get_args(Policy), "policy")
        queue_records = integer(queue_records, "queue_records", min_value=1)
        resume, overwrite = flag(resume, "resume"), flag(overwrite, "overwrite")
        check_modes(path, resume=resume, overwrite=overwrite)
        self.path, self.plan = Path(path), plan
        if not isinstance(provenance, Provenance):
            provenance = Provenance.from_mapping(provenance or {})
        self.provenance = provenance
        self._stalls = 0
        self._policy, self._sync = policy, sync
        self._threads_wanted = integer(threads, "threads", min_value=1, max_value=256)
        self._records = RecordFormat(plan)
        self._queue: queue.Queue[Record | None] = queue.Queue(queue_records)
        self._threads: list[threading.Thread] = []
        self._taken: set[Position] = set()
        self._error: DitprobeError | None = None
        self._ledger = Ledger(self.path, plan, sync=sync)
        self._lock: WriterLock | None = None
        self._overwrite, self._resuming = overwrite, resume and self.path.exists()
        if self._resuming:
            self._check_resumable()
        else:
            check_replaceable(self.path, overwrite=overwrite)
            check_space(self.path, plan.nbytes)

    def __enter__(self) -> Self:
        try:
            remove_leftovers(self.path)
            if self._resuming:
                self._lock = WriterLock(self.path)
                self._resume()
            else:
                self._lock = install(
                    self.path, lambda folder: create(folder, self.plan, self.provenance), overwrite=self._overwrite
                )
            self._write_state("open" if self._ledger.done < self.plan.records else "complete", counted=False)
        except BaseException as failure:
            self._unlock()
            if isinstance(failure, OSError) and not isinstance(failure, DitprobeError):
                raise RecordingError(f"{self.path} could not be created: {failure}.") from failure
            raise
        for number in range(self._threads_wanted):
            thread = threading.Thread(target=self._work, name=f"recording-writer-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []
        try:
            self._ledger.commit()
            whole = kind is None and self._error is None and bool((self._ledger.status != MISSING).all())
            self._write_state("complete" if whole else "open")
        except OSError as failure:
            self._fail("the state of the recording", failure)
        finally:
            self._unlock()
        if kind is None:
            self._raise_error()

    def is_done(self, step: int, layer: int, branch: str = "cond") -> bool:
        """Tell whether a record needs no writing, because an earlier run or this one wrote it."""
        position, _ = self._records.position(step, layer, branch)
        return bool(self._ledger.status[position] == DONE)

    def write(
        self,
        *,
        step: int,
        layer: int,
        branch: str = "cond",
        query: np.ndarray,
        key: np.ndarray,
        text_query: np.ndarray | None = None,
        text_key: np.ndarray | None = None,
        features: np.ndarray | None = None,
        value: np.ndarray | None = None,
        timestep: float | None = None,
        sigma: float | None = None,
        copy: bool = True,
    ) -> None:
        """Hand one record to the writer threads. A record that a resumed recording has already is skipped.

        Parameters
        ----------
        step, layer, branch : which record; negative numbers count from the end
        query, key : (head, frame, y, x, channel) float16 or wider; rounded to the plan's ``stored_dtype``
            All heads and frames, or only the planned ones.
        text_query, text_key : (head, token, channel)
            Needed where the plan has text tokens; fewer tokens than planned are filled up with NaN.
        features : (frame, y, x, feature)
            Needed where the plan has features.
        value : (head, frame, y, x, channel)
            Needed where the plan has values.
        timestep, sigma : float, optional
            What the scheduler calls this step.
        copy : bool
            False promises that arrays which are float16 already, as planned, will no longer change.

        Raises
        ------
        InvalidInputError
            A record that is not planned or was written already, a wrong shape, values that are not finite or do not
            fit what is stored (the message names step and layer).
        RecordingError
            An earlier record could not be written, or the queue is full and the policy is "error".
        """
        begun = self._begin(step, layer, branch, timestep, sigma)
        if begun is not None:
            position, what = begun
            given = {"query": query, "key": key, "text_query": text_query, "text_key": text_key}
            given |= {"features": features, "value": value}
            record = self._records.cast(given, position, what, copy=copy)
            self._taken.add(position)
            self._queue.put(record)

    def write_filled(
        self,
        fill: Fill,
        *,
        step: int,
        layer: int,
        branch: str = "cond",
        timestep: float | None = None,
        sigma: float | None = None,
    ) -> None:
        """Hand over one record that is cast into memory of the writer, without a copy; otherwise as :meth:`write`.

        Parameters
        ----------
        fill : callable
            Given the arrays of the planned parts by name (float16, or uint16 for the bits of bfloat16), begins to fill
            them and returns a :data:`Ready`, which waits until they are filled and says how each was cast. A writer
            thread calls it, so that an accelerator may still be copying; what it finds wrong is raised by the next
            call, or on leaving the block.
        step, layer, branch, timestep, sigma
            As in :meth:`write`.

        Raises
        ------
        InvalidInputError, RecordingError
        """
        begun = self._begin(step, layer, branch, timestep, sigma)
        if begun is not None:
            position, what = begun
            slabs = self._records.lend()
            parts = {name: slab.payload for name, slab in slabs.items()}
            record = Record(position, what, parts, 0, slabs, fill(parts))
            self._taken.add(position)
            self._queue.put(record)

    def check_casts(self, casts: Mapping[str, CastPart], *, step: int, layer: int, branch: str = "cond") -> None:
        """Raise at once for casts of a record that a recording would lose.

        Raises
        ------
        InvalidInputError
        """
        self._records.check(casts, *self._records.position(step, layer, branch))

    def use_memory(self, allocate: Callable[[tuple[int, ...]], np.ndarray]) -> None:
        """Take the memory of :meth:`write_filled` from a function of shapes, such as pinned memory."""
        self._records.allocate = allocate

    def _begin(
        self, step: int, layer: int, branch: str, timestep: float | None, sigma: float | None
    ) -> tuple[Position, str] | None:
        """Position and words of a record that is to be written; None for one that is there or dropped."""
        self._raise_error()
        if not self._threads:
            raise RecordingError("the writer is not open. Use it in a with block.")
        position, what = self._records.position(step, layer, branch)
        if self._ledger.status[position] == DONE and position not in self._taken:
            return None
        if position in self._taken:
            raise InvalidInputError(f"{what} was written already. A recording holds one sample of one run.")
        self._ledger.note_times(position[0], {"timestep": timestep, "sigma": sigma})
        return (position, what) if self._make_room(position, what) else None

    def _make_room(self, position: Position, what: str) -> bool:
        """Make room in the queue; False drops the record."""
        if not self._queue.full():
            return True
        if self._policy == "error":
            raise RecordingError(
                f"{what} came while {self._queue.maxsize} records wait for the disk. Use policy='block', raise "
                f"queue_records, or select less."
            )
        if self._policy == "drop":
            self._ledger.finish(position, DROPPED, [0] * len(self._records.shards))
            return False
        self._stalls += 1
        return True

    def _work(self) -> None:
        while (record := self._queue.get()) is not None:
            if self._error is not None:
                continue  # keep emptying the queue, so that no caller blocks on it
            try:
                self._write_record(record)
            except Exception as failure:
                self._fail(record.what, failure)

    def _write_record(self, record: Record) -> None:
        checksums, inexact, held = [], record.inexact, list[int]()
        if record.ready is not None:
            inexact = self._records.check(record.ready(), record.position, record.what)
        try:
            for name, values in record.parts.items():
                self._write_part(record, name, held)
                checksums.append(crc32c(values))
                self._records.give_back(record, name)
        except BaseException:
            sync_all(held)
            raise
        self._ledger.finish(record.position, DONE, checksums, inexact, held)
        self._ledger.commit(lazily=True)

    def _write_part(self, record: Record, name: str, held: list[int]) -> None:
        shard, slab = self._records.shards[name], record.slabs.get(name)
        path = shard.path(self.path, record.position)
        if slab is None:
            write_atomically(path, record.parts[name], shard.index, sync=self._sync, held=held)
        else:
            write_atomically(path, slab.blocks, sync=self._sync, length=slab.nbytes, held=held)

    def _fail(self, what: str, failure: Exception) -> None:
        if isinstance(failure, InvalidInputError):  # what was handed over cannot be recorded; the disk is well
            self._error = self._error or failure
            return
        error = RecordingError(
            f"{what} could not be written to {self.path}: {failure}. {self._ledger.done} of {self.plan.records} "
            f"records are done and readable.",
            remedy=Wording("Remove the cause and record again with {resume}.", resume=True),
        )
        error.__cause__ = failure
        self._error = self._error or error

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _check_resumable(self) -> None:
        """Refuse, before anything is touched, what this writer cannot complete."""
        attributes = LocalSource(self.path).attributes()
        check_version(attributes, self.path)
        if attributes["schema_version"] == 1:
            raise RecordingError(
                f"{self.path} has recording format {attributes['schema_version']}, which is still read but no longer "
                "written.",
                remedy=Wording("Record again to another path, or with {overwrite}.", overwrite=True),
            )
        check_same_run(attributes, identity(self.plan, self.provenance), self.path)

    def _resume(self) -> None:
        self._check_resumable()  # again: another writer may have been here since
        for partial in self.path.rglob("*.partial"):
            partial.unlink()
        restore(self.path, self.plan, self.provenance)
        self._ledger.load()
        missing = self.plan.records - self._ledger.done
        check_space(self.path, self.plan.nbytes // self.plan.records * missing)

    def _write_state(self, state: str, *, counted: bool = True) -> None:
        """Replace the attributes; without the counts, which stay unknown when the process is killed, while it runs."""
        counts: dict[str, int] = {}
        if counted:
            counts = {
                "inexact_casts": self._ledger.inexact_casts,
                "overflowing_casts": len(self._records.overflowing),
                "stalls": self._stalls,
                "drops": self._ledger.drops,
            }
        attributes = {**new_attributes(self.plan, self.provenance), "state": state, **counts}
        write_attributes(self.path, sealed(attributes), sync=self._sync)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
