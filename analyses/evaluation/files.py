"""Evaluations of trackers on disk: ``.nc``, ``.csv`` or ``.json``."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pandas as pd
import xarray as xr

from analyses.evaluation.tapvid import in_percent, tapvid_means
from store.arguments import checked
from store.datasets.tapvid_raster import THRESHOLDS
from store.errors import InvalidInputError
from store.files.labelled import load_netcdf, save_netcdf
from store.files.outputs import OutputFile
from store.text import listed

EVALUATION_FILE = OutputFile("evaluation", "tapvid.nc", (".nc", ".csv", ".json"))
_READ = OutputFile(
    "evaluation of trackers", "tapvid.nc", remedy="ditprobe eval-tapvid writes them; name its --out with .nc."
)
METRICS = {
    "average_pts_within_thresh": "position accuracy",
    "average_jaccard": "average Jaccard",
    "occlusion_accuracy": "occlusion accuracy",
}
"""Metrics of an evaluation that tables show, and their names."""
WITHIN = tuple(f"pts_within_{pixels}" for pixels in THRESHOLDS)
"""Names of the metrics that are the percentage of points within a threshold."""


@checked
def save_evaluation(evaluation: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write an evaluation to a file, atomically.

    Parameters
    ----------
    evaluation : Dataset of :func:`analyses.evaluation.tapvid.evaluate_tapvid`
    path : path ending in .nc, .csv or .json
        Metrics are in percent. A .nc holds the Dataset and its digest; a .csv a line for each clip and tracker; a
        .json the same lines as ``clips``, the ``units``, the ``means`` with their intervals
        (:func:`analyses.evaluation.tapvid.tapvid_means`), the ``settings`` and the ``skipped`` clips. NaN is empty in a
        .csv and null in a .json. Variables over further dims, such as errors over time, are only in a .nc.
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
    suffix = path.suffix.lower()
    if suffix == ".nc":
        with EVALUATION_FILE.writing(path) as partial:
            save_netcdf(evaluation, partial)
    else:
        single = evaluation[[name for name in evaluation if set(evaluation[name].dims) <= {"clip", "tracker"}]]
        EVALUATION_FILE.write(path, _json(single) if suffix == ".json" else _table(single).to_csv(index=False))
    return path


def check_evaluation_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise for a path that no evaluation can be written to, before the work.

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
    store.errors.InvalidInputError: found.txt cannot hold the evaluation: its suffix must be .nc, .csv or .json. Name it found.nc.
    """  # noqa: E501
    EVALUATION_FILE.check(path, overwrite=overwrite)


def _table(evaluation: xr.Dataset) -> pd.DataFrame:
    """A row for each clip and tracker, clip by clip; values of a clip alone are integers."""
    counts = [str(name) for name in evaluation if "tracker" not in evaluation[name].dims]
    metrics = [str(name) for name in evaluation if "tracker" in evaluation[name].dims]
    rows = evaluation.drop_vars(set(evaluation.coords) - {"clip", "tracker"}).to_dataframe(["clip", "tracker"])
    return rows.astype(dict.fromkeys(counts, int) | dict.fromkeys(metrics, float))[counts + metrics].reset_index()


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _json(evaluation: xr.Dataset) -> str:
    means = tapvid_means(evaluation)
    found = {name: json.loads(value) for name, value in evaluation.attrs.items()}
    found["units"] = "%"
    found["means"] = {
        str(tracker): {
            str(metric): {
                str(bound): _known(float(means[metric].sel(tracker=tracker, bound=bound)))
                for bound in means["bound"].values
            }
            for metric in means
        }
        for tracker in means["tracker"].values
    }
    rows = _table(evaluation).astype(object)
    return json.dumps(found | {"clips": rows.where(rows.notna(), None).to_dict("records")}, indent=1) + "\n"


@checked
def load_evaluation(path: str | os.PathLike[str]) -> xr.Dataset:
    """Load an evaluation that :func:`save_evaluation` or ``ditprobe eval-tapvid`` wrote as ``.nc``.

    Parameters
    ----------
    path : file ending in .nc

    Returns
    -------
    Dataset of :func:`analyses.evaluation.tapvid.evaluate_tapvid`, in percent, whichever version wrote it

    Raises
    ------
    RecordingError
        When there is none at that path.

    Examples
    --------
    >>> load_evaluation("nowhere.nc")
    Traceback (most recent call last):
    ...
    store.errors.RecordingError: nowhere.nc holds no evaluation of trackers: it does not exist.
    """
    path = Path(path)
    with _READ.reading(path):
        found = load_netcdf(path)
        for name in ("settings", "skipped"):
            json.loads(found.attrs.get(name, "null"))
        check_evaluation(found)
    return in_percent(found)


def check_evaluation(evaluation: xr.Dataset) -> None:
    """Raise for a dataset that is not an evaluation of trackers.

    Raises
    ------
    InvalidInputError
        Names what is missing.

    Examples
    --------
    >>> check_evaluation(xr.Dataset({"accuracy": ("clip", [1.0])}))
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: tracking needs what evaluate_tapvid returns; it lacks the dim tracker.
    """
    lacking = [f"the dim {dim}" for dim in ("tracker", "clip") if not evaluation.sizes.get(dim)]
    lacking = lacking or [str(name) for name in (*METRICS, *WITHIN, "queries") if name not in evaluation]
    if lacking:
        raise InvalidInputError(f"tracking needs what evaluate_tapvid returns; it lacks {listed(lacking)}.")
