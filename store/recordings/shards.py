"""One record of one array as one Zarr shard file: payload, constant index, crc32c of the index.

With the ``bytes`` codec alone, the inner chunks of a shard lie one after the other in C order, so the payload *is*
the C-order array: it is written with one call and read through a memory map.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from store.errors import CorruptRecordingError
from store.files.atomic import ALIGNMENT, aligned_empty
from store.plan import PlannedArray

Allocate = Callable[[tuple[int, ...]], np.ndarray]
"""Makes empty float16 arrays of a shape at an aligned address."""

# Leading dims of each array that are cut into inner chunks of one; the rest of the dims is whole in every chunk.
_CHUNKED_DIMS = {
    "query": ("head", "frame"),
    "key": ("head",),
    "value": ("head",),
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
        data.flags.writeable = False  # google_crc32c takes only read-only buffers
    return int(google_crc32c.value(data))


def inner_chunk(array: PlannedArray) -> tuple[int, ...]:
    """Shape of the inner chunks of an array: those of a query are one head and frame, those of a key one head."""
    split = ("step", "branch", "layer", *_CHUNKED_DIMS[array.name])
    return tuple(1 if dim in split else size for dim, size in zip(array.dims, array.shape, strict=True))


@dataclass(frozen=True)
class Slab:
    """Memory of one shard file, in whole blocks, so that it is written with one call.

    Parameters
    ----------
    payload : array
        What is recorded, at the start.
    blocks : uint8 array
        Payload, index and zeros to the end of the last block.
    nbytes : int
        Of the file: payload and index.
    """

    payload: np.ndarray
    blocks: np.ndarray
    nbytes: int


@dataclass(frozen=True)
class ShardFormat:
    """Layout of the shard files of one array."""

    array: PlannedArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the payload."""
        return self.array.record_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the payload, little endian: bfloat16 is stored by its bits, as uint16."""
        return np.dtype(self.array.stored_as).newbyteorder("<")

    @property
    def payload_nbytes(self) -> int:
        """Bytes of the payload, which starts at byte 0."""
        return 2 * math.prod(self.shape)

    @cached_property
    def index(self) -> bytes:
        """Bytes that follow the payload: (offset, size) of every inner chunk as uint64, then their crc32c as uint32."""
        size = 2 * math.prod(inner_chunk(self.array))
        offsets = np.arange(0, self.payload_nbytes, size, dtype="<u8")
        table = np.stack([offsets, np.full_like(offsets, size)], axis=1).tobytes()
        return table + crc32c(table).to_bytes(4, "little")

    def slab(self, allocate: Allocate = aligned_empty) -> Slab:
        """Memory of one file, its index in place."""
        nbytes = self.payload_nbytes + len(self.index)
        blocks = allocate((-(-nbytes // ALIGNMENT) * ALIGNMENT // 2,)).view(np.uint8)
        blocks[self.payload_nbytes : nbytes] = np.frombuffer(self.index, np.uint8)
        blocks[nbytes:] = 0
        payload = blocks[: self.payload_nbytes].view(self.dtype).reshape(self.shape)
        return Slab(payload, blocks, nbytes)

    def path(self, group: Path, record: tuple[int, int, int]) -> Path:
        """The file of one record, by its position along step, branch and layer."""
        zeros = (0,) * len(self.shape)
        return group / self.array.name / ".".join(["c", *map(str, record + zeros)])

    def is_plausible(self, path: Path) -> bool:
        """Tell whether the file exists and has the right size (reads nothing)."""
        try:
            return path.stat().st_size == self.payload_nbytes + len(self.index)
        except OSError:
            return False

    def open(self, path: Path) -> np.ndarray:
        """The payload as a read-only memory map, bfloat16 by its bits; its values are not checked.

        Raises
        ------
        CorruptRecordingError
            When the file is missing or is not a whole shard; the message says only what is wrong with it.
        """
        if not path.is_file():
            raise CorruptRecordingError(f"the file {path.name} is missing")
        if not self.is_plausible(path):
            size, whole = path.stat().st_size, self.payload_nbytes + len(self.index)
            raise CorruptRecordingError(f"the file {path.name} has {size} bytes instead of {whole}")
        data = np.memmap(path, dtype=np.uint8, mode="r")
        if data[self.payload_nbytes :].tobytes() != self.index:
            raise CorruptRecordingError(f"the shard index in {path.name} is damaged")
        payload: np.ndarray = data[: self.payload_nbytes].view(self.dtype).reshape(self.shape)
        return payload
