"""Digests of what is in a file, so that a flipped bit is an error and never another number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

DIGEST = "ditprobe_digest"
"""The name under which a digest is stored: an attribute, a member or a key."""


def digest_of_arrays(arrays: Mapping[str, Any]) -> str:
    """SHA-256 of named arrays, in hexadecimal; a member called ``ditprobe_digest`` is left out.

    It is of the values, not of how they are stored: integers of every width are alike, texts of every kind, and bytes
    in either order. Floats of different widths differ.

    Examples
    --------
    >>> digest_of_arrays({"a": np.array([1, 2])}) == digest_of_arrays({"a": np.array([1, 2], "i2")})
    True
    >>> digest_of_arrays({"a": np.array([1, 2])}) == digest_of_arrays({"a": np.array([1, 3])})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(set(arrays) - {DIGEST}):
        _update(digest, name, np.asarray(arrays[name]))
    return digest.hexdigest()


def digest_of_dataset(dataset: xr.Dataset) -> str:
    """SHA-256 of every variable of a Dataset with its dims and attributes, as :func:`digest_of_arrays` has it.

    Examples
    --------
    >>> import xarray as xr
    >>> one = xr.Dataset({"a": ("clip", [1, 2], {"units": "px"})})
    >>> digest_of_dataset(one) == digest_of_dataset(one.assign_attrs(ditprobe_digest="ab"))
    True
    >>> digest_of_dataset(one) == digest_of_dataset(one.assign(a=one["a"].assign_attrs(units="cells")))
    False
    """
    digest = hashlib.sha256(_json({name: value for name, value in _plain(dataset.attrs).items() if name != DIGEST}))
    for name in sorted(dataset.variables, key=str):
        variable = dataset.variables[name]
        digest.update(_json([name in dataset.coords, list(map(str, variable.dims)), _plain(variable.attrs)]))
        _update(digest, str(name), np.asarray(variable.values))
    return digest.hexdigest()


def check_digest(stored: Any, found: str) -> None:
    """Refuse content that is not what was stored; what has no digest was written before there were any.

    Raises
    ------
    ValueError
        To be told as damage: :func:`store.files.damaged.damage_as`.

    Examples
    --------
    >>> check_digest(None, "ab")
    >>> check_digest("ab", "cd")
    Traceback (most recent call last):
    ...
    ValueError: its content differs from the digest that was stored with it (ditprobe_digest)
    """
    if stored is not None and str(stored) != found:
        raise ValueError(f"its content differs from the digest that was stored with it ({DIGEST})")


def digest_of_json(value: Any) -> str:
    """SHA-256 of a JSON value, in hexadecimal, whatever the order of its keys.

    Examples
    --------
    >>> digest_of_json({"a": 1, "b": 2}) == digest_of_json({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _update(digest: Any, name: str, values: np.ndarray) -> None:
    if values.dtype.kind in "OUT":
        digest.update(_json([name, "text", values.shape, values.astype(object).ravel().tolist()]))
        return
    kind = {"b": "bool", "i": "int", "u": "int"}.get(values.dtype.kind, values.dtype.name)
    plain = values.astype(np.int64 if kind == "int" else values.dtype.newbyteorder("<"), copy=False)
    digest.update(_json([name, kind, values.shape]))
    digest.update(np.ascontiguousarray(plain).reshape(-1).view(np.uint8))


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()


def _plain(value: Any) -> Any:
    """Attributes as every format gives them back: Python's own values, and a list of one value like that value."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return _plain(value[0]) if len(value) == 1 else [_plain(each) for each in value]
    return value
