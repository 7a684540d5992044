"""Sweeps on disk: one netCDF file, replaced whole after each finished clip."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from store.clip import Clip
from store.errors import InvalidInputError, OutputExistsError, RecordingError

_ENCODED = "json_attributes"
# What follows from the clips, or may differ between two halves of one sweep.
_NO_SETTINGS = ("clips", "skipped", "resized", "windows", "versions")


def save_sweep(dataset: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a sweep as one netCDF file, in one step: a reader sees the old file or the new one.

    Parameters
    ----------
    dataset : Dataset of :func:`analyses.sweep.sweep`
    path : file, by custom with the ending ``.nc``

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
    path = Path(path)
    flat = dataset.copy()
    flat.attrs = _flat(dataset.attrs)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flat.to_netcdf(partial, engine="scipy")
        os.replace(partial, path)
    except OSError as error:
        raise RecordingError(f"the sweep cannot be written to {path}: {error}.") from error
    finally:
        if partial.exists():
            partial.unlink()


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
    store.errors.RecordingError: nowhere.nc is not a sweep: it does not exist.
    """
    if not Path(path).is_file():
        raise RecordingError(f"{os.fspath(path)} is not a sweep: it {_what(Path(path))}.")
    try:
        dataset = xr.load_dataset(path, engine="scipy")
        encoded = json.loads(dataset.attrs.pop(_ENCODED))
        dataset.attrs |= {name: json.loads(dataset.attrs[name]) for name in encoded}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordingError(f"{os.fspath(path)} is not a sweep, or it is damaged: {error}.") from error
    return dataset


def _flat(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as netCDF takes them: what is no text becomes JSON, and a list says which."""
    encoded = [name for name, value in attrs.items() if not isinstance(value, str)]
    flat = {name: json.dumps(value) if name in encoded else value for name, value in attrs.items()}
    return {**flat, _ENCODED: json.dumps(encoded)}


def _what(path: Path) -> str:
    return "is a folder" if path.is_dir() else "does not exist"


def check_output(path: str | os.PathLike[str], *, resume: bool) -> None:
    """Refuse to overwrite a sweep that is not to be resumed, and a path that cannot be a file."""
    path = Path(path)
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder. Name a file, for example {path / 'sweep.nc'}.")
    if path.exists() and not resume:
        raise OutputExistsError(f"{path} exists. Choose another path, or pass resume=True to go on with it.")


def digest_of(clip: Clip | None, *parts: Any) -> str:
    """Sixteen hexadecimal digits that change when the clip, its tracks or anything else given does."""
    digest = hashlib.blake2b(digest_size=8)
    arrays = [] if clip is None else [clip.images, clip.tracks, clip.visibility]
    for part in (*arrays, *parts):
        if part is None or isinstance(part, str):
            digest.update(repr(part).encode())
        else:
            array = np.ascontiguousarray(part)
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def finished_clips(
    path: str | os.PathLike[str], attrs: Mapping[str, Any], digests: Mapping[str, str]
) -> xr.Dataset | None:
    """What a saved sweep of the same settings already holds, or None where nothing was saved.

    Raises
    ------
    InvalidInputError
        When it was made with other settings, of other clips, or of clips that are not asked for now.
    """
    if not Path(path).exists():
        return None
    saved = load_sweep(path)
    before = {name: value for name, value in saved.attrs.items() if name not in _NO_SETTINGS}
    # Through JSON, as the saved ones went: a tuple comes back as a list.
    now = {name: value for name, value in json.loads(json.dumps(dict(attrs))).items() if name not in _NO_SETTINGS}
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        difference = "; ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in changed)
        raise InvalidInputError(
            f"{os.fspath(path)} holds a sweep with other settings: {difference}. "
            f"Resume with the same ones, or save to another path."
        )
    for clip in saved.attrs["clips"]:
        name = clip["source"]
        if digests.get(name) != clip["digest"]:
            what = "is another clip now" if name in digests else "was not asked for"
            raise InvalidInputError(
                f"{os.fspath(path)} holds clip {name!r}, which {what}. Pass the same clips, or save to another path."
            )
    return saved
