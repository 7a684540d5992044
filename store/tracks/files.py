"""Point tracks on disk: ``.npz``, ``.nc`` or ``.zarr``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.arguments import checked
from store.files.labelled import LabelledFile
from store.tracks.point_tracks import PointTracks

_ARRAYS = ("tracks", "visibility", "confidence", "queries")


@checked
def save_tracks(tracks: PointTracks, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write tracks to a file, atomically.

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
    return _FILES.save(tracks, path, overwrite=overwrite)


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
    return _FILES.load(path)


def check_tracks_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise if no tracks can be written to a path, before the work that would be lost.

    Raises
    ------
    InvalidInputError
        For a suffix other than .npz, .nc and .zarr.
    OutputExistsError
        When something is there and ``overwrite`` is False. A folder is replaced only where it holds tracks, whatever
        is asked.
    RecordingError
        When the operating system does not allow it.

    Examples
    --------
    >>> check_tracks_path("tracks.csv")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: tracks.csv cannot hold the tracks: its suffix must be .npz, .nc or .zarr. Name it tracks.npz.
    """  # noqa: E501
    _FILES.check(path, overwrite=overwrite)


def _to_arrays(tracks: PointTracks) -> dict[str, Any]:
    return {name: getattr(tracks, name) for name in _ARRAYS} | {"details": json.dumps(dict(tracks.details))}


def _from_arrays(found: Mapping[str, Any]) -> PointTracks:
    details = json.loads(str(found["details"])) if "details" in found else {}
    return PointTracks(**{name: found[name] for name in _ARRAYS}, details=details)


_FILES = LabelledFile[PointTracks](
    "tracks",
    to_arrays=_to_arrays,
    from_arrays=_from_arrays,
    to_dataset=PointTracks.to_dataset,
    from_dataset=PointTracks.from_dataset,
)
