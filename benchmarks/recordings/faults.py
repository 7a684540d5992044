"""Faults that recordings survive: ``python -m benchmarks.recordings.faults [--times 2]``.

A small recording is killed, flipped, cut, deleted from, written on a full disk and written by two at once. Each time it
is read and compared with one that nothing happened to, then resumed and compared again. The moments and places are
drawn with a seed; only what two threads or two writers do first depends on the machine.

Columns: *wrong records* are arrays of records that were read other than they were written. *Wrong numbers* are times,
coordinates, counts, status or attributes that came back other and that neither reading nor ``verify`` noticed. *Raw
errors* are exceptions that are not ditprobe's own. *Mended* is how often the recording was whole and equal after it was
resumed, or recorded again where resuming was rejected.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recordings.faults_writers import (
    DONE,
    RAW,
    TYPED,
    Limit,
    child,
    fill_disk,
    kill_at,
    limit_files,
    make_plan,
    values,
    write,
)
from store import Recording, open_recording
from store.errors import CorruptRecordingError, DitprobeError, NotRecordedError


@dataclass
class Tally:
    """One row of the table."""

    tried: int = 0
    records: int = 0
    numbers: int = 0
    raw: int = 0
    mended: int = 0
    notes: list[str] = field(default_factory=list)

    def guard(self, work: Callable[[], object], what: str) -> bool:
        """Tell whether the work was done; errors that are not ditprobe's own are counted."""
        try:
            work()
        except DitprobeError:
            return False
        except Exception as error:  # the point is to find any
            self.raw += 1
            self.notes.append(f"{what}: {error!r}")
            return False
        return True


def numbers(recording: Recording) -> dict[str, Any]:
    """All that a recording holds except its records, as plain values."""
    said = {name: value for name, value in recording.attributes.items() if name not in ("libraries", "stalls")}
    said.pop("attributes_checksum", None)  # it covers the two that are left out
    dataset = recording.dataset
    coordinates = {str(name): np.asarray(dataset[name]).tolist() for name in sorted(map(str, dataset.coords))}
    shapes = {str(name): (array.dims, array.shape, str(array.dtype)) for name, array in dataset.items()}
    return {
        "attributes": said,
        "coordinates": coordinates,
        "shapes": shapes,
        "times": recording.timesteps.tolist(),
        "status": recording.status.values.tolist(),
        "inexact_casts": recording.inexact_casts,
    }


class Judge:
    """Compares a recording with the one that nothing happened to."""

    def __init__(self, whole: Path) -> None:
        self.plan = make_plan()
        self.truth = {(s, k): values(self.plan, s, k) for s in self.plan.steps for k in self.plan.layers}
        self.numbers = numbers(open_recording(whole))

    def look(self, path: Path, tally: Tally, what: str, ways: tuple[bool, ...] = (True, False)) -> None:
        """Read everything that can be read, through memory maps and through Zarr; count what is silently other."""
        for memmap in ways:
            tally.guard(partial(self._records, path, memmap, tally, what), what)
        tally.guard(partial(self._numbers, path, tally, what), what)

    def _records(self, path: Path, memmap: bool, tally: Tally, what: str) -> None:
        recording = open_recording(path, memmap=memmap)
        for (step, layer), expected in self.truth.items():
            where: Any = {"step": step, "layer": layer}
            reads: dict[tuple[str, ...], Callable[[], Any]] = {
                ("query", "key"): partial(recording.read, **where),
                ("text_query", "text_key"): partial(recording.read_text, **where, heads=[0, 1]),
                ("features",): partial(recording.read_features, **where),
            }
            for names, read in reads.items():
                try:
                    found = read() if len(names) > 1 else (read(),)
                except (CorruptRecordingError, NotRecordedError):
                    continue
                for name, array in zip(names, found, strict=True):
                    if not np.array_equal(array, expected[name].astype(np.float16)):
                        tally.records += 1
                        tally.notes.append(f"{what}: {name} of step {step}, layer {layer}")

    def _numbers(self, path: Path, tally: Tally, what: str) -> None:
        """Numbers that changed unnoticed; a run that was ended may have fewer records, its counts are not known."""
        recording = open_recording(path)
        if recording.verify():
            return
        found, expected = numbers(recording), dict(self.numbers)
        if recording.state == "open":
            for side in (found, expected):
                side["attributes"] = {**side["attributes"], "state": None, "inexact_casts": None, "drops": None}
                side["attributes"]["overflowing_casts"] = None
                done = np.array(found["status"]).any(axis=(1, 2))
                side["times"] = [time for time, there in zip(side["times"], done, strict=True) if there]
                side["coordinates"] = {k: v for k, v in side["coordinates"].items() if k not in ("timestep", "sigma")}
            expected["status"], expected["inexact_casts"] = found["status"], self._inexact(np.array(found["status"]))
        other = [name for name in expected if found[name] != expected[name]]
        if other:
            tally.numbers += len(other)
            tally.notes.append(f"{what}: {other}")

    def _inexact(self, status: np.ndarray) -> int:
        total = 0
        for row, step in enumerate(self.plan.steps):
            for column, layer in enumerate(self.plan.layers):
                if status[row, 0, column] == 1:
                    arrays = self.truth[step, layer].values()
                    total += sum(int((array.astype(np.float16) != array).sum()) for array in arrays)
        return total

    def mend(self, path: Path, tally: Tally, what: str) -> None:
        """Resume, or record again where resuming is rejected, and compare with the whole run."""
        if path.exists() and not tally.guard(lambda: write(path, resume=True), what):
            tally.guard(lambda: write(path, overwrite=True), what)
        elif not path.exists():
            tally.guard(lambda: write(path), what)
        before = (tally.records, tally.numbers, tally.raw)
        self.look(path, tally, f"{what}, resumed", (True,))
        state, found = "unreadable", []
        with contextlib.suppress(DitprobeError):
            whole = open_recording(path)
            state, found = whole.state, whole.verify()
        left = [file.name for file in path.parent.iterdir() if file != path]
        if state == "complete" and not found and not left and before == (tally.records, tally.numbers, tally.raw):
            tally.mended += 1
        else:
            tally.notes.append(f"{what}: not mended, {state}, {found}, {left}")


def run(context: ForkServerContext, tally: Tally, *jobs: tuple[Path, dict[str, Any], Limit | None, int]) -> list[int]:
    """Outcome of writers that begin at once; raw errors are counted."""
    processes = [context.Process(target=child, args=job) for job in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    codes = [process.exitcode for process in processes]
    tally.raw += sum(code in (RAW, None) for code in codes)
    return [RAW if code is None else code for code in codes]


def kills(judge: Judge, folder: Path, rng: np.random.Generator, times: int, context: ForkServerContext) -> Tally:
    """Runs of some 300 calls to the system that are killed twice and then resumed to their end."""
    tally = Tally()
    for _ in range(times):
        path, moments = folder / "run.zarr", rng.integers(1, 300, 2).tolist()
        tally.tried += 1
        for moment in moments:
            run(context, tally, (path, {"resume": True}, kill_at, moment))
            if path.exists():
                judge.look(path, tally, f"kill at {moments}")
        judge.mend(path, tally, f"kills at {moments}")
        shutil.rmtree(path)
    return tally


def full(judge: Judge, folder: Path, amounts: Iterable[int], limit: Limit, context: ForkServerContext) -> Tally:
    """A disk that fills up, at any moment."""
    tally = Tally()
    for amount in amounts:
        path, what = folder / "run.zarr", f"{limit.__name__} {amount}"
        tally.tried += 1
        (code,) = run(context, tally, (path, {}, limit, int(amount)))
        if code != TYPED:
            tally.notes.append(f"{what}: ended with {code}")
        if path.exists():
            judge.look(path, tally, what)
        judge.mend(path, tally, what)
        shutil.rmtree(path)
    return tally


def pairs(judge: Judge, whole: Path, folder: Path, times: int, context: ForkServerContext) -> Tally:
    """Two writers at once on one path; it counts as mended only if one of them ended well."""
    tally = Tally()
    ways: list[tuple[bool, dict[str, Any], dict[str, Any]]] = [
        (False, {}, {}),
        (False, {}, {"overwrite": True}),
        (False, {"overwrite": True}, {"overwrite": True}),
        (True, {"resume": True}, {"resume": True}),
        (True, {"resume": True}, {"overwrite": True}),
    ]
    for number in range(times):
        there, *options = ways[number % len(ways)]
        path, what = folder / "run.zarr", f"two writers {options}"
        if there:
            shutil.copytree(whole, path)
            shutil.rmtree(path / "key")
        tally.tried += 1
        codes = run(context, tally, *((path, option, None, 0) for option in options))
        judge.look(path, tally, what)
        judge.mend(path, tally, what)
        if DONE not in codes:
            tally.notes.append(f"{what}: ended with {codes}")
            tally.mended -= 1
        shutil.rmtree(path)
    return tally


def damage(judge: Judge, whole: Path, folder: Path, files: list[Path], rng: np.random.Generator, how: str) -> Tally:
    """Change one file of a whole recording."""
    tally = Tally()
    for file in files:
        path = folder / "run.zarr"
        shutil.copytree(whole, path)
        hit, what = path / file, f"{how} {file}"
        data, tally.tried = bytearray(hit.read_bytes()), tally.tried + 1
        if how == "flip":
            byte = int(rng.integers(len(data)))
            data[byte] ^= 1 << int(rng.integers(8))
            what += f" at {byte}"
        if how == "delete":
            hit.unlink()
        else:
            hit.write_bytes(data[: int(rng.integers(len(data)))] if how == "cut" else data)
        judge.look(path, tally, what)
        judge.mend(path, tally, what)
        shutil.rmtree(path)
    return tally


def main() -> None:
    """Print the table; exit 1 if a record was ever wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=1, help="how often each attack is tried, in units of the default")
    parser.add_argument("--notes", action="store_true", help="say what went wrong where")
    options = parser.parse_args()
    rng, times, start = np.random.default_rng(0), options.times, time.perf_counter()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.recordings.faults_writers"])
    rows: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as name:
        whole, folder = Path(name) / "whole.zarr", Path(name) / "attacked"
        folder.mkdir()
        write(whole)
        judge = Judge(whole)
        every = sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file())
        shards = [file for file in every if (whole / file).stat().st_size > 500 and file.name != "zarr.json"]
        metadata = [file for file in every if file.name == "zarr.json"]
        small = [file for file in every if file not in shards and file not in metadata]

        def some(files: list[Path], count: int) -> list[Path]:
            return [files[number] for number in rng.integers(len(files), size=count * times)]

        room = rng.integers(0, sum((whole / file).stat().st_size for file in shards), 20 * times).tolist()
        sizes = rng.integers(0, max((whole / file).stat().st_size for file in shards), 10 * times).tolist()
        root = [Path("zarr.json")]
        attacks: dict[str, Callable[[], Tally]] = {
            "a run killed twice by SIGKILL": lambda: kills(judge, folder, rng, 20 * times, context),
            "a bit flipped in a record": lambda: damage(judge, whole, folder, some(shards, 40), rng, "flip"),
            "... in status, checksums, counts, coordinates": lambda: damage(
                judge, whole, folder, some(small, 40), rng, "flip"
            ),
            "... in the metadata of the root": lambda: damage(judge, whole, folder, some(root, 40), rng, "flip"),
            "... in the metadata of an array": lambda: damage(judge, whole, folder, some(metadata, 20), rng, "flip"),
            "a file cut off": lambda: damage(judge, whole, folder, some(every, 30), rng, "cut"),
            "a file deleted": lambda: damage(judge, whole, folder, some(every, 30), rng, "delete"),
            "a disk that is full after so many bytes": lambda: full(judge, folder, room, fill_disk, context),
            "files limited in size by the system": lambda: full(judge, folder, sizes, limit_files, context),
            "two writers at once": lambda: pairs(judge, whole, folder, 30 * times, context),
        }
        print(
            "| attack | tried | wrong records | wrong numbers | raw errors | mended |\n|---|---:|---:|---:|---:|---:|"
        )
        for attack, attempt in attacks.items():
            row = rows[attack] = attempt()
            counts = (row.tried, row.records, row.numbers, row.raw, row.mended)
            print(f"| {attack} | {' | '.join(map(str, counts))} |", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")
    if options.notes:
        print("\n".join(note for row in rows.values() for note in row.notes))
    if any(row.records for row in rows.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
