"""One record of one array as one Zarr shard file: payload, constant index, crc32c of the index.

With the ``bytes`` codec alone, the inner chunks of a shard lie one after the other in C order, so the payload *is*
the C-order array: it is written with one call and read through a memory map.
"""

from __future__ import annotations

import errno
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from store.errors import CorruptRecordingError
from store.plan import PlannedArray

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_ALIGNMENT = 4096  # of address, length and place in the file: what any disk accepts for writes past the page cache
_LARGE = 1 << 20

# Leading dims of each array that are cut into inner chunks of one; the rest of the dims is whole in every chunk.
_CHUNKED_DIMS = {
    "query": ("head", "frame"),
    "key": ("head",),
    "text_query": ("head",),
    "text_key": ("head",),
    "features": ("frame",),
}


def crc32c(data: np.ndarray | bytes) -> int:
    """CRC-32C (Castagnoli) of the bytes of an array.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data).view()
        data.flags.writeable = False  # google_crc32c takes only buffers that nobody can change
    return int(google_crc32c.value(data))


def inner_chunk(array: PlannedArray) -> tuple[int, ...]:
    """Shape of the inner chunks of an array: those of a query are one head and frame, those of a key one head."""
    split = ("step", "branch", "layer", *_CHUNKED_DIMS[array.name])
    return tuple(1 if dim in split else size for dim, size in zip(array.dims, array.shape, strict=True))


@dataclass(frozen=True)
class ShardFormat:
    """How the shard files of one array look."""

    array: PlannedArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the payload."""
        return self.array.record_shape

    @property
    def payload_nbytes(self) -> int:
        """Bytes of the payload, which starts at byte 0."""
        return 2 * math.prod(self.shape)

    @cached_property
    def index(self) -> bytes:
        """What follows the payload: (offset, size) of every inner chunk as uint64, then their crc32c as uint32."""
        size = 2 * math.prod(inner_chunk(self.array))
        offsets = np.arange(0, self.payload_nbytes, size, dtype="<u8")
        table = np.stack([offsets, np.full_like(offsets, size)], axis=1).tobytes()
        return table + crc32c(table).to_bytes(4, "little")

    def path(self, group: Path, record: tuple[int, int, int]) -> Path:
        """The file of one record, by its position along step, branch and layer."""
        zeros = (0,) * len(self.shape)
        return group / self.array.name / ".".join(["c", *map(str, record + zeros)])

    def is_plausible(self, path: Path) -> bool:
        """Whether the file exists and has the right size (reads nothing)."""
        try:
            return path.stat().st_size == self.payload_nbytes + len(self.index)
        except OSError:
            return False

    def open(self, path: Path) -> np.ndarray:
        """The payload as a read-only memory map; its values are not checked.

        Raises
        ------
        CorruptRecordingError
            When the file is missing or is no whole shard; the message says only what is wrong with it.
        """
        if not path.is_file():
            raise CorruptRecordingError(f"the file {path.name} is missing")
        if not self.is_plausible(path):
            size, whole = path.stat().st_size, self.payload_nbytes + len(self.index)
            raise CorruptRecordingError(f"the file {path.name} has {size} bytes instead of {whole}")
        data = np.memmap(path, dtype=np.uint8, mode="r")
        if data[self.payload_nbytes :].tobytes() != self.index:
            raise CorruptRecordingError(f"the shard index in {path.name} is damaged")
        payload: np.ndarray = data[: self.payload_nbytes].view("<f2").reshape(self.shape)
        return payload


def aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
    """An empty float16 array at an address from which files can be written past the page cache."""
    nbytes = 2 * math.prod(shape)
    buffer = np.empty(nbytes + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    result: np.ndarray = buffer[start : start + nbytes].view("<f2").reshape(shape)
    return result


def write_whole(path: Path, *parts: bytes | np.ndarray, sync: bool = True) -> None:
    """Write a file so that it appears whole or not at all: ``<path>.partial``, fsync, rename."""
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        try:
            for part in parts:
                buffer: Any = part
                left = memoryview(buffer).cast("B")
                if sync and isinstance(part, np.ndarray) and part.ctypes.data % _ALIGNMENT == 0:
                    left = _write_directly(descriptor, left)
                while len(left):
                    left = left[os.write(descriptor, left) :]
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _write_directly(descriptor: int, data: memoryview) -> memoryview:
    """Write large data past the page cache, which would copy it once more; what is left over when that ends.

    Left over are the bytes after the last whole block, or everything where the system or its file system refuses.
    """
    if fcntl is None or not hasattr(os, "O_DIRECT") or len(data) < _LARGE:
        return data
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        while len(data) >= _ALIGNMENT:
            data = data[os.write(descriptor, data[: len(data) // _ALIGNMENT * _ALIGNMENT]) :]
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return data


def sync_folder(path: Path) -> None:
    """Make renames within a folder survive a power failure, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
