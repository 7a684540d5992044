"""Pickles of plain arrays, read without running anything that they ask for.

A pickle is a list of instructions, and one of them is "import this name and call it". Here every name that numpy
writes for plain arrays is answered with a stand-in of this module, and any other name is rejected. Not even numpy's own
unpickling would act on the file before it is checked: a forged dtype would let it take bytes for pointers.
:mod:`store.datasets.pickle_scan` goes through the instructions first, and no array shares memory that they can still
change.
"""

from __future__ import annotations

import math
import mmap
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from store.datasets.pickle_scan import Refused, scan_pickle
from store.errors import ClipError, UnsafePickleError
from store.files.damaged import damage_as, shown
from store.files.trailer import has_changed

_DTYPES = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU][1-9]\d{0,8})")
_BYTE_ORDERS = ("<", ">", "=", "|")
_NO_DTYPE = "it holds an array whose dtype is not named"
_MOST_DIMS, _LARGEST = 32, 1 << 63


def load_array_pickle(path: str | os.PathLike[str]) -> Any:
    """Load a pickle of arrays: dicts, lists, tuples, strings, bytes, numbers and numpy arrays.

    Parameters
    ----------
    path : path of a pickle of protocol 0 to 5, as numpy from 1.16 on writes it

    Returns
    -------
    Any
        Arrays hold bools, numbers or fixed-length strings, and are read-only. The whole file is in memory.

    Raises
    ------
    ClipError
        No such file, a truncated or damaged one, an array whose bytes do not fit its shape, or instructions that ask
        for more than such a file can hold: more than a million of them, values nested over 50 deep.
    UnsafePickleError
        The file asks for anything but arrays, or for arrays of Python objects; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "arrays.pkl")
    ...     _ = path.write_bytes(pickle.dumps({"points": np.zeros((3, 2), np.float32)}))
    ...     load_array_pickle(path)["points"].shape
    (3, 2)
    """
    path = Path(path)
    if not path.is_file():
        raise ClipError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; a pickle file is needed.")
    with damage_as(ClipError, f"{path} is damaged or no pickle of arrays", "Get it again."):
        try:
            with path.open("rb") as file:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    scan_pickle(content, _check_name)
                if has_changed(path):
                    raise ValueError("its content differs from the digest at its end")
                return _ArrayUnpickler(file).load()
        except Refused as error:
            raise UnsafePickleError(
                f"{path} asks for {error}, which no TAP-Vid file needs; nothing was run."
            ) from error


class _StandIn:
    """Stand-in for a name that a file asks for: it can be called, and nothing can be set on it."""

    __slots__ = ("_build",)
    _build: Callable[..., Any]

    def __init__(self, build: Callable[..., Any]) -> None:
        object.__setattr__(self, "_build", build)

    def __call__(self, *arguments: Any) -> Any:
        return self._build(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"nothing can be set here, not even {name}")


class _Dtype:
    """A dtype of plain numbers or fixed-length strings, its byte order set by the state that follows in the file."""

    __slots__ = ("value",)

    def __init__(self, code: Any, *_: Any) -> None:
        if isinstance(code, str) and code.lstrip("<>=|").startswith("O"):
            raise Refused("an array of Python objects")
        if not isinstance(code, str) or not _DTYPES.fullmatch(code):
            raise ValueError(f"it holds an array of dtype {shown(code)!r}" if isinstance(code, str) else _NO_DTYPE)
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in _BYTE_ORDERS:
            raise ValueError(f"the dtype {self.value} has the state of another kind of dtype")
        if any(part is not None for part in state[2:5]):
            raise ValueError(f"the dtype {self.value} has fields")
        self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array that is empty until the file gives its state, once."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if self.size or not isinstance(raw, bytes):
            raise ValueError("an array's bytes are missing or given twice")
        value = _array(raw, dtype, shape).dtype
        super().__setstate__((1, shape, value, bool(fortran), raw))  # type: ignore[arg-type]
        self.flags.writeable = False  # of large arrays numpy takes the bytes themselves, which others may hold


def _array(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """A view of bytes as an array, after a look at everything that describes it."""
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise ValueError("an array is described by something other than bytes, a dtype and a shape")
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMS or not all(type(size) is int for size in shape):
        raise ValueError("an array has a shape that is not a few whole numbers")
    if any(abs(size) >= _LARGEST for size in shape):
        raise ValueError("an array has a shape that no array can have")
    if any(size < 0 for size in shape):
        raise ValueError(f"an array has the shape {shape}")
    if math.prod(shape) * dtype.value.itemsize != len(raw):
        raise ValueError(f"an array of shape {shape} and dtype {dtype.value} has {len(raw)} bytes")
    values = np.frombuffer(raw, dtype.value) if len(raw) else np.empty(0, dtype.value)
    values.flags.writeable = False  # and it holds the buffer: a bytearray can no longer grow and move
    return values.reshape(shape, order=order)


def _new_array(shape: Any, code: Any, raw: Any) -> np.ndarray:
    return _array(raw, _Dtype(code), shape)


def _reconstruct(kind: Any, *_: Any) -> np.ndarray:
    if kind is not _NDARRAY:
        raise ValueError("an array is of another kind than numpy.ndarray")
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    if order == "K":
        return _array(raw, dtype, shape).transpose(axes)
    return _array(raw, dtype, shape, order)


def _scalar(dtype: Any, raw: Any) -> Any:
    return _array(raw, dtype, ())[()]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes are written in an unknown way")
    return text.encode("latin1")


def _bytes(raw: Any = b"", *encoding: Any) -> bytes:
    if isinstance(raw, bytes) and not encoding:
        return raw
    return _encode(raw, *encoding)


def _mapping(*arguments: Any) -> dict[Any, Any]:
    if arguments:
        raise ValueError("a dict is written in an unknown way")
    return {}


_NDARRAY = _StandIn(_new_array)
_BY_NUMPY_MODULE = {
    "multiarray": {"_reconstruct": _StandIn(_reconstruct), "scalar": _StandIn(_scalar)},
    "numeric": {"_frombuffer": _StandIn(_frombuffer)},
}
_ALLOWED: dict[tuple[str, str], _StandIn] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _StandIn(_Dtype),
    ("_codecs", "encode"): _StandIn(_encode),
    ("builtins", "bytes"): _StandIn(_bytes),
    ("builtins", "bytearray"): _StandIn(_bytes),
    ("__builtin__", "bytes"): _StandIn(_bytes),
    ("__builtin__", "bytearray"): _StandIn(_bytes),
    ("collections", "OrderedDict"): _StandIn(_mapping),
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    for _module, _names in _BY_NUMPY_MODULE.items():
        _ALLOWED |= {(f"{_core}.{_module}", _name): _stand_in for _name, _stand_in in _names.items()}


def _check_name(module: str, name: str) -> None:
    if (module, name) not in _ALLOWED:
        raise Refused(f"{shown(module)}.{shown(name)}")


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the names of plain arrays and no others; never imports."""

    def find_class(self, module: str, name: str) -> Any:
        _check_name(module, name)
        return _ALLOWED[module, name]

    def persistent_load(self, name: Any) -> Any:
        raise Refused("an outside object")
