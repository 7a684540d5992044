"""Sweeps on disk: one netCDF file, replaced whole after each finished clip."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from store.arguments import checked
from store.files.labelled import load_netcdf, save_netcdf
from store.files.outputs import OutputFile

SWEEP_FILE = OutputFile("sweep", "sweep.nc")
_ENCODED = "json_attributes"


@checked
def save_sweep(dataset: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a sweep as one netCDF file, in one step: a reader sees the old file or the new one.

    Parameters
    ----------
    dataset : Dataset of :func:`analyses.layers.sweep.sweep`
    path : file, usually with the suffix ``.nc``

    Raises
    ------
    RecordingError
        When it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_sweep(xr.Dataset({"accuracy": ("clip", [50.0])}, attrs={"sizes": [1, 2]}), folder + "/sweep.nc")
    ...     load_sweep(folder + "/sweep.nc").attrs
    {'sizes': [1, 2]}
    """
    write_dataset(SWEEP_FILE, dataset, Path(path))


@checked
def load_sweep(path: str | os.PathLike[str]) -> xr.Dataset:
    """A sweep that :func:`save_sweep` wrote.

    Raises
    ------
    RecordingError
        When there is no sweep at that path.

    Examples
    --------
    >>> load_sweep("nowhere.nc")
    Traceback (most recent call last):
    ...
    store.errors.RecordingError: nowhere.nc holds no sweep: it does not exist.
    """
    return read_dataset(SWEEP_FILE, Path(path))


def write_dataset(kind: OutputFile, dataset: xr.Dataset, path: Path) -> None:
    """Write a Dataset whose attributes are values of JSON as one netCDF file, atomically."""
    # The stored length of names may be too short for names added later.
    flat = dataset.drop_encoding()
    flat.attrs = _flat(dataset.attrs)
    with kind.writing(path) as partial:
        save_netcdf(flat, partial)


def read_dataset(kind: OutputFile, path: Path) -> xr.Dataset:
    """Read a Dataset that :func:`write_dataset` wrote."""
    with kind.reading(path):
        dataset = load_netcdf(path).drop_encoding()
        encoded = json.loads(dataset.attrs.pop(_ENCODED))
        dataset.attrs |= {name: json.loads(dataset.attrs[name]) for name in encoded}
    return dataset


def _flat(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as netCDF takes them: values that are not strings become JSON and are listed."""
    encoded = [name for name, value in attrs.items() if not isinstance(value, str)]
    flat = {name: json.dumps(value) if name in encoded else value for name, value in attrs.items()}
    return {**flat, _ENCODED: json.dumps(encoded)}


def check_output(path: str | os.PathLike[str], *, resume: bool = False, overwrite: bool = False) -> None:
    """Validate the path of a sweep; see :meth:`store.files.outputs.OutputFile.check`."""
    SWEEP_FILE.check(path, overwrite=overwrite, resume=resume)
