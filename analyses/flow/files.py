"""A labelled flow on disk: ``.npz``, ``.nc`` or ``.zarr``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyses.arrays import need_dims
from store.arguments import checked
from store.files.labelled import LabelledFile

_DIMS = ("frame", "frame_to", "y", "x", "xy")


@checked
def save_flow(flow: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a flow to a file, atomically.

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
    return _FILES.save(need_dims("flow", flow, _DIMS), path, overwrite=overwrite)


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
    return _FILES.load(path)


def check_flow_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise for a path to which no flow can be written, before any work that would be lost.

    Raises
    ------
    InvalidInputError
        For a suffix other than .npz, .nc and .zarr.
    OutputExistsError
        When something is there and ``overwrite`` is False. A folder is replaced only where it holds a flow.
    RecordingError
        When the operating system does not allow it.

    Examples
    --------
    >>> check_flow_path("flow.csv")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: flow.csv cannot hold the flow: its suffix must be .npz, .nc or .zarr. Name it flow.npz.
    """  # noqa: E501
    _FILES.check(path, overwrite=overwrite)


def _to_arrays(flow: xr.DataArray) -> dict[str, Any]:
    arrays: dict[str, Any] = {"flow": flow.values, "dims": np.array(flow.dims)}
    if "image" in flow.coords:
        arrays["image"] = flow["image"].values
    return {**arrays, "details": str(flow.attrs.get("details", "{}"))}


def _from_arrays(found: Mapping[str, Any]) -> xr.DataArray:
    coords = {"image": ("frame", found["image"])} if "image" in found else {}
    attrs = {"long_name": "displacement", "units": "cells", "details": str(found["details"])}
    xy = np.array(["x", "y"], object)
    dims = tuple(map(str, found["dims"]))
    return need_dims("flow", xr.DataArray(found["flow"], {"xy": xy, **coords}, dims, "flow", attrs), _DIMS)


def _from_dataset(found: xr.Dataset) -> xr.DataArray:
    return need_dims("flow", found["flow"], _DIMS)


def _to_dataset(flow: xr.DataArray) -> xr.Dataset:
    return flow.to_dataset(name="flow")


_FILES = LabelledFile[xr.DataArray](
    "flow", to_arrays=_to_arrays, from_arrays=_from_arrays, to_dataset=_to_dataset, from_dataset=_from_dataset
)
