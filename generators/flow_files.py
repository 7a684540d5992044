"""A labelled flow on disk: ``.npz``, ``.nc`` or ``.zarr``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyses.array_files import ArrayFiles
from analyses.plots_theme import need_dims

_FILES = ArrayFiles("flow", "a flow goes", "no flow", "the flow")
_DIMS = ("frame", "frame_to", "y", "x", "xy")


def save_flow(flow: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a flow so that it appears whole or not at all.

    Parameters
    ----------
    flow : DataArray (frame, frame_to, y, x, xy), such as :func:`generators.amf.labelled_flow` makes
    path : path ending in .npz, .nc or .zarr
        An npz holds ``flow``, its ``dims``, ``image`` (frame) and ``details`` as JSON; the others hold the array with
        its coordinates and attributes.
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
    >>> from generators.amf import labelled_flow
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
        if suffix == ".npz":
            return _read_npz(path)
        if suffix == ".nc":
            return need_dims("flow", xr.load_dataset(path, engine="scipy")["flow"], _DIMS)
        with xr.open_zarr(path, consolidated=False, chunks=None) as opened:
            return need_dims("flow", opened["flow"].load(), _DIMS)


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
    suffix = path.suffix.lower()
    if suffix == ".npz":
        arrays: dict[str, Any] = {"flow": flow.values, "dims": np.array(flow.dims)}
        if "image" in flow.coords:
            arrays["image"] = flow["image"].values
        with path.open("wb") as file:  # numpy would change the name of what ends in .NPZ
            np.savez_compressed(file, details=np.array(str(flow.attrs.get("details", "{}"))), **arrays)
    elif suffix == ".nc":
        flow.to_dataset(name="flow").to_netcdf(path, engine="scipy")
    else:
        flow.to_dataset(name="flow").to_zarr(path, mode="w", consolidated=False)


def _read_npz(path: Path) -> xr.DataArray:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        coords = {"image": ("frame", file["image"])} if "image" in file.files else {}
        attrs = {"long_name": "displacement", "units": "cells", "details": str(file["details"])}
        xy = np.array(["x", "y"], object)
        return xr.DataArray(file["flow"], {"xy": xy, **coords}, tuple(map(str, file["dims"])), "flow", attrs)
