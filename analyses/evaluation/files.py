"""Evaluations of trackers on disk: ``.nc``, ``.csv`` or ``.json``."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import xarray as xr

from analyses.evaluation.tapvid import in_percent, tapvid_means
from store.arguments import checked
from store.errors import InvalidInputError, OutputExistsError, RecordingError
from store.files.atomic import atomic_write, check_file
from store.files.labelled import save_netcdf

SUFFIXES = (".nc", ".csv", ".json")


@checked
def save_evaluation(evaluation: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write an evaluation so that it appears whole or not at all.

    Parameters
    ----------
    evaluation : Dataset of :func:`analyses.evaluation.tapvid.evaluate_tapvid`
    path : path ending in .nc, .csv or .json
        Metrics are in percent. A .nc holds the Dataset and its digest; a .csv a line for each clip and tracker; a
        .json the same lines as ``clips``, the ``units``, the ``means`` with their intervals
        (:func:`analyses.evaluation.tapvid.tapvid_means`), the ``settings`` and the ``skipped`` clips. What is NaN is
        empty in a .csv and null in a .json. Variables over further dims, such as errors over time, are in a .nc alone.
    overwrite : replace what is there

    Returns
    -------
    Path of the file.

    Raises
    ------
    InvalidInputError
        For another suffix.
    OutputExistsError
        When the file exists and ``overwrite`` is False.
    RecordingError
        When it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> both, names = ("tracker", "clip"), {"tracker": ["flow"], "clip": ["goat"]}
    >>> found = xr.Dataset({"jaccard_1": (both, [[50.0]]), "images": ("clip", [90])}, names)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(save_evaluation(found, folder + "/found.csv").read_text())
    clip,tracker,images,jaccard_1
    goat,flow,90,50.0
    <BLANKLINE>
    """
    path, evaluation = Path(path), in_percent(evaluation)
    check_evaluation_path(path, overwrite=overwrite)
    try:
        with atomic_write(path) as partial:
            if path.suffix.lower() == ".nc":
                save_netcdf(evaluation, partial)
            else:
                single = evaluation[[name for name in evaluation if set(evaluation[name].dims) <= {"clip", "tracker"}]]
                partial.write_text(_csv(single) if path.suffix.lower() == ".csv" else _json(single), encoding="utf-8")
    except OSError as error:
        raise RecordingError(f"the evaluation cannot be written to {path}: {error}.") from error
    return path


def check_evaluation_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a path that no evaluation can be written to, before the work.

    Raises
    ------
    InvalidInputError
        For a suffix other than .nc, .csv and .json.
    OutputExistsError
        When something is there and ``overwrite`` is False.

    Examples
    --------
    >>> check_evaluation_path("found.txt")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: found.txt: an evaluation goes to a file ending in .nc, .csv or .json. Name it found.nc.
    """  # noqa: E501
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        better = path.with_suffix(".nc") if path.name else "tapvid.nc"
        raise InvalidInputError(
            f"{path}: an evaluation goes to a file ending in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}. "
            f"Name it {better}."
        )
    check_file(path, "tapvid.nc")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists already. Choose another path, or pass overwrite=True.")


def _rows(evaluation: xr.Dataset) -> list[dict[str, Any]]:
    """A row for each clip and tracker; None for NaN."""
    rows = []
    for clip in evaluation["clip"].values:
        for tracker in evaluation["tracker"].values:
            place = {"clip": str(clip), "tracker": str(tracker)}
            one = evaluation.sel(place)
            counts = {str(name): int(one[name]) for name in evaluation if "tracker" not in evaluation[name].dims}
            values = {str(name): _known(one[name]) for name in evaluation if "tracker" in evaluation[name].dims}
            rows.append(place | counts | values)
    return rows


def _known(value: Any) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number


def _csv(evaluation: xr.Dataset) -> str:
    rows, text = _rows(evaluation), io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _json(evaluation: xr.Dataset) -> str:
    means = tapvid_means(evaluation)
    found = {name: json.loads(value) for name, value in evaluation.attrs.items()}
    found["units"] = "%"
    found["means"] = {
        str(tracker): {
            str(metric): {
                str(bound): _known(means[metric].sel(tracker=tracker, bound=bound)) for bound in means["bound"].values
            }
            for metric in means
        }
        for tracker in means["tracker"].values
    }
    return json.dumps(found | {"clips": _rows(evaluation)}, indent=1) + "\n"
