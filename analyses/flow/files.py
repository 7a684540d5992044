"""A labelled flow on disk: ``.npz``, ``.nc`` or ``.zarr``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyses.arrays import need_dims
from store.arguments import checked
from store.files.labelled import ArrayFiles, load_dataset, save_dataset
from store.files.numpy_files import load_npz, save_npz

_FILES = ArrayFiles("flow", "a flow goes", "no flow", "the flow")
_DIMS = ("frame", "frame_to", "y", "x", "xy")


@checked
def save_flow(flow: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a flow so that it appears whole or not at all.

    Parameters
    ----------
    flow : DataArray (frame, frame_to, y, x, xy), such as :func:`analyses.flow.attention_flow.labelled_flow` makes
    path : path ending in .npz, .nc or .zarr
        An npz holds ``flow``, its ``dims``, ``image`` (frame) and ``details`` as JSON; the others hold the array with
        its coordinates and attributes. All hold the digest of their values, which :func:`load_flow` checks.
    overwrite : replace a flow that is there

    Returns
    -------
    Path of the flow.

    Raises
    ------
    InvalidInputError
        For other dims or another suffix.
    OutputExistsError, RecordingError
        As :func:`check_flow_path`.

    Examples
    --------
    >>> import tempfile
    >>> from analyses.flow.attention_flow import labelled_flow
    >>> from store.layout import TokenLayout
    >>> flow = labelled_flow(np.zeros((3, 3, 5, 7, 2)), TokenLayout(3, 5, 7, 80, 112, 9))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_flow(save_flow(flow, f"{folder}/flow.npz")).identical(flow)
    True
    """
    path = Path(path)
    flow = need_dims("flow", flow, _DIMS)
    check_flow_path(path, overwrite=overwrite)
    with _FILES.writing(path) as partial:
        _write(flow, partial)
    return path


@checked
def load_flow(path: str | os.PathLike[str]) -> xr.DataArray:
    """A flow that :func:`save_flow` wrote.

    Raises
    ------
    InvalidInputError
        For another suffix.
    RecordingError
        When there is no flow at that path, or it is damaged.
    UnsafePickleError
        For an npz with pickled objects, which are not read.

    Examples
    --------
    >>> load_flow("nowhere.npz")
    Traceback (most recent call last):
    ...
    store.errors.RecordingError: nowhere.npz holds no flow: it does not exist.
    """
    path = Path(path)
    with _FILES.reading(path) as suffix:
        found = _read_npz(path) if suffix == ".npz" else load_dataset(path)["flow"]
        return need_dims("flow", found, _DIMS)


def check_flow_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a path that no flow can be written to, before the work that would be lost.

    Raises
    ------
    InvalidInputError
        For a suffix other than .npz, .nc and .zarr.
    OutputExistsError
        When something is there and ``overwrite`` is False. A folder is replaced only where it holds a flow.
    RecordingError
        Where the system refuses.

    Examples
    --------
    >>> check_flow_path("flow.csv")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: flow.csv cannot be written: a flow goes to a file ending in .npz, .nc or .zarr. Name it flow.npz.
    """  # noqa: E501
    _FILES.check(Path(path), load_flow, overwrite=overwrite)


def _write(flow: xr.DataArray, path: Path) -> None:
    if path.suffix.lower() != ".npz":
        save_dataset(flow.to_dataset(name="flow"), path)
        return
    arrays: dict[str, Any] = {"flow": flow.values, "dims": np.array(flow.dims)}
    if "image" in flow.coords:
        arrays["image"] = flow["image"].values
    save_npz(path, {**arrays, "details": str(flow.attrs.get("details", "{}"))})


def _read_npz(path: Path) -> xr.DataArray:
    found = load_npz(path)
    coords = {"image": ("frame", found["image"])} if "image" in found else {}
    attrs = {"long_name": "displacement", "units": "cells", "details": str(found["details"])}
    xy = np.array(["x", "y"], object)
    return xr.DataArray(found["flow"], {"xy": xy, **coords}, tuple(map(str, found["dims"])), "flow", attrs)
