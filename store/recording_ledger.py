"""Which records of a recording are done: the small arrays that vouch for the large files."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from store.errors import RecordingError
from store.plan import Plan
from store.recording_files import LocalSource, Position, check_arrays, positions, small_path
from store.recording_schema import DONE, DROPPED, GROUP, MISSING, check_attributes, fingerprint
from store.shards import ShardFormat, sync_folder, write_whole


class Ledger:
    """Status, checksums and times of a recording that is being written.

    Each is one small file that is replaced as a whole, the status last: a record that the status calls done has its
    files and its checksums on the disk.
    """

    def __init__(self, path: Path, plan: Plan, *, sync: bool = True) -> None:
        counts = (len(plan.steps), len(plan.branches), len(plan.layers))
        self.status = np.zeros(counts, np.uint8)
        self._path, self._plan, self._sync = path, plan, sync
        self._checksums = np.zeros((*counts, len(plan.arrays)), "<u4")
        self._times = {name: np.full(len(plan.steps), np.nan) for name in ("timestep", "sigma")}
        self._times_changed = False
        self._finished: list[tuple[Position, int, list[int]]] = []
        self._next_commit = 0.0
        self._lock, self._commit_lock = threading.Lock(), threading.Lock()

    def load(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Take over what an earlier run of the same identity wrote; its attributes.

        Raises
        ------
        RecordingError
            It was another run; the message names what differs.
        """
        source = LocalSource(self._path)
        attributes = source.attributes()
        check_attributes(attributes, self._path)
        _check_same_run(attributes, wanted, self._path)
        check_arrays(source, self._plan.arrays, self._path)
        self.status = source.small("status", self.status.shape, "u1")
        self._checksums = source.small("checksum", self._checksums.shape, "<u4")
        self._times = {name: source.small(name, values.shape, "<f8") for name, values in self._times.items()}
        for position in positions(self.status != MISSING):
            if self.status[position] == DROPPED or not self._files_are_there(position):
                self.status[position] = MISSING
        return attributes

    def note_times(self, row: int, times: Mapping[str, float | None]) -> None:
        """Remember what the scheduler calls a step."""
        for name, value in times.items():
            if value is not None and self._times[name][row] != value:
                self._times[name][row] = value
                self._times_changed = True

    def finish(self, position: Position, state: int, checksums: list[int]) -> None:
        """Remember a record for the next commit."""
        with self._lock:
            self._finished.append((position, state, checksums))

    def commit(self, *, lazily: bool = False) -> None:
        """Write down every finished record; lazily: not when that would take more than a tenth of the time.

        What is finished and not yet written down is recorded again after a kill, no more.
        """
        with self._commit_lock:
            start = time.monotonic()
            if lazily and start < self._next_commit:
                return
            with self._lock:
                finished, self._finished = self._finished, []
            if self._times_changed:
                self._times_changed = False
                for name, values in self._times.items():
                    self._write(name, values)
            if finished:
                self._mark(finished)
            self._next_commit = time.monotonic() + 10 * (time.monotonic() - start)

    def _mark(self, finished: list[tuple[Position, int, list[int]]]) -> None:
        if self._sync:
            for array in self._plan.arrays:
                sync_folder(self._path / GROUP / array.name)
        status = self.status.copy()
        for position, state, checksums in finished:
            status[position], self._checksums[position] = state, checksums
        self._write("checksum", self._checksums)
        self._write("status", status)
        self.status = status

    def _write(self, name: str, values: np.ndarray) -> None:
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        write_whole(small_path(self._path / GROUP, name, values.ndim), little, sync=self._sync)

    def _files_are_there(self, position: Position) -> bool:
        shards = map(ShardFormat, self._plan.arrays)
        return all(shard.is_plausible(shard.path(self._path / GROUP, position)) for shard in shards)

    @property
    def done(self) -> int:
        """How many records are done, written down or about to be."""
        with self._lock:
            waiting = sum(state == DONE for _, state, _ in self._finished)
        return int((self.status == DONE).sum()) + waiting


def _check_same_run(attributes: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    if attributes.get("fingerprint") == fingerprint(wanted):
        return
    changed = "; ".join(
        f"{name} is {value!r}, was {attributes.get(name)!r}"
        for name, value in wanted.items()
        if value != attributes.get(name)
    )
    raise RecordingError(
        f"{path} was recorded by another run and cannot be resumed: {changed}. "
        f"Record with the same settings, or to another path."
    )
