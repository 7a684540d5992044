"""Speed of recordings beside a plain file write and zarr-python: ``python -m benchmarks.recordings.writer``.

All figures of one table come from one run on one disk, so compare the ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import xarray as xr
import zarr

from store import Plan, RecordingWriter, Selection, TokenLayout, open_recording
from store.files.atomic import aligned_empty
from store.recordings.casting import CastPart
from store.recordings.provenance import Provenance
from store.recordings.schema import create

ALIGNMENT = 4096


LAYOUT = TokenLayout(13, 30, 45, 480, 720, 49)


def make_plan(records: int, heads: int, layout: TokenLayout = LAYOUT) -> Plan:
    """Records of CogVideoX-2B's geometry at 49 images of 480 x 720, with fewer heads; text is left out."""
    layout = replace(layout, text_tokens=0)
    layers = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=heads, channels=64) for i in range(records)]
    return Selection([-1], "all").plan(SimpleNamespace(name="benchmark", layers=layers), layout, limit_bytes=None)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_seconds(work: Callable[[], object], times: int = 7) -> float:
    return sorted(seconds(work) for _ in range(times))[times // 2]


def aligned_copy(values: np.ndarray) -> memoryview:
    """The bytes at an address and of a length that O_DIRECT accepts."""
    length = -(-values.nbytes // ALIGNMENT) * ALIGNMENT
    buffer = np.zeros(length + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    buffer[start : start + values.nbytes] = values.reshape(-1).view(np.uint8)
    return memoryview(buffer[start : start + length])


def write_raw(folder: Path, plan: Plan, values: np.ndarray, direct: bool) -> None:
    """The same bytes as plain files, one query and one key a record, each followed by fsync."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_DIRECT if direct else 0)
    data = aligned_copy(values) if direct else memoryview(values).cast("B")
    folder.mkdir()
    for number in range(2 * plan.records):
        descriptor = os.open(folder / str(number), flags, 0o644)
        left = data
        while len(left):
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
        os.close(descriptor)


def write_ours(path: Path, plan: Plan, values: np.ndarray, *, copy: bool = True) -> None:
    """Our writer; without the copy, the caller promises not to reuse his arrays, which start at an aligned address."""
    if not copy:
        aligned = aligned_empty(values.shape)
        aligned[...] = values
        values = aligned
    with RecordingWriter(path, plan) as writer:
        for layer in plan.layers:
            writer.write(step=-1, layer=layer, query=values, key=values, copy=copy)


def write_filled(path: Path, plan: Plan) -> None:
    """Our writer as a recording uses it, which casts into its memory; the cast itself is left out."""
    nothing = {array.name: CastPart(0) for array in plan.arrays}
    with RecordingWriter(path, plan) as writer:
        for layer in plan.layers:
            writer.write_filled(lambda parts: lambda: nothing, step=-1, layer=layer)


def write_zarr(path: Path, plan: Plan, values: np.ndarray) -> None:
    """zarr-python writes the same shards; it does not fsync, so the files are synced afterwards as a whole."""
    create(path, plan, Provenance())
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    for layer in range(plan.records):
        for name in ("query", "key"):
            group[name][0, 0, layer] = values
    for name in ("query", "key"):
        for file in (path / name).glob("c.*"):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


@dataclass
class Times:
    """Seconds of a way of writing, round by round: of the clock, and of the processor, all threads together."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def ratio(self, first: Times) -> float:
        """Median over the rounds of how much faster it was than another way in the same round."""
        return statistics.median(other / own for other, own in zip(first.clock, self.clock, strict=True))


def writing(
    folder: Path, plan: Plan, values: np.ndarray, rounds: int, *, only: Collection[str] = ()
) -> dict[str, Times]:
    """Seconds of each way, the ways taking turns so that a slow moment of the disk meets all of them."""
    ways: dict[str, Callable[[Path], None]] = {
        "plain files, buffered + fsync": lambda path: write_raw(path, plan, values, False),
        "RecordingWriter": lambda path: write_ours(path, plan, values),
        "RecordingWriter, copy=False": lambda path: write_ours(path, plan, values, copy=False),
        "RecordingWriter, filled in place": lambda path: write_filled(path, plan),
        "zarr-python, same shards + fsync": lambda path: write_zarr(path, plan, values),
    }
    if hasattr(os, "O_DIRECT"):
        ways = {"plain files, O_DIRECT + fsync": lambda path: write_raw(path, plan, values, True), **ways}
    ways = {name: way for name, way in ways.items() if name in (only or ways)}
    found: dict[str, Times] = {name: Times() for name in ways}
    for _ in range(rounds):
        for name, write in list(ways.items()):
            path = folder / "written"
            try:
                began, used = time.perf_counter(), time.process_time()
                write(path)
                found[name].clock.append(time.perf_counter() - began)
                found[name].processor.append(time.process_time() - used)
            except OSError as error:  # a file system without O_DIRECT
                print(f"{name}: left out ({error})")
                del ways[name], found[name]
            shutil.rmtree(path, ignore_errors=True)
    return found


def reading(path: Path) -> list[tuple[str, float, float]]:
    """Seconds (memory map, Zarr) of what analyses read; the pages are in the cache."""
    fast, general = open_recording(path), open_recording(path, memmap=False)
    stored = zarr.open_group(path, mode="r", use_consolidated=False)
    files = [fast._source.folder / name / "c.0.0.0.0.0.0.0.0" for name in ("query", "key")]  # type: ignore[attr-defined]
    shape = fast.plan.arrays[0].record_shape

    def mapped() -> tuple[np.ndarray, np.ndarray]:
        query, key = (np.memmap(file, "<f2", "r", shape=shape) for file in files)
        return np.array(query[3, 0]), np.array(key[3])

    def through_zarr() -> tuple[np.ndarray, np.ndarray]:
        return stored["query"][0, 0, 0, 3, 0], stored["key"][0, 0, 0, 3]

    def read(recording: object, **options: object) -> Callable[[], object]:
        return lambda: recording.read(step=-1, layer=0, **options)  # type: ignore[attr-defined]

    return [
        ("one head: frame 0 and all keys, bare", median_seconds(mapped), median_seconds(through_zarr)),
        ("one head, Recording.read", median_seconds(read(fast, heads=[3])), median_seconds(read(general, heads=[3]))),
        ("whole record, Recording.read", median_seconds(read(fast)), median_seconds(read(general))),
        (
            "opening",
            median_seconds(lambda: open_recording(path)),
            median_seconds(lambda: open_recording(path, memmap=False)),
        ),
    ]


def opening_full(folder: Path) -> tuple[float, float]:
    """Opening time of all 30 layers x 50 steps x 2 branches of CogVideoX-2B, by us and by plain xarray."""
    layers = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=30, channels=64) for i in range(30)]
    backbone, layout = SimpleNamespace(name="full", layers=layers), TokenLayout(13, 30, 45, 480, 720, 49, 226)
    plan = Selection("all", "all", ("cond", "uncond")).plan(backbone, layout, limit_bytes=None)
    create(folder / "full", plan, Provenance())
    path = folder / "full"
    return median_seconds(lambda: open_recording(path)), median_seconds(lambda: xr.open_zarr(path, chunks=None))


def main() -> None:
    """Measure and print two markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=48)
    parser.add_argument("--heads", type=int, default=8, help="30 is CogVideoX-2B: 135 MB a record")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    options = parser.parse_args()
    plan = make_plan(options.records, options.heads)
    values = np.random.default_rng(0).normal(size=plan.arrays[0].record_shape).astype(np.float16)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        times = writing(folder, plan, values, options.rounds)
        first = next(iter(times.values()))
        print(f"{plan.records} records of {plan.nbytes / plan.records / 1e6:.1f} MB, {options.rounds} rounds\n")
        print(
            "| writing | MB/s, best | ratio to the first, median | processor s for 1 GB, median |\n|---|---:|---:|---:|"
        )
        for way, each in times.items():
            used = statistics.median(each.processor) / plan.nbytes * 1e9
            print(f"| {way} | {plan.nbytes / min(each.clock) / 1e6:.0f} | {each.ratio(first):.2f} | {used:.2f} |")
        write_ours(folder / "read", plan, values)
        print("\n| reading, from the page cache | memory map, ms | Zarr, ms |\n|---|---|---|")
        for what, fast, general in reading(folder / "read"):
            print(f"| {what} | {fast * 1e3:.2f} | {general * 1e3:.2f} |")
        ours, plain = opening_full(folder)
        print(f"| opening, full size (3000 records) | {ours * 1e3:.2f} | |")
        print(f"| opening, full size, `xarray.open_zarr` | | {plain * 1e3:.2f} |")


if __name__ == "__main__":
    main()
