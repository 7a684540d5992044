"""Status and checksums of the records of a recording, in small arrays."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from store.errors import CorruptRecordingError, RecordingError
from store.files.atomic import sync_all, sync_folder
from store.plan import Plan
from store.recordings.schema import DONE, DROPPED, LEDGER, MISSING, OPTIONAL, fingerprint
from store.recordings.shards import ShardFormat, crc32c
from store.recordings.sources import LocalSource, Position, positions, write_small

_MOST_FILES = 32
"""Open files that wait to be synced, at which a commit is no longer put off."""


@dataclass(frozen=True)
class _Finished:
    """A record that is done or dropped and not yet written down."""

    position: Position
    state: int
    checksums: list[int]
    inexact: int
    files: list[int]


class Ledger:
    """Status, checksums, counts and times of a recording that is being written.

    Each is one small file that is replaced as a whole, the status last: a record that the status calls done has its
    files, its checksums and its counts on the disk.
    """

    def __init__(self, path: Path, plan: Plan, *, sync: bool = True) -> None:
        counts = (len(plan.steps), len(plan.branches), len(plan.layers))
        self._path, self._plan, self._sync = path, plan, sync
        self._values = {
            "checksum": np.zeros((*counts, len(plan.arrays)), "<u4"),
            "inexact_casts": np.zeros(counts, "<i8"),
            "timestep": np.full(len(plan.steps), np.nan),
            "sigma": np.full(len(plan.steps), np.nan),
            "status": np.zeros(counts, np.uint8),
        }
        self._times_changed = False
        self._finished: list[_Finished] = []
        self._next_commit = 0.0
        self._lock, self._commit_lock = threading.Lock(), threading.Lock()

    @property
    def status(self) -> np.ndarray:
        """(step, branch, layer) uint8: what is written down."""
        return self._values["status"]

    @property
    def inexact_casts(self) -> int:
        """Values that the cast changed, in the records that are written down."""
        return int(self._values["inexact_casts"][self.status == DONE].sum())

    @property
    def drops(self) -> int:
        """Records that were dropped, of those that are written down."""
        return int((self.status == DROPPED).sum())

    def load(self) -> None:
        """Take over what an earlier writer of the same run wrote, and read it once to compare the checksums.

        Records that were dropped, whose files are missing or whose bytes are damaged become missing; everything does
        when one of the ledger's own files is damaged, because then nothing attests the records.
        """
        source = LocalSource(self._path)
        with contextlib.suppress(CorruptRecordingError):
            self._values = {
                name: source.small(name, values.shape, values.dtype.str) for name, values in self._values.items()
            }
        for position in positions(self.status != MISSING):
            if self.status[position] != DONE or not self._is_whole(position):
                self.status[position] = MISSING
        for name in reversed(LEDGER):  # the status first: it calls fewer records done than before
            self._write(name)

    def note_times(self, row: int, times: Mapping[str, float | None]) -> None:
        """Remember what the scheduler calls a step."""
        with self._lock:
            for name, value in times.items():
                if value is not None and self._values[name][row] != value:
                    self._values[name][row] = value
                    self._times_changed = True

    def finish(
        self,
        position: Position,
        state: int,
        checksums: list[int],
        inexact: int = 0,
        files: list[int] | None = None,
    ) -> None:
        """Remember a record for the next commit, which syncs and closes its open files."""
        with self._lock:
            self._finished.append(_Finished(position, state, checksums, inexact, files or []))

    def commit(self, *, lazily: bool = False) -> None:
        """Save every finished record; ``lazily``, not when that takes over a twentieth of the time or is under way.

        A commit is not put off when many files are open.

        A record that is finished but not yet saved is recorded again after a kill; nothing more is lost.
        """
        if not self._commit_lock.acquire(blocking=not lazily):
            return
        try:
            start = time.monotonic()
            if lazily and start < self._next_commit and self._open_files() < _MOST_FILES:
                return
            with self._lock:  # the times are copied: the next step notes its own while these are written
                finished, self._finished = self._finished, []
                times = {name: self._values[name].copy() for name in ("timestep", "sigma") if self._times_changed}
                self._times_changed = False
            sync_all([descriptor for record in finished for descriptor in record.files])
            start = time.monotonic()  # what the files take is no cost of writing the records down
            for name, values in times.items():
                write_small(self._path, name, values, sync=self._sync)
            if finished:
                self._mark(finished)
            self._next_commit = time.monotonic() + 20 * (time.monotonic() - start)
        finally:
            self._commit_lock.release()

    def _open_files(self) -> int:
        with self._lock:
            return sum(len(record.files) for record in self._finished)

    def _mark(self, finished: list[_Finished]) -> None:
        if self._sync:
            for array in self._plan.arrays:
                sync_folder(self._path / array.name)
        status = self.status.copy()
        for record in finished:
            status[record.position] = record.state
            self._values["checksum"][record.position] = record.checksums
            self._values["inexact_casts"][record.position] = record.inexact
        self._write("checksum")
        self._write("inexact_casts")
        write_small(self._path, "status", status, sync=self._sync)
        self._values["status"] = status

    def _write(self, name: str) -> None:
        write_small(self._path, name, self._values[name], sync=self._sync)

    def _is_whole(self, position: Position) -> bool:
        """Compare the files of a record with the checksums that were written down; reads all of them."""
        for array, checksum in zip(self._plan.arrays, self._values["checksum"][position], strict=True):
            shard = ShardFormat(array)
            try:
                if crc32c(shard.open(shard.path(self._path, position))) != checksum:
                    return False
            except CorruptRecordingError:
                return False
        return True

    @property
    def done(self) -> int:
        """Number of records that are done, written down or about to be."""
        with self._lock:
            waiting = sum(record.state == DONE for record in self._finished)
        return int((self.status == DONE).sum()) + waiting


def check_same_run(attributes: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Raise for the recording of another run; either the fingerprint or what it is made from may be damaged.

    Raises
    ------
    RecordingError
        Names what differs.
    """
    asked = {**dict.fromkeys(OPTIONAL), **wanted}
    changed = {name: value for name, value in asked.items() if value != attributes.get(name)}
    if changed and attributes.get("fingerprint") != fingerprint(wanted):
        what = "; ".join(f"{name} is {value!r}, was {attributes.get(name)!r}" for name, value in changed.items())
        raise RecordingError(
            f"{path} was recorded by another run and cannot be resumed: {what}. "
            f"Record with the same settings, or to another path."
        )
