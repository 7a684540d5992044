"""Figure of head classes over layer and head: colour is the class, lightness its certainty."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from analyses.arrays import need_dims
from analyses.plots.theme import entitle
from store.arguments import checked
from store.checks import finite
from store.errors import InvalidInputError

COLOURS = {
    "temporal": ("rgb(250, 222, 200)", "rgb(178, 70, 20)"),
    "spatial": ("rgb(208, 224, 242)", "rgb(30, 90, 160)"),
    "undecided": ("rgb(232, 234, 238)", "rgb(232, 234, 238)"),
}
"""Colours of each class for an interval that touches the margin, and at full certainty."""

_FULL = math.log(4)
_HOVER = (
    "temporal over spatial density %{customdata[0]:.3g} (95 %: %{customdata[1]:.3g} to %{customdata[2]:.3g})",
    "the same class in %{customdata[3]:.0f} % of the clips",
)


@checked
def plot_head_classes(decided: xr.Dataset, *, title: str | None = None) -> go.Figure:
    """Class of each head over layer and head, its certainty shown by lightness.

    A cell is darker the farther its interval lies from the margin, up to a factor of four; undecided heads are grey.

    Parameters
    ----------
    decided : Dataset of :func:`analyses.heads.decide.decide_heads`
    title : str, optional

    Raises
    ------
    InvalidInputError
        For a dataset without classes.

    Examples
    --------
    >>> values = ("layer", "head"), [[0.9, -0.9]]
    >>> decided = xr.Dataset(
    ...     {"log_ratio": values, "lower": (values[0], [[0.8, -1]]), "upper": (values[0], [[1, -0.8]]),
    ...      "class": (values[0], [["temporal", "spatial"]]), "agreement": (values[0], [[1.0, 1.0]])},
    ...     attrs={"margin": 1.25, "step": 49, "clips": 8},
    ... )
    >>> plot_head_classes(decided).layout.xaxis.title.text
    'head'
    """
    needed = {"log_ratio", "lower", "upper", "class", "agreement"}
    if missing := sorted(needed - set(decided.data_vars)):
        raise InvalidInputError(f"decided lacks {', '.join(missing)}: pass what decide_heads returns.")
    for name in sorted(needed - {"class"}):
        need_dims(name, decided[name], ("layer", "head"))
    border = math.log(finite(decided.attrs.get("margin", 1.0), "margin", min_value=1))
    kinds, lower, upper = (decided[name].values for name in ("class", "lower", "upper"))
    beyond = np.select([kinds == "temporal", kinds == "spatial"], [lower - border, -border - upper], 0.0)
    sure = np.clip(np.nan_to_num(beyond, posinf=_FULL) / _FULL, 0, 1)
    layers, heads = ([str(number) for number in decided[name].values] for name in ("layer", "head"))
    ratios = [np.exp(decided[name].values) for name in ("log_ratio", "lower", "upper")]
    details = np.stack([*ratios, 100 * decided["agreement"].values], -1)
    figure = go.Figure()
    for kind, (light, full) in COLOURS.items():
        chosen = kinds == kind
        cells = go.Heatmap(
            z=np.where(chosen, sure, np.nan),
            x=heads,
            y=layers,
            zmin=0,
            zmax=1,
            colorscale=[[0, light], [1, full]],
            showscale=False,
            xgap=2,
            ygap=2,
            customdata=details,
            hovertemplate="<br>".join((f"layer %{{y}}, head %{{x}}: {kind}", *_HOVER)) + "<extra></extra>",
        )
        marker = {"symbol": "square", "size": 12, "color": full}
        name = f"{kind} ({int(chosen.sum())})"
        figure.add_traces([cells, go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)])
    attrs = decided.attrs
    where = f"Heads at step {attrs['step']}" if "step" in attrs else "Heads"
    notes = ["darker: the 95 % interval over clips lies farther from the margin"]
    notes += [f"{attrs['clips']} clips", f"margin {attrs['margin']:g}"] if {"clips", "margin"} <= set(attrs) else []
    heading = title or f"{where}: own frame or same place over time"
    entitle(figure, heading, "; ".join(notes), height=150 + 28 * len(layers), top=66)
    figure.update_xaxes(title={"text": "head"}, type="category", showgrid=False)
    figure.update_yaxes(title={"text": "layer"}, type="category", autorange="reversed", showgrid=False)
    return figure
