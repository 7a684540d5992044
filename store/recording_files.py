"""Where a recording's bytes come from: files through memory maps, or anything that Zarr opens."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr

from store.errors import CorruptRecordingError, OutputExistsError, RecordingError
from store.files.damaged import damage_as
from store.plan import PlannedArray, format_bytes
from store.recording_schema import GROUP
from store.shards import ShardFormat, crc32c, write_whole

Position = tuple[int, int, int]


class Source(Protocol):
    """What a recording reads through."""

    def attributes(self) -> dict[str, Any]:
        """Attributes of the group."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is an array of this name, with whatever records."""
        ...

    def small(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A small array as a whole."""
        ...

    def record(self, array: PlannedArray, position: Position, heads: list[int] | None, crc: int | None) -> np.ndarray:
        """One record, or some of its heads, as a copy; checked against ``crc`` unless that is None."""
        ...

    def latents(self, position: int) -> np.ndarray | None:
        """The latents of a step, None when there are none."""
        ...


def check_arrays(source: Source, arrays: Iterable[PlannedArray], path: object) -> None:
    """Refuse a recording that lost a whole array; reads no record.

    Raises
    ------
    CorruptRecordingError
    """
    missing = [repr(array.name) for array in arrays if not source.has(array.name)]
    if missing:
        what = f"the array {missing[0]}" if len(missing) == 1 else f"the arrays {', '.join(missing)}"
        raise CorruptRecordingError(f"{what} of {path} {'is' if len(missing) == 1 else 'are'} missing. Copy it again.")


def positions(chosen: np.ndarray) -> list[Position]:
    """Where a (step, branch, layer) array of bools is true."""
    return [(int(step), int(branch), int(layer)) for step, branch, layer in np.argwhere(chosen)]


def small_path(group: Path, name: str, dims: int) -> Path:
    """The one chunk of a small array."""
    return group / name / ".".join(["c", *"0" * dims])


class LocalSource:
    """Files on this machine: no Zarr on the way."""

    def __init__(self, path: Path) -> None:
        self.group = path / GROUP

    def attributes(self) -> dict[str, Any]:
        """Attributes of the group."""
        file = self.group / "zarr.json"
        if not file.is_file():
            exists = "has no group 'attn'" if self.group.parent.exists() else "does not exist"
            raise RecordingError(f"{self.group.parent} is not a recording: it {exists}.")
        with damage_as(CorruptRecordingError, f"the metadata {file} is damaged"):
            attributes: dict[str, Any] = json.loads(file.read_bytes())["attributes"]
        return attributes

    def has(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return (self.group / name / "zarr.json").is_file()

    def small(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A small array as a whole."""
        file = small_path(self.group, name, len(shape))
        try:
            return np.frombuffer(file.read_bytes(), np.dtype(dtype)).reshape(shape).copy()
        except (OSError, ValueError) as error:
            raise CorruptRecordingError(f"the array {name!r} of {self.group.parent} is damaged: {error}.") from error

    def record(self, array: PlannedArray, position: Position, heads: list[int] | None, crc: int | None) -> np.ndarray:
        """One record through a memory map."""
        shard = ShardFormat(array)
        payload = shard.open(shard.path(self.group, position))
        if crc is not None:
            _check(crc32c(payload), crc, array.name)
        return np.array(payload if heads is None else payload[heads])

    def latents(self, position: int) -> np.ndarray | None:
        """The latents of a step."""
        return _zarr_latents(str(self.group.parent), position)


class ZarrSource:
    """Anything that Zarr opens, such as a URL. Checksums are checked when a whole record is read."""

    def __init__(self, path: str) -> None:
        self._path = path
        with damage_as(RecordingError, f"{path} is not a recording"):
            self._group = zarr.open_group(path, path=GROUP, mode="r", use_consolidated=False, zarr_format=3)

    def attributes(self) -> dict[str, Any]:
        """Attributes of the group."""
        return dict(self._group.attrs)

    def has(self, name: str) -> bool:
        """Whether there is an array of this name."""
        with damage_as(CorruptRecordingError, f"the metadata of the array {name!r} of {self._path} is damaged"):
            return name in self._group

    def small(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A small array as a whole."""
        stored: Any = self._group
        with damage_as(CorruptRecordingError, f"the array {name!r} of {self._path} is damaged"):
            return np.asarray(stored[name][...], dtype).reshape(shape)

    def record(self, array: PlannedArray, position: Position, heads: list[int] | None, crc: int | None) -> np.ndarray:
        """One record through Zarr."""
        stored: Any = self._group[array.name]
        try:
            if heads is None:
                values = np.asarray(stored[position], "<f2")
            else:  # one by one: Zarr takes fifty times as long for a list of them
                values = np.stack([np.asarray(stored[(*position, head)], "<f2") for head in heads])
        except Exception as error:  # every Zarr codec and store raises its own kinds
            raise CorruptRecordingError(f"{array.name} cannot be read ({error})") from error
        if not array.name.startswith("text") and np.isnan(values).any():
            raise CorruptRecordingError(f"{array.name} is missing, in whole or in part")
        if heads is None and crc is not None:
            _check(crc32c(values), crc, array.name)
        return values

    def latents(self, position: int) -> np.ndarray | None:
        """The latents of a step."""
        return _zarr_latents(self._path, position)


def _check(found: int, expected: int, name: str) -> None:
    if found != expected:
        raise CorruptRecordingError(f"the checksum of {name} is {found:#010x} instead of {expected:#010x}")


def _zarr_latents(path: str, position: int) -> np.ndarray | None:
    try:
        stored: Any = zarr.open_group(path, path=GROUP, mode="r", use_consolidated=False, zarr_format=3).get("latents")
        if stored is None:
            return None
        values = np.asarray(stored[position])
    except Exception as error:  # a wrong crc32c raises a plain ValueError, stores their own kinds
        raise CorruptRecordingError(f"the latents cannot be read ({error})") from error
    return None if np.isnan(values).all() else values


def open_source(path: str | os.PathLike[str], memmap: bool | None) -> Source:
    """Memory maps for paths of this machine unless told otherwise, Zarr for URLs."""
    text = os.fspath(path)
    local = "://" not in text if memmap is None else memmap
    return LocalSource(Path(text)) if local else ZarrSource(text)


def write_attributes(group: Path, attributes: dict[str, Any], *, sync: bool = True) -> None:
    """Replace the attributes of a group as a whole."""
    file = group / "zarr.json"
    document = json.loads(file.read_bytes())
    write_whole(file, json.dumps({**document, "attributes": attributes}, indent=2).encode(), sync=sync)


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that is taken, unless by a recording that may be overwritten.

    Raises
    ------
    OutputExistsError, RecordingError
    """
    if not path.exists():
        return
    if not overwrite:
        raise OutputExistsError(
            f"{path} exists already. Choose another path, or pass overwrite=True to replace it or "
            f"resume=True to complete it."
        )
    empty = path.is_dir() and not any(path.iterdir())
    if not empty and not (path / GROUP / "zarr.json").is_file():
        raise RecordingError(f"{path} is not a recording and is not replaced. Remove it or choose another path.")


def check_space(path: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    RecordingError
    """
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise RecordingError(
            f"the recording needs {format_bytes(needed)}, {parent} has {format_bytes(free)} free. Free some space, "
            f"choose another path, or select fewer steps, layers or heads."
        )
