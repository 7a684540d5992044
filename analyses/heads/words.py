"""Classes of heads in words: the counts and the table."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyses.heads.classify import CLASSES
from store.text import counted


def classes_text(decided: xr.Dataset) -> str:
    """Return how many heads have each class, at which step and over how many clips.

    Parameters
    ----------
    decided : Dataset of :func:`analyses.heads.decide.decide_heads`

    Examples
    --------
    >>> decided = xr.Dataset({"class": (("layer", "head"), [["temporal", "undecided"]])})
    >>> print(classes_text(decided.assign_attrs(clips=4, step=49, margin=1.25)))
    2 heads at step 49, 4 clips: 0 spatial, 1 temporal, 1 undecided (margin 1.25).
    """
    attrs, kinds = decided.attrs, decided["class"].values
    counts = ", ".join(f"{int((kinds == name).sum())} {name}" for name in CLASSES)
    where = f"{counted(kinds.size, 'head')} at step {attrs['step']}, {counted(attrs['clips'], 'clip')}"
    lines = [f"{where}: {counts} (margin {attrs['margin']:g})."]
    if attrs["clips"] < 2:
        lines.append("One clip gives no interval, so no head is decided: pass at least two.")
    return "\n".join(lines)


def classes_rows(decided: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table: a row for each layer, the class and the ratio of each head.

    T is temporal, S spatial, ? undecided; the ratio is the temporal over the spatial density.

    Examples
    --------
    >>> values = ("layer", "head"), np.log([[2.0, 1.0]])
    >>> decided = xr.Dataset({"log_ratio": values, "class": (values[0], [["temporal", "undecided"]])})
    >>> classes_rows(decided.assign_coords(layer=[5], head=[0, 1]))
    (['layer', 'head 0', 'head 1'], [['5', 'T 2.00', '? 1.00']])
    """
    header = ["layer", *(f"head {head}" for head in decided["head"].values)]
    letters = {"temporal": "T", "spatial": "S", "undecided": "?"}
    rows = []
    for layer in decided["layer"].values:
        row = decided.sel(layer=layer)
        pairs = zip(row["class"].values.astype(str), np.exp(row["log_ratio"].values), strict=True)
        rows.append([str(layer), *(f"{letters[kind]} {ratio:.2f}" for kind, ratio in pairs)])
    return header, rows
