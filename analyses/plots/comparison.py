"""The picture of a comparison: diverging colours around 0, and marks on cells that do not differ from 0 reliably."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from analyses.layers.differences import MARK, POINTS
from analyses.plots.layers import plot_heads, plot_layer_step
from analyses.plots.theme import SOFT, escape, layer_names, numbers, step_names
from store.arguments import checked
from store.errors import InvalidInputError
from store.text import counted


@checked
def plot_comparison(compared: xr.Dataset, *, step: int | None = None, title: str | None = None) -> go.Figure:
    """A diverging map of a comparison over layer and step, or over layer and head.

    Blue: the first is larger; red: the second; white: no difference. A dot marks a cell whose 95 % interval contains 0.

    Parameters
    ----------
    compared : Dataset of :func:`analyses.layers.compare.compare`
    step : for a comparison of heads; the last one by default

    Raises
    ------
    InvalidInputError
        For another Dataset, and for a step that was not compared.

    Examples
    --------
    >>> over = ("step", "layer")
    >>> found = xr.Dataset({"difference": (over, [[3.0, -1.0]]), "lower": (over, [[1.0, -2.0]]), "upper": (over, [[4.0, 1.0]])})
    >>> figure = plot_comparison(found.assign(apart=(over, [[True, False]])).assign_attrs(measure="accuracy", pairs=8))
    >>> figure.data[-1].name
    '95 % interval holds 0'
    """  # noqa: E501
    missing = {"difference", "lower", "upper", "apart"} - set(compared.data_vars)
    if missing:
        raise InvalidInputError(f"compared lacks {', '.join(sorted(missing))}: pass what compare returns.")
    by_head = "head" in compared["difference"].dims
    if by_head:
        known = numbers(compared, "step").tolist()
        chosen = known[-1] if step is None else step
        if chosen not in known:
            raise InvalidInputError(f"step {chosen} was not compared. Compared: {', '.join(map(str, known))}.")
        compared = compared.isel(step=known.index(chosen))
    attrs = compared.attrs
    measure = str(attrs.get("measure", "measure")).replace("_", " ")
    percent = measure.endswith("accuracy")
    values = compared["difference"].assign_attrs({MARK: measure, "units": POINTS if percent else "1"})
    names = [escape(attrs.get(name, name)) for name in ("first", "second")]
    heading = title or f"{measure.capitalize()}: {names[0]} minus {names[1]}"
    figure = (plot_heads if by_head else plot_layer_step)(values, title=heading)
    text = figure.layout.title.text.replace("white: 0", "white: no difference")
    pairs = attrs.get("pairs")
    note = f"; {counted(int(pairs), 'pair')}" if pairs else ""
    figure.update_layout(title={"text": text.replace("</span>", f"{note}</span>")})
    figure.add_trace(_marks(compared, by_head))
    return figure


def _marks(compared: xr.Dataset, by_head: bool) -> go.Scatter:
    """A dot in each cell whose interval contains 0, next to its number."""
    across = "head" if by_head else "step"
    apart = compared["apart"].transpose("layer", across).values
    ends = [compared[name].transpose("layer", across).values for name in ("lower", "upper")]
    rows, columns = np.nonzero(~apart & np.isfinite(ends[0]))
    x = [f"head {head}" for head in numbers(compared, "head")] if by_head else step_names(compared["difference"])
    y = layer_names(compared["difference"])
    return go.Scatter(
        x=[x[column] for column in columns.tolist()],
        y=[y[row] for row in rows.tolist()],
        mode="markers",
        marker={"symbol": "circle-open", "size": 22 if len(x) <= 14 else 4, "color": SOFT, "line": {"width": 1}},
        name="95 % interval holds 0",
        showlegend=True,
        customdata=np.stack([end[rows, columns] for end in ends], -1),
        hovertemplate="%{x}<br>%{y}<br>95 %: %{customdata[0]:.3g} to %{customdata[1]:.3g}<extra></extra>",
    )
