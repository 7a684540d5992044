"""Point tracks on disk: ``.npz``, ``.nc`` or ``.zarr``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyses.array_files import ArrayFiles
from analyses.point_tracks import PointTracks
from store.errors import InvalidInputError

_FILES = ArrayFiles("tracks", "tracks go", "no tracks", "the tracks")
_ARRAYS = ("tracks", "visibility", "confidence", "queries")


def save_tracks(tracks: PointTracks, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write tracks so that they appear whole or not at all.

    Parameters
    ----------
    tracks : PointTracks
    path : path ending in .npz, .nc or .zarr
        An npz holds ``tracks`` (image, point, 2), ``visibility`` and ``confidence`` (image, point), ``queries``
        (point, 3) and ``details`` as JSON; the others hold :meth:`analyses.point_tracks.PointTracks.to_dataset`.
    overwrite : replace tracks that are there

    Returns
    -------
    Path of the tracks.

    Raises
    ------
    InvalidInputError
        For another suffix, and for no points at all in a .nc.
    OutputExistsError
        As :func:`check_tracks_path`.
    RecordingError
        When it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> tracks = PointTracks.still(np.array([[2, 10.0, 20.0]]), 9)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_tracks(save_tracks(tracks, f"{folder}/still.npz"))
    PointTracks(1 point in 9 images, 100 % visible)
    """
    path = Path(path)
    check_tracks_path(path, overwrite=overwrite)
    if path.suffix.lower() == ".nc" and 0 in tracks.visibility.shape:
        raise InvalidInputError(
            f"{path} cannot be written: netCDF 3 holds no empty arrays, and there are no points. "
            f"Name it {path.with_suffix('.npz')}."
        )
    with _FILES.writing(path) as partial:
        _write(tracks, partial)
    return path


def load_tracks(path: str | os.PathLike[str]) -> PointTracks:
    """Tracks that :func:`save_tracks` wrote.

    Raises
    ------
    InvalidInputError
        For another suffix.
    RecordingError
        When there are no tracks at that path, or they are damaged.
    UnsafePickleError
        For an npz with pickled objects, which are not read.

    Examples
    --------
    >>> load_tracks("nowhere.npz")
    Traceback (most recent call last):
    ...
    store.errors.RecordingError: nowhere.npz holds no tracks: it does not exist.
    """
    path = Path(path)
    with _FILES.reading(path) as suffix:
        if suffix == ".npz":
            return _read_npz(path)
        if suffix == ".nc":
            return PointTracks.from_dataset(xr.load_dataset(path, engine="scipy"))
        with xr.open_zarr(path, consolidated=False, chunks=None) as opened:
            return PointTracks.from_dataset(opened.load())


def check_tracks_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a path that no tracks can be written to, before the work that would be lost.

    Raises
    ------
    InvalidInputError
        For a suffix other than .npz, .nc and .zarr.
    OutputExistsError
        When something is there and ``overwrite`` is False. A folder is replaced only where it holds tracks, whatever
        is asked.
    RecordingError
        Where the system refuses.

    Examples
    --------
    >>> check_tracks_path("tracks.csv")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: tracks.csv cannot be written: tracks go to a file ending in .npz, .nc or .zarr. Name it tracks.npz.
    """  # noqa: E501
    _FILES.check(Path(path), load_tracks, overwrite=overwrite)


def _write(tracks: PointTracks, path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        arrays: dict[str, Any] = {name: getattr(tracks, name) for name in _ARRAYS}
        with path.open("wb") as file:  # numpy would change the name of what ends in .NPZ
            np.savez_compressed(file, details=np.array(json.dumps(dict(tracks.details))), **arrays)
    elif suffix == ".nc":
        tracks.to_dataset().to_netcdf(path, engine="scipy")
    else:
        tracks.to_dataset().to_zarr(path, mode="w", consolidated=False)


def _read_npz(path: Path) -> PointTracks:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        found = {name: file[name] for name in _ARRAYS}
        details = json.loads(str(file["details"])) if "details" in file.files else {}
    return PointTracks(**found, details=details)
