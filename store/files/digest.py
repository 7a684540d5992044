"""Digests of what is in a file, so that a flipped bit is an error and never another number."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
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
    """Raise for content that is not what was stored; what has no digest was written before there were any.

    Raises
    ------
    ValueError
        To be reported as damage: :func:`store.files.damaged.damage_as`.

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
    """SHA-256 of a JSON value, in hexadecimal, whatever the order of its keys; other values count by their ``str``.

    Examples
    --------
    >>> digest_of_json({"a": 1, "b": 2}) == digest_of_json({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(_json(value)).hexdigest()


def digest_of_bytes(parts: Iterable[Any]) -> str:
    """SHA-256 of bytes that follow one another, in hexadecimal.

    Examples
    --------
    >>> digest_of_bytes([b"ab", b"c"]) == digest_of_bytes([b"abc"])
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def digest_of_text(text: str) -> str:
    """BLAKE2b of a text, as sixteen hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def digest_of_parts(*parts: Any) -> str:
    """BLAKE2b of arrays, texts and None in this order, with shapes and dtypes, as sixteen hexadecimal digits.

    Examples
    --------
    >>> digest_of_parts(np.zeros(2), "a") == digest_of_parts(np.zeros(3), "a")
    False
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if part is None or isinstance(part, str):
            digest.update(repr(part).encode())
        else:
            array = np.ascontiguousarray(part)
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)  # no copy of a whole video
    return digest.hexdigest()


def digest_of_value(value: Any) -> str:
    """Eight hexadecimal digits of a pipeline's argument: of the bytes of a tensor, an array or an image.

    Of a value without such content, its type.

    Examples
    --------
    >>> digest_of_value(np.zeros(2)) == digest_of_value(np.zeros(3)), digest_of_value(3) == digest_of_value(3.0)
    (False, False)
    """
    return digest_of_parts(*_parts(value))[:8]


def digests_of_values(values: Mapping[str, Any]) -> dict[str, str]:
    """:func:`digest_of_value` of each of a pipeline's arguments, by name.

    Examples
    --------
    >>> list(digests_of_values({"prompt_embeds": np.zeros(2), "guidance": 3.0}))
    ['guidance', 'prompt_embeds']
    """
    return {name: digest_of_value(value) for name, value in sorted(values.items())}


def _parts(value: Any) -> list[Any]:
    """Strings and arrays that represent a value."""
    torch: Any = sys.modules.get("torch")  # if it is not imported, nothing is a tensor
    if torch is not None and isinstance(value, torch.Tensor):
        # As bytes, since numpy has no bfloat16.
        whole = value.detach().cpu().contiguous()
        return [f"{whole.dtype}{tuple(whole.shape)}", whole.reshape(-1).view(torch.uint8).numpy()]
    if isinstance(value, Mapping):
        return [part for name in sorted(value, key=str) for part in (str(name), *_parts(value[name]))]
    if isinstance(value, list | tuple):
        return [f"{len(value)} items", *(part for item in value for part in _parts(item))]
    if value is None or isinstance(value, str | bytes | bool | int | float):
        return [repr(value)]
    if isinstance(value, np.ndarray) or hasattr(value, "__array_interface__"):
        return [np.asarray(value)]
    return [type(value).__qualname__]


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
