"""What arguments are replaced by: wrong types, wrong values of the right type, and damaged copies of what is right."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr


class _Anything:
    def __init__(self, *_: Any, **__: Any) -> None: ...


def _anything(*_: Any, **__: Any) -> None: ...


POOL: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "-1": lambda: -1,
    "0": lambda: 0,
    "-0.0": lambda: -0.0,
    "1": lambda: 1,
    "7": lambda: 7,
    "2.5": lambda: 2.5,
    "-2.5": lambda: -2.5,
    "1e-320": lambda: 1e-320,
    "1e308": lambda: 1e308,
    "10**6": lambda: 10**6,
    "10**12": lambda: 10**12,
    "10**400": lambda: 10**400,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "1j": lambda: 1j,
    "'x'": lambda: "x",
    "''": lambda: "",
    "'a NUL'": lambda: "a\0b",
    "bytes": lambda: b"x",
    "[]": list,
    "()": lambda: (),
    "[0]": lambda: [0],
    "[nan, 1.0]": lambda: [math.nan, 1.0],
    "(True, False)": lambda: (True, False),
    "['x', None]": lambda: ["x", None],
    "[[0, 1], [2]]": lambda: [[0, 1], [2]],
    "{}": dict,
    "{'x': 1}": lambda: {"x": 1},
    "{1: None}": lambda: {1: None},
    "set": lambda: {1, 2},
    "range(10**9)": lambda: range(10**9),
    "object()": object,
    "a class": lambda: _Anything,
    "a function": lambda: _anything,
    "a path": lambda: Path("nowhere/at.all"),
    "float()": lambda: np.float64(0.5),
    "0-d array": lambda: np.array(3),
    "empty array": lambda: np.zeros((0, 3)),
    "(2, 2) array": lambda: np.ones((2, 2)),
    "(2, 2) nan": lambda: np.full((2, 2), np.nan),
    "(3, 1, 2) array": lambda: np.ones((3, 1, 2)),
    "rank 7 array": lambda: np.ones((1, 2, 1, 2, 1, 2, 1)),
    "object array": lambda: np.array([None, "x"], object),
    "text array": lambda: np.array(["a", "b"]),
    "complex array": lambda: np.ones((2, 2), complex),
    "dates": lambda: np.array(["2026-01-01"], "datetime64[D]"),
    "masked array": lambda: np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[True, False], [False, False]]),
    "uint8 clip": lambda: np.zeros((3, 16, 16, 3), np.uint8),
    "tensor with grad": lambda: torch.ones(2, 2, requires_grad=True),
    "complex tensor": lambda: torch.ones(2, 2, dtype=torch.complex64),
    "sparse tensor": lambda: torch.eye(3).to_sparse(),
    "meta tensor": lambda: torch.ones(2, 2, device="meta"),
    "bfloat16 tensor": lambda: torch.ones(2, 3, dtype=torch.bfloat16),
    "DataArray of other dims": lambda: xr.DataArray(np.ones((2, 3)), dims=("mood", "colour"), name="odd"),
    "empty Dataset": xr.Dataset,
    "Dataset of other dims": lambda: xr.Dataset({"accuracy": (("mood",), [1.0])}, {"mood": ["good"]}),
}


def damaged(value: Any) -> list[tuple[str, Any]]:
    """Copies of a valid argument in which one thing is wrong, or only unusual."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows and renamed coordinates are what is wanted
        return list(_damaged(value))


def _damaged(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, np.ndarray):
        yield from _arrays(value)
    elif isinstance(value, torch.Tensor):
        yield from _tensors(value)
    elif isinstance(value, xr.DataArray):
        for name, values in _arrays(value.values):
            if isinstance(values, np.ndarray) and values.shape == value.shape:
                yield f"DataArray of {name}", value.copy(data=values)
        yield "other dims", value.rename({dim: f"{dim}_x" for dim in value.dims})
        yield "first dim gone", value.isel({value.dims[0]: 0}) if value.dims else value
        yield "first dim empty", value.isel({value.dims[0]: slice(0, 0)}) if value.dims else value
        yield "no coordinates", value.drop_vars(list(value.coords))
        yield "transposed", value.transpose(*value.dims[::-1])
        yield "other attributes", value.assign_attrs({name: object() for name in value.attrs} | {"units": 3})
    elif isinstance(value, xr.Dataset):
        for name in value.data_vars:
            yield f"without {name}", value.drop_vars(name)
            yield f"{name} nan", value.assign({name: xr.full_like(value[name], math.nan, float)})
            yield f"{name} text", value.assign({name: value[name].astype(str)})
        for dim in value.dims:
            yield f"without {dim}", value.isel({dim: 0}, drop=True)
            yield f"{dim} empty", value.isel({dim: slice(0, 0)})
            yield f"{dim} renamed", value.rename({dim: f"{dim}_x"})
        yield "no coordinates", value.drop_vars(list(value.coords))
        yield "no attributes", value.drop_attrs()
        yield "other attributes", value.assign_attrs(dict.fromkeys(value.attrs, "x"))
    elif isinstance(value, Mapping):
        for name, replaced in (("None", None), ("1", 1), ("'x'", "x"), ("nan", math.nan), ("object()", object())):
            yield f"values {name}", dict.fromkeys(value, replaced)
        yield "key 1", dict(enumerate(value.values()))
    elif isinstance(value, (list, tuple)) and value:
        for name, replaced in (("None", None), ("'x'", "x"), ("nan", math.nan), ("-1", -1), ("True", True)):
            yield f"items {name}", type(value)([replaced] * len(value)) if type(value) in (list, tuple) else replaced
        yield "one item", value[:1]
        yield "twice", value + value


def _arrays(value: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield "float64", value.astype(np.float64)
    yield "float16", value.astype(np.float16)
    yield "int64", value.astype(np.int64)
    yield "uint8", value.astype(np.uint8)
    yield "bool", value.astype(bool)
    yield "object", value.astype(object)
    yield "complex", value.astype(complex)
    yield "text", value.astype(str)
    yield "masked", np.ma.masked_array(value, np.arange(value.size).reshape(value.shape) == 0)
    yield "big-endian", value.astype(value.dtype.newbyteorder(">"))
    yield "backwards", value[::-1]
    yield "transposed", value.T
    yield "a list", value.tolist()
    yield "one axis more", value[None]
    if value.ndim:
        yield "one axis less", value[0]
        yield "empty", value[:0]
        yield "one shorter", value[:-1]
        yield "last axis empty", value[..., :0]
        yield "last axis cut", value[..., :1]
    if value.dtype.kind == "f":
        for name, number in (("nan", math.nan), ("inf", math.inf), ("1e308", 1e308), ("-1e9", -1e9)):
            yield f"one {name}", _with_first(value, number)
            yield f"all {name}", np.full(value.shape, number).astype(value.dtype)


def _with_first(value: np.ndarray, number: float) -> np.ndarray:
    copied = value.astype(np.float64)
    copied[(0,) * value.ndim if value.size else ...] = number
    return copied


def _tensors(value: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64):
        yield str(kind), value.to(kind)
    yield "one axis more", value[None]
    yield "an array", value.numpy()
    if value.ndim:
        yield "one axis less", value[0]
        yield "empty", value[:0]
        yield "one shorter", value[:-1]
        yield "last axis cut", value[..., :1]
        yield "transposed", value.permute(*range(value.ndim)[::-1])
        yield "sparse", value.to_sparse()
    if value.is_floating_point():
        yield "with grad", value.clone().requires_grad_()
        for name, number in (("nan", math.nan), ("inf", math.inf), ("1e38", 1e38)):
            yield f"all {name}", torch.full_like(value, number)
