"""Point tracks on disk: ``.npz``, ``.nc`` or ``.zarr``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from store.arguments import checked
from store.errors import InvalidInputError
from store.files.labelled import ArrayFiles, load_dataset, save_dataset
from store.files.numpy_files import load_npz, save_npz
from store.tracks.point_tracks import PointTracks

_FILES = ArrayFiles("tracks", "tracks go", "no tracks", "the tracks")
_ARRAYS = ("tracks", "visibility", "confidence", "queries")


@checked
def save_tracks(tracks: PointTracks, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write tracks so that they appear whole or not at all.

    Parameters
    ----------
    tracks : PointTracks
    path : path ending in .npz, .nc or .zarr
        An npz holds ``tracks`` (image, point, 2), ``visibility`` and ``confidence`` (image, point), ``queries``
        (point, 3) and ``details`` as JSON; the others hold :meth:`store.tracks.point_tracks.PointTracks.to_dataset`.
        All hold the digest of their values, which :func:`load_tracks` checks.
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
    >>> import numpy as np
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


@checked
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
        return PointTracks.from_dataset(load_dataset(path))


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
    if path.suffix.lower() != ".npz":
        save_dataset(tracks.to_dataset(), path)
        return
    arrays: dict[str, Any] = {name: getattr(tracks, name) for name in _ARRAYS}
    save_npz(path, {**arrays, "details": json.dumps(dict(tracks.details))})


def _read_npz(path: Path) -> PointTracks:
    found = load_npz(path)
    details = json.loads(str(found["details"])) if "details" in found else {}
    return PointTracks(**{name: found[name] for name in _ARRAYS}, details=details)
