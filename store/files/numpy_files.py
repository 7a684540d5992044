"""``.npy`` and ``.npz`` files, read without believing what their headers say."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from store.errors import UnsafePickleError
from store.files.digest import DIGEST, check_digest, digest_of_arrays

_COMPRESSED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes; others make gigabytes of a kilobyte
_MOST_DEFLATED = 1032  # bytes that one byte of deflate can decode to
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def save_npz(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write arrays and texts by name as a compressed npz, with their digest as the member ``ditprobe_digest``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_npz(f"{folder}/a.npz", {"points": np.zeros((3, 2)), "details": "{}"})
    ...     load_npz(f"{folder}/a.npz")["points"].shape
    (3, 2)
    """
    plain = {name: np.asarray(value) for name, value in arrays.items()}
    with Path(path).open("wb") as file:  # numpy would change the name of what ends in .NPZ
        np.savez_compressed(file, **plain, **{DIGEST: np.array(digest_of_arrays(plain))})  # type: ignore[arg-type]


def load_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Every array of an npz by name; its digest, where it has one, is checked and left out.

    Raises
    ------
    UnsafePickleError
        It holds pickled objects, which are not read.
    ValueError, OSError, zipfile.BadZipFile, ...
        Whatever a damaged file raises; for :func:`store.files.damaged.damage_as`.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not an npz file")
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _MOST_DEFLATED * os.stat(path).st_size:
            raise ValueError("its members are larger than they can be")
        for member in members:
            if member.compress_type not in _COMPRESSED:
                raise ValueError(f"{member.filename} is compressed in a way that numpy does not use")
            with archive.open(member) as file:
                arrays[member.filename.removesuffix(".npy")] = _read(path, file, member.file_size)
    check_digest(arrays.pop(DIGEST, None), digest_of_arrays(arrays))
    return arrays


def load_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of an npy file.

    Raises
    ------
    UnsafePickleError
        It holds pickled objects, which are not read.
    ValueError, OSError, ...
        Whatever a damaged file raises; for :func:`store.files.damaged.damage_as`.
    """
    with Path(path).open("rb") as file:
        return _read(path, file, os.stat(path).st_size)


def _read(path: str | os.PathLike[str], file: IO[bytes], size: int) -> np.ndarray:
    """An array that fills the rest of a file; numpy's own reader allocates what the header states first."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it is an npy file of version {version[0]}.{version[1]}")
    shape, fortran, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise UnsafePickleError(f"{os.fspath(path)} holds pickled objects and was not read. Save plain arrays.")
    declared, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared != there:
        raise ValueError(f"it has {there} bytes of values for a shape and dtype that need {declared}")
    content = bytearray(file.read(there))  # to the last byte, for zipfile to compare its checksum
    if len(content) != there or file.read(1):
        raise ValueError(f"it has {len(content)} bytes of values instead of {there}")
    if not declared:
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
