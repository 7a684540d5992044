"""A labelled flow on disk: ``.npz``, ``.nc`` or ``.zarr``."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyses.checkpoint import check_file
from analyses.plots_theme import need_dims
from store.errors import InvalidInputError, OutputExistsError, RecordingError, UnsafePickleError

SUFFIXES = (".npz", ".nc", ".zarr")
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
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(flow, partial)
        if path.is_dir():
            shutil.rmtree(path)  # a folder cannot be replaced in one step
        os.replace(partial, path)
    except OSError as error:
        raise RecordingError(f"the flow cannot be written to {path}: {error}.") from error
    finally:
        if partial.is_dir():  # after an error or Ctrl-C
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)
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
    suffix = _suffix_of(path, "is no file of a flow")
    if not path.exists():
        raise RecordingError(f"{path} holds no flow: it does not exist.")
    try:
        if suffix == ".npz":
            return _read_npz(path)
        if suffix == ".nc":
            return need_dims("flow", xr.load_dataset(path, engine="scipy")["flow"], _DIMS)
        with xr.open_zarr(path, consolidated=False, chunks=None) as opened:
            return need_dims("flow", opened["flow"].load(), _DIMS)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise UnsafePickleError(f"{path} holds pickled objects and was not read. Save plain arrays.") from error
        reason = str(error).partition("\n")[0].rstrip(".")
        raise RecordingError(f"{path} holds no flow, or it is damaged: {reason}.") from error


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
    path = Path(path)
    suffix = _suffix_of(path, "cannot be written")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists already. Choose another path for the flow, or pass overwrite=True.")
    if path.is_dir() and not _is_flow(path):
        raise OutputExistsError(f"{path} is a folder that holds no flow, so it is not replaced. Choose another path.")
    check_file(path.with_name(f".{path.name}.trial") if suffix == ".zarr" else path, f"flow{suffix}")


def _suffix_of(path: Path, problem: str) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInputError(
            f"{path} {problem}: a flow goes to a file ending in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}. "
            f"Name it {path.with_suffix('.npz') if path.name else 'flow.npz'}."
        )
    return suffix


def _is_flow(path: Path) -> bool:
    try:
        load_flow(path)
    except RecordingError:
        return False
    return True


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
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no npz file")
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        coords = {"image": ("frame", file["image"])} if "image" in file.files else {}
        attrs = {"long_name": "displacement", "units": "cells", "details": str(file["details"])}
        xy = np.array(["x", "y"], object)
        return xr.DataArray(file["flow"], {"xy": xy, **coords}, tuple(map(str, file["dims"])), "flow", attrs)
