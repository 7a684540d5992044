"""Files that appear at their path complete, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

ALIGNMENT = 4096
"""Bytes: of address, length and place in the file, what any disk accepts for writes past the page cache."""

_LARGE = 1 << 20


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Temporary path next to ``path``, with the same suffix, that replaces it at the end if it was written.

    A folder at ``path`` is replaced by a folder. After an error, or when the program is interrupted, nothing is left
    of the new one and the old one is as it was.

    Raises
    ------
    OSError
        As the system gives it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder, "deep/er/notes.txt")) as partial:
    ...         _ = partial.write_text("whole")
    ...     [file.name for file in Path(folder, "deep/er").iterdir()]
    ['notes.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path, path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")) as partial:
        yield partial


def write_atomically(
    path: Path,
    *parts: bytes | np.ndarray,
    sync: bool = True,
    length: int | None = None,
    held: list[int] | None = None,
) -> None:
    """Write bytes and arrays one after the other: ``<path>.partial``, fsync, rename.

    Parameters
    ----------
    path : in a folder that exists
    parts : a large array that comes first, at an address from :func:`aligned_empty`, is written past the page cache
    sync : survive a power failure too, not only the end of the process
    length : bytes of the file where the parts hold more, such as the rest of a block; by default all of them
    held : takes the open descriptor of the file, which the caller syncs and closes later (:func:`sync_all`): several
        files at once take less time than one after the other

    Raises
    ------
    OSError
        As the system gives it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "a.bin"), b"ab", np.array([99], np.uint8))
    ...     Path(folder, "a.bin").read_bytes()
    b'abc'
    """
    with _replacing(path, path.with_name(f"{path.name}.partial")) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        keep = sync and held is not None and fcntl is not None  # without it, an open file cannot be renamed
        try:
            buffers: Any = parts
            left = [memoryview(buffer).cast("B") for buffer in buffers]
            if sync and parts and isinstance(parts[0], np.ndarray) and parts[0].ctypes.data % ALIGNMENT == 0:
                left = _write_directly(descriptor, left)
            for data in left:
                while len(data):
                    data = data[os.write(descriptor, data) :]
            if length is not None:
                os.ftruncate(descriptor, length)
            if sync and not keep:
                os.fsync(descriptor)
        except BaseException:
            keep = False
            raise
        finally:
            if not keep:
                os.close(descriptor)
    if keep and held is not None:
        held.append(descriptor)


def sync_all(descriptors: list[int]) -> None:
    """Make files survive a power failure, and close and forget them, whatever happens.

    Raises
    ------
    OSError
        As the system gives it, after the others were closed.
    """
    try:
        for descriptor in descriptors:
            os.fsync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        descriptors.clear()


@contextmanager
def _replacing(path: Path, partial: Path) -> Iterator[Path]:
    try:
        yield partial
        if partial.exists():
            if path.is_dir():
                shutil.rmtree(path)  # a folder cannot be replaced in one step
            os.replace(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def _write_directly(descriptor: int, parts: list[memoryview]) -> list[memoryview]:
    """Write past the page cache, which would copy everything once more; return what is left to write.

    The first part goes as it is, but for the bytes after its last whole block. Those and all other parts, where they
    are small, go as one more block, whose end is cut off again. What the operating or file system does not allow is
    left.
    """
    first, *others = parts
    if fcntl is None or not hasattr(os, "O_DIRECT") or len(first) < _LARGE:
        return parts
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        while len(first) >= ALIGNMENT:
            first = first[os.write(descriptor, first[: len(first) // ALIGNMENT * ALIGNMENT]) :]
        rest = b"".join((first, *others))
        if not rest:
            return []
        if len(rest) < _LARGE:
            start = os.lseek(descriptor, 0, os.SEEK_CUR)
            written = os.write(descriptor, _padded(rest))
            os.ftruncate(descriptor, start + min(written, len(rest)))
            return [memoryview(rest)[written:]]
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return [first, *others]


def _padded(data: bytes) -> memoryview:
    """Whole blocks at an aligned address that begin with data."""
    blocks: Any = aligned_empty((-(-len(data) // ALIGNMENT) * ALIGNMENT // 2,)).view(np.uint8)
    blocks[: len(data)] = np.frombuffer(data, np.uint8)
    blocks[len(data) :] = 0
    return memoryview(blocks)


def aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
    """Empty float16 array at an address from which files can be written past the page cache."""
    nbytes = 2 * int(np.prod(shape, dtype=np.int64))
    buffer = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    result: np.ndarray = buffer[start : start + nbytes].view("<f2").reshape(shape)
    return result


def sync_folder(path: Path) -> None:
    """Make renames within a folder survive a power failure, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
