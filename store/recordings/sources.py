"""Sources of a recording's bytes: files through memory maps, or anything that Zarr opens."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr

from store import bfloat16
from store.errors import CorruptRecordingError, RecordingError
from store.files.atomic import write_atomically
from store.files.damaged import damage_as, reason
from store.files.outputs import check_free
from store.plan import PlannedArray, format_bytes
from store.recordings.schema import FORMAT, GROUP_V1
from store.recordings.shards import ShardFormat, crc32c
from store.wording import Wording

Position = tuple[int, int, int]
_REMEDY = Wording("Copy it again, or record again with {resume}.", resume=True)


class Source(Protocol):
    """Protocol of a source that a recording reads through."""

    def attributes(self) -> dict[str, Any]:
        """Attributes of the group."""
        ...

    def has(self, name: str) -> bool:
        """Tell whether there is an array of this name, however many records it has."""
        ...

    def small(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A small array as a whole, checked against its crc32c (format 1 has none)."""
        ...

    def record(self, array: PlannedArray, position: Position, heads: list[int] | None, crc: int | None) -> np.ndarray:
        """One record or some of its heads, as a copy, bfloat16 by its bits; checked against ``crc`` if there is one."""
        ...

    def view(self, array: PlannedArray, position: Position, crc: int | None) -> np.ndarray:
        """One record, read-only and without a copy where there is a memory map; checked as by :meth:`record`."""
        ...

    def group(self, *, consolidated: bool = False) -> zarr.Group:
        """The group that has the arrays, with the metadata of each array itself or those kept at the root."""
        ...


def check_arrays(source: Source, arrays: Iterable[PlannedArray], path: object) -> None:
    """Raise for a recording that lost a whole array; reads no record.

    Raises
    ------
    CorruptRecordingError
    """
    missing = [repr(array.name) for array in arrays if not source.has(array.name)]
    if missing:
        what = f"the array {missing[0]}" if len(missing) == 1 else f"the arrays {', '.join(missing)}"
        raise CorruptRecordingError(f"{what} of {path} {'is' if len(missing) == 1 else 'are'} missing.", remedy=_REMEDY)


def positions(chosen: np.ndarray) -> list[Position]:
    """Positions at which a (step, branch, layer) array of bools is true."""
    return [(int(step), int(branch), int(layer)) for step, branch, layer in np.argwhere(chosen)]


def small_path(group: Path, name: str, dims: int) -> Path:
    """The one chunk of a small array."""
    return group / name / ".".join(["c", *"0" * dims])


def write_small(group: Path, name: str, values: np.ndarray, *, sync: bool = True) -> None:
    """Replace the one chunk of a small array, with its crc32c at the end."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    write_atomically(small_path(group, name, values.ndim), little, crc32c(little).to_bytes(4, "little"), sync=sync)


class LocalSource:
    """Files on this machine, read without Zarr.

    Raises
    ------
    RecordingError, CorruptRecordingError
        No recording at the path, or metadata that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        root, inner = _attributes_in(path), None
        if root is None or "schema_version" not in root:
            inner = _attributes_in(path / GROUP_V1)
        if root is None and inner is None:
            exists = "has no zarr.json" if path.exists() else "does not exist"
            raise RecordingError(f"{path} is not a recording: it {exists}.")
        self.folder = path if inner is None else path / GROUP_V1
        self._attributes = inner or root or {}
        self._sealed = inner is None

    def attributes(self) -> dict[str, Any]:
        """Attributes of the group."""
        return dict(self._attributes)

    def has(self, name: str) -> bool:
        """Tell whether there is an array of this name."""
        return (self.folder / name / "zarr.json").is_file()

    def small(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A small array as a whole."""
        file = small_path(self.folder, name, len(shape))
        try:
            data = file.read_bytes()
            if self._sealed:
                data, seal = data[:-4], data[-4:]
                _check(crc32c(data), int.from_bytes(seal, "little"), "its chunk")
            return np.frombuffer(data, np.dtype(dtype)).reshape(shape).copy()
        except (OSError, ValueError) as error:
            raise CorruptRecordingError(f"{_damaged(name, self.path)}: {reason(error)}.", remedy=_REMEDY) from error

    def record(self, array: PlannedArray, position: Position, heads: list[int] | None, crc: int | None) -> np.ndarray:
        """One record through a memory map."""
        payload = self.view(array, position, crc)
        return np.array(payload if heads is None else payload[heads])

    def view(self, array: PlannedArray, position: Position, crc: int | None) -> np.ndarray:
        """The memory map of one record."""
        shard = ShardFormat(array)
        payload = shard.open(shard.path(self.folder, position))
        if crc is not None:
            _check(crc32c(payload), crc, array.name)
        return payload

    def group(self, *, consolidated: bool = False) -> zarr.Group:
        """The group that has the arrays."""
        return zarr.open_group(self.folder, mode="r", use_consolidated=consolidated, zarr_format=3)


class ZarrSource:
    """Anything that Zarr opens, such as a URL."""

    def __init__(self, path: str) -> None:
        self._path = path
        with damage_as(RecordingError, f"{path} is not a recording"):
            root = self._open("", consolidated=False)
            self._inner = "" if "schema_version" in root.attrs or GROUP_V1 not in root else GROUP_V1
            self._group = self._open(self._inner, consolidated=False) if self._inner else root

    def _open(self, inner: str, *, consolidated: bool) -> zarr.Group:
        return zarr.open_group(self._path, path=inner, mode="r", use_consolidated=consolidated, zarr_format=3)

    def attributes(self) -> dict[str, Any]:
        """Attributes of the group."""
        return dict(self._group.attrs)

    def has(self, name: str) -> bool:
        """Tell whether there is an array of this name."""
        with damage_as(CorruptRecordingError, _damaged(name, self._path), _REMEDY):
            return name in self._group

    def small(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A small array as a whole."""
        stored: Any = self._group
        with damage_as(CorruptRecordingError, _damaged(name, self._path), _REMEDY):
            return np.asarray(stored[name][...], dtype).reshape(shape)

    def record(self, array: PlannedArray, position: Position, heads: list[int] | None, crc: int | None) -> np.ndarray:
        """One record through Zarr; to be compared with its checksum, it is read as a whole."""
        dtype = ShardFormat(array).dtype
        try:
            stored: Any = self._group[array.name]
            if heads is None or crc is not None:
                values = np.asarray(stored[position], dtype)
            else:  # one by one: Zarr takes fifty times as long for a list of them
                values = np.stack([np.asarray(stored[(*position, head)], dtype) for head in heads])
        except Exception as error:  # every Zarr codec and store raises its own kinds
            raise CorruptRecordingError(f"{array.name} cannot be read ({error})") from error
        if not array.name.startswith("text") and nan_in(values).any():
            raise CorruptRecordingError(f"{array.name} is missing, in whole or in part")
        if crc is None:
            return values
        _check(crc32c(values), crc, array.name)
        return values if heads is None else values[heads]

    def view(self, array: PlannedArray, position: Position, crc: int | None) -> np.ndarray:
        """One record, read as a whole."""
        return self.record(array, position, None, crc)

    def group(self, *, consolidated: bool = False) -> zarr.Group:
        """The group that has the arrays."""
        return self._open(self._inner, consolidated=consolidated)


def nan_in(values: np.ndarray) -> np.ndarray:
    """Tell for each stored value whether it is a NaN."""
    found: np.ndarray = bfloat16.is_nan(values) if values.dtype == np.uint16 else np.isnan(values)
    return found


def _attributes_in(folder: Path) -> dict[str, Any] | None:
    """Attributes of a group, None if there is no group."""
    file = folder / "zarr.json"
    if not file.is_file():
        return None
    with damage_as(
        CorruptRecordingError,
        f"the metadata {file} is damaged",
        Wording("Copy it again, or record again with {overwrite}.", overwrite=True),
    ):
        return dict(json.loads(file.read_bytes())["attributes"])


def _damaged(name: str, path: object) -> str:
    return f"the array {name!r} of {path} is damaged"


def _check(found: int, expected: int, name: str) -> None:
    if found != expected:
        raise CorruptRecordingError(f"the checksum of {name} is {found:#010x} instead of {expected:#010x}")


def read_latents(source: Source, position: int) -> np.ndarray | None:
    """The latents of a step, which a recording of format 1 may have; None when there are none."""
    try:
        stored: Any = source.group().get("latents")
        values = None if stored is None else np.asarray(stored[position])
    except Exception as error:  # a wrong crc32c raises a plain ValueError, stores their own kinds
        raise CorruptRecordingError(f"the latents cannot be read ({error})") from error
    return None if values is None or np.isnan(values).all() else values


def open_source(path: str | os.PathLike[str], memmap: bool | None) -> Source:
    """Memory maps for local paths by default, Zarr for URLs."""
    text = os.fspath(path)
    local = "://" not in text if memmap is None else memmap
    return LocalSource(Path(text)) if local else ZarrSource(text)


def write_attributes(path: Path, attributes: dict[str, Any], *, sync: bool = True) -> None:
    """Replace the attributes of a recording as a whole."""
    file = path / "zarr.json"
    document = json.loads(file.read_bytes())
    write_atomically(file, json.dumps({**document, "attributes": attributes}, indent=2).encode(), sync=sync)


def is_recording(path: Path) -> bool:
    """Tell whether a folder on this machine holds a recording, damaged or not, of any version."""
    try:
        root = _attributes_in(path)
    except CorruptRecordingError:
        root = None
    if root is None:  # its arrays tell what it was
        return (path / GROUP_V1 / "zarr.json").is_file() or all(
            (path / name / "zarr.json").is_file() for name in ("query", "key", "status")
        )
    return root.get("format") == FORMAT


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Raise for a path that is taken, unless by a recording that may be overwritten.

    Raises
    ------
    OutputExistsError, RecordingError
    """
    if not path.exists():
        return
    check_free(path, "recording", overwrite=overwrite, resume=False)
    empty = path.is_dir() and not any(path.iterdir())
    if not empty and not is_recording(path):
        raise RecordingError(f"{path} is not a recording and is not replaced. Remove it or choose another path.")


def check_space(path: Path, needed: int) -> None:
    """Raise for a recording that the disk cannot hold.

    Raises
    ------
    RecordingError
    """
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:  # a full disk now is the same failure as one that fills up later
        raise RecordingError(
            f"the recording needs {format_bytes(needed)}, {parent} has {format_bytes(free)} free. Free some space, "
            f"choose another path, or select fewer steps, layers or heads."
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
