"""Sweeps and evaluations as tables: a row for each thing that was measured, a column for each measure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from store.arguments import checked, checked_but
from store.checks import integer
from store.errors import InvalidInputError
from store.files.outputs import OutputFile

if TYPE_CHECKING:
    import pandas as pd

TABLE_FILE = OutputFile("table", "sweep.csv", (".csv",))
_SWEEP, _EVALUATION = ("clip", "step", "layer"), ("clip", "tracker")
_HEAD = "head_"
_WIDENED = ("target", "threshold")


@checked_but("measured")
def tidy(measured: xr.Dataset, *, heads: bool = False) -> pd.DataFrame:
    """Return a sweep as one row for each clip, step and layer, or an evaluation as one for each clip and tracker.

    Parameters
    ----------
    measured : Dataset of :func:`analyses.layers.sweep.sweep`, :func:`analyses.layers.differences.difference` or
        :func:`analyses.evaluation.tapvid.evaluate_tapvid`
    heads : one row for each clip, step, layer and head instead, of a sweep with ``per_head=True``: the measures of
        single heads alone

    Returns
    -------
    pandas.DataFrame
        The first columns identify the row (``clip``, ``step``, ``layer``, ``head``; ``clip``, ``tracker``), then come
        its coordinates (``source``, ``timestep`` ...) and the measures, in their units. Measures over targets have a
        column for each, such as ``confidence_cross``. Measures of a whole clip, such as ``static_accuracy``, are
        repeated in every row of the clip, and the ``harmonic_mean`` of a step and layer in the row of every clip.
        Values that were not recorded are NaN. Variables with further dims, such as errors over time, are left out.

    Raises
    ------
    InvalidInputError
        For a Dataset of another kind, and for ``heads`` where no single heads were measured.

    Notes
    -----
    Windows of one clip are separate rows with the same ``source``. Average them first, as ditprobe does:
    ``table.groupby(["source", "step", "layer"]).mean(numeric_only=True)``.

    Examples
    --------
    >>> over, names = ("clip", "step", "layer"), {"clip": ["goat"], "step": [0, 49], "layer": [4]}
    >>> tidy(xr.Dataset({"accuracy": (over, [[[10.0], [80.0]]]), "points": ("clip", [35])}, names))
       clip  step  layer  accuracy  points
    0  goat     0      4      10.0      35
    1  goat    49      4      80.0      35
    """
    rows = _rows_of(measured, heads)
    shown = _wide(measured)
    names = [name for name in shown if set(shown[name].dims) <= set(rows)]
    if heads:
        names = [name for name in names if str(name).startswith(_HEAD) and "head" in shown[name].dims]
        if not names:
            raise InvalidInputError("no single heads were measured. Sweep with per_head=True, or leave heads out.")
    if not names:
        raise InvalidInputError(f"the dataset has no measure over {', '.join(rows)}.")
    coordinates = [name for name, coord in shown.coords.items() if coord.dims and set(coord.dims) <= set(rows)]
    order = [*rows, *(name for name in coordinates if name not in rows), *names]
    table = shown[names].reset_coords(drop=False).to_dataframe(dim_order=rows).reset_index()
    return table[[name for name in order if name in table]]


@checked
def evaluation_table(evaluation: xr.Dataset) -> pd.DataFrame:
    """Return the means of trackers over clips as text, each with its 95 % interval, in percent.

    Parameters
    ----------
    evaluation : Dataset of :func:`analyses.evaluation.tapvid.evaluate_tapvid`

    Returns
    -------
    pandas.DataFrame
        A row for each tracker; columns ``position accuracy``, ``average Jaccard`` and ``occlusion accuracy``.

    Raises
    ------
    InvalidInputError
        For another Dataset.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> from analyses.evaluation.tapvid import evaluate_tapvid
    >>> from analyses.trackers.static import StaticTracker
    >>> found = evaluate_tapvid({"scene": make_scene(0)}, {"nothing moves": StaticTracker()})
    >>> evaluation_table(found).loc["nothing moves", "occlusion accuracy"]
    '63.8'
    """
    import pandas as pd

    from analyses.evaluation.files import METRICS, check_evaluation
    from analyses.evaluation.tapvid import in_percent, tapvid_means

    check_evaluation(evaluation)
    means = tapvid_means(in_percent(evaluation))
    cells = {heading: [_interval(*each) for each in means[name].values] for name, heading in METRICS.items()}
    return pd.DataFrame(cells, index=pd.Index(means["tracker"].values, name="tracker"))


def _interval(mean: float, low: float, high: float) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.1f}" if np.isnan(low) else f"{mean:.1f} ({low:.1f} to {high:.1f})"


_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
}


@checked
def latex_table(
    table: Any, *, digits: int = 1, index: bool = True, caption: str | None = None, label: str | None = None
) -> str:
    """Return a table as LaTeX with the rules of booktabs, ready to be pasted into a paper.

    Parameters
    ----------
    table : pandas.DataFrame, such as :func:`evaluation_table` and :func:`tidy` return
    digits : decimals of numbers that are not whole
    index : the rows' names as the first column
    caption, label : of a float around it; without them, the ``tabular`` alone

    Raises
    ------
    InvalidInputError
        For anything but a DataFrame.

    Notes
    -----
    It needs ``\\usepackage{booktabs}``. Text is escaped; missing values are a dash.

    Examples
    --------
    >>> import pandas as pd
    >>> print(latex_table(pd.DataFrame({"accuracy [%]": [79.51]}, index=["layer_5"])))
    \\begin{tabular}{lr}
      \\toprule
       & accuracy [\\%] \\\\
      \\midrule
      layer\\_5 & 79.5 \\\\
      \\bottomrule
    \\end{tabular}
    <BLANKLINE>
    """
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise InvalidInputError(f"table must be a pandas DataFrame; got {type(table).__name__}. tidy(sweep) makes one.")
    integer(digits, "digits", min_value=0, max_value=12)
    shown = table.reset_index() if index else table
    unnamed = table.index.names == [None]
    header = ["" if index and unnamed and place == 0 else _tex(name) for place, name in enumerate(shown.columns)]
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in shown.dtypes]
    align = "".join(
        "r" if number or place >= len(table.index.names) * index else "l" for place, number in enumerate(numeric)
    )
    rows = [[_cell(value, digits) for value in row] for row in shown.itertuples(index=False)]
    lines = [rf"\begin{{tabular}}{{{align}}}", r"  \toprule", f"  {' & '.join(header)} \\\\", r"  \midrule"]
    lines += [f"  {' & '.join(row)} \\\\" for row in rows]
    lines += [r"  \bottomrule", r"\end{tabular}"]
    if caption is not None or label is not None:
        above = ([rf"  \caption{{{_tex(caption)}}}"] if caption else []) + ([rf"  \label{{{label}}}"] if label else [])
        lines = [r"\begin{table}", r"  \centering", *above, *(f"  {line}" for line in lines), r"\end{table}"]
    return "\n".join(lines) + "\n"


def _tex(text: object) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in str(text))


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, float | np.floating):
        return "--" if not np.isfinite(value) else f"{value:.{digits}f}"
    return "--" if value is None else _tex(value)


@checked_but("measured")
def write_table(
    measured: xr.Dataset, path: str | os.PathLike[str], *, heads: bool = False, overwrite: bool = False
) -> Path:
    """Write :func:`tidy` as a CSV file, atomically.

    Parameters
    ----------
    measured, heads : as in :func:`tidy`
    path : path ending in .csv; NaN is left empty
    overwrite : replace what is there

    Returns
    -------
    Path of the file.

    Raises
    ------
    InvalidInputError
        For another suffix, and as :func:`tidy`.
    OutputExistsError
        When the file exists and ``overwrite`` is False.
    RecordingError
        When it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> found = xr.Dataset({"jaccard_1": (("tracker", "clip"), [[0.5]])}, {"tracker": ["flow"], "clip": ["goat"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(write_table(found, folder + "/found.csv").read_text())
    clip,tracker,jaccard_1
    goat,flow,0.5
    <BLANKLINE>
    """
    path = Path(path)
    check_table_path(path, overwrite=overwrite)
    text = tidy(measured, heads=heads).to_csv(index=False, lineterminator="\n")
    TABLE_FILE.write(path, text)
    return path


def check_table_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise for a path that no table can be written to, before the work.

    Raises
    ------
    InvalidInputError
        For a suffix other than .csv.
    OutputExistsError
        When something is there and ``overwrite`` is False.

    Examples
    --------
    >>> check_table_path("found.txt")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: found.txt cannot hold the table: its suffix must be .csv. Name it found.csv.
    """
    TABLE_FILE.check(path, overwrite=overwrite)


def _rows_of(measured: xr.Dataset, heads: bool) -> list[str]:
    """The dims that identify a row."""
    if not isinstance(measured, xr.Dataset):
        raise InvalidInputError(f"a Dataset is needed; got {type(measured).__name__}. Pass the whole sweep.")
    for dims in (_SWEEP, _EVALUATION):
        if set(dims) <= set(measured.dims):
            return [*dims, "head"] if heads and "head" in measured.dims else list(dims)
    raise InvalidInputError(
        f"a table needs a sweep over ({', '.join(_SWEEP)}) or an evaluation over ({', '.join(_EVALUATION)}); got "
        f"({', '.join(map(str, measured.dims))})."
    )


def _wide(measured: xr.Dataset) -> xr.Dataset:
    """The dataset with a variable for each target in place of each variable over targets."""
    found: dict[str, xr.DataArray] = {}
    for name, values in measured.items():
        dim = next((dim for dim in _WIDENED if dim in values.dims), None)
        if dim is None:
            found[str(name)] = values
            continue
        for label in values[dim].values.tolist():
            text = f"{label:g}" if isinstance(label, float) else str(label)
            found[f"{name}_{text}"] = values.sel({dim: label}, drop=True)
    return xr.Dataset(found)
