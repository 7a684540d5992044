"""Attention masses of heads on disk: one netCDF file."""

from __future__ import annotations

import os
from pathlib import Path

import xarray as xr

from analyses.layers.sweep_files import read_dataset, write_dataset
from store.arguments import checked
from store.errors import InvalidInputError
from store.files.outputs import OutputFile

_FILE = OutputFile("sweep of heads", "heads.nc", (".nc",))


@checked
def save_heads(masses: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write what :func:`analyses.heads.sweep.sweep_heads` measured as one netCDF file, atomically.

    Parameters
    ----------
    masses : Dataset of :func:`analyses.heads.sweep.sweep_heads`
    path : path ending in .nc
    overwrite : replace what is there

    Returns
    -------
    Path of the file.

    Raises
    ------
    InvalidInputError
        For a dataset without masses, or another suffix.
    OutputExistsError, RecordingError
        When something is there, or it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> masses = xr.Dataset({"mass": ("head", [0.5])}, attrs={"seed": 3})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_heads(save_heads(masses, f"{folder}/heads.nc")).attrs
    {'seed': 3}
    """
    if "mass" not in masses.data_vars:
        raise InvalidInputError("masses has no variable mass: pass what sweep_heads returns.")
    path = Path(path)
    check_heads_path(path, overwrite=overwrite)
    write_dataset(_FILE, masses, path)
    return path


@checked
def load_heads(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read what :func:`save_heads` wrote.

    Raises
    ------
    RecordingError
        When there is no such file, it is damaged, or it holds something else.

    Examples
    --------
    >>> load_heads("nowhere.nc")
    Traceback (most recent call last):
    ...
    store.errors.RecordingError: nowhere.nc holds no sweep of heads: it does not exist.
    """
    path = Path(path)
    found = read_dataset(_FILE, path)
    with _FILE.reading(path):
        if "mass" not in found.data_vars:
            raise ValueError(f"it holds {', '.join(map(str, found.data_vars)) or 'nothing'}")
    return found


def check_heads_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Validate the path of a sweep of heads before a model runs."""
    _FILE.check(path, overwrite=overwrite)
