"""Bands of intervals around curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go


def add_band(
    figure: go.Figure, x: Sequence[Any] | np.ndarray, lower: np.ndarray, upper: np.ndarray, colour: str
) -> None:
    """Fill the area between two bounds where both are finite; a single place has no area.

    Parameters
    ----------
    figure : go.Figure
    x : (place,) numbers or names
    lower, upper : (place,) float
    colour : ``#rrggbb`` of the curve
    """
    keep = np.flatnonzero(np.isfinite(lower) & np.isfinite(upper))
    if len(keep) < 2:
        return
    places = [x[int(i)] for i in keep]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    edge: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    figure.add_scatter(x=places, y=upper[keep], **edge)
    figure.add_scatter(x=places, y=lower[keep], fill="tonexty", fillcolor=f"rgba({red},{green},{blue},0.16)", **edge)
