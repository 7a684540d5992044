"""Sweeps on disk: one netCDF file, replaced whole after each finished clip."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyses.layers.sweep_dataset import combine
from analyses.layers.sweep_items import Skipped, SweepItem, describe_items
from store.arguments import checked
from store.errors import InvalidInputError, OutputExistsError, RecordingError
from store.files.atomic import atomic_write, check_file
from store.files.damaged import damage_as
from store.files.labelled import load_netcdf, save_netcdf

_ENCODED = "json_attributes"
# What follows from the clips, or may differ between two halves of one sweep.
_NO_SETTINGS = ("clips", "pseudo_truth", "skipped", "resized", "windows", "versions")


@checked
def save_sweep(dataset: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a sweep as one netCDF file, in one step: a reader sees the old file or the new one.

    Parameters
    ----------
    dataset : Dataset of :func:`analyses.layers.sweep.sweep`
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
    # How a file once stored its names says nothing of the longer ones that have joined them.
    flat = dataset.drop_encoding()
    flat.attrs = _flat(dataset.attrs)
    try:
        with atomic_write(path) as partial:
            save_netcdf(flat, partial)
    except OSError as error:
        raise RecordingError(f"the sweep cannot be written to {path}: {error}.") from error


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
    store.errors.RecordingError: nowhere.nc is not a sweep: it does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordingError(f"{path} is not a sweep: it {_what(path)}.")
    with damage_as(RecordingError, f"{path} is not a sweep, or it is damaged"):
        dataset = load_netcdf(path).drop_encoding()
        encoded = json.loads(dataset.attrs.pop(_ENCODED))
        dataset.attrs |= {name: json.loads(dataset.attrs[name]) for name in encoded}
    return dataset


def _flat(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as netCDF takes them: what is no text becomes JSON, and a list says which."""
    encoded = [name for name, value in attrs.items() if not isinstance(value, str)]
    flat = {name: json.dumps(value) if name in encoded else value for name, value in attrs.items()}
    return {**flat, _ENCODED: json.dumps(encoded)}


def _what(path: Path) -> str:
    return "is a folder" if path.is_dir() else "does not exist"


def check_output(path: str | os.PathLike[str], *, resume: bool = False, overwrite: bool = False) -> None:
    """Refuse a taken path that is neither to be resumed nor overwritten, and one that no file can be written to."""
    path = Path(path)
    check_modes(path, resume=resume, overwrite=overwrite)
    check_file(path, "sweep.nc")
    if path.exists() and not (resume or overwrite):
        raise OutputExistsError(
            f"{path} exists. Choose another path, or pass resume=True to go on with it or overwrite=True to replace it."
        )


def check_modes(save: str | os.PathLike[str] | None, *, resume: bool, overwrite: bool) -> None:
    """Refuse to go on with a sweep and to replace it at once, and either without a file."""
    if resume and overwrite:
        raise InvalidInputError("resume goes on with a sweep, overwrite replaces it. Ask for one of them.")
    if save is None and (resume or overwrite):
        asked = "resume" if resume else "overwrite"
        raise InvalidInputError(
            f"{asked}=True is about a saved sweep, but no file is named. Pass save=, or leave it out."
        )


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


def saved_sources(
    save: str | os.PathLike[str] | None,
    resume: bool,
    overwrite: bool,
    attrs: Mapping[str, Any],
    items: list[SweepItem],
) -> dict[str, xr.Dataset]:
    """The finished clips of a saved sweep by source; those whose every window is there."""
    if save is None:
        return {}
    check_output(save, resume=resume, overwrite=overwrite)
    digests = {item.source: item.details["digest"] for item in items}
    saved = finished_clips(save, attrs, digests) if resume else None
    if saved is None:
        return {}
    saved = saved.drop_vars("harmonic_mean")
    sources = saved["source"].values.astype(str)
    return {str(name): saved.isel(clip=np.flatnonzero(sources == name)) for name in dict.fromkeys(sources)}


def assemble_sweep(
    done: Mapping[str, xr.Dataset], items: list[SweepItem], skipped: list[Skipped], attrs: Mapping[str, Any]
) -> xr.Dataset:
    """The finished clips in the order asked for."""
    finished = [item for item in items if item.source in done]
    order = list(dict.fromkeys(item.source for item in finished))
    return combine([done[source] for source in order], dict(attrs) | describe_items(finished, skipped))
