"""Colours of points by their start, the same in every picture of a clip."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np

_LEAST_LUMINANCE = 0.235  # luminance of full red; its contrast with the dark edges is 5 to 1 by WCAG


def start_colours(starts: Any, height: float, width: float) -> np.ndarray:
    """Return the colour of each point by its start.

    The hue is the direction from the centre of the image: red to the right, then clockwise on the screen through
    yellow and green (below), cyan (left) and blue and violet (above). Colours are pale near the centre and saturated at
    the borders; blue and violet are paler than the others, so that all are light enough to stand out from a dark edge.
    A start outside the image has the colour of its direction; a start that is not finite is white.

    Parameters
    ----------
    starts : (point, 2) float, (x, y) in pixels of the clip, the query position of each point
    height, width : pixels of the clip

    Returns
    -------
    (point, 3) uint8: red, green, blue

    Examples
    --------
    The middles of the right border, of the left one, and of the image:

    >>> start_colours([[112, 40], [0, 40], [56, 40]], 80, 112).tolist()
    [[255, 51, 51], [51, 255, 255], [255, 255, 255]]
    """
    places = 2 * np.asarray(starts, np.float64).reshape(-1, 2) / (width, height) - 1
    places[~np.isfinite(places).all(-1)] = 0
    colours = [_colour(right, down) for right, down in places.tolist()]
    return np.array(colours, np.uint8).reshape(-1, 3)


def _colour(right: float, down: float) -> tuple[int, int, int]:
    """Return the colour of a place from -1 to 1 along both axes."""
    hue, saturation = math.atan2(down, right) / math.tau % 1.0, 0.8 * min(1.0, math.hypot(right, down)) ** 0.5
    colour = colorsys.hsv_to_rgb(hue, saturation, 1.0)
    while _luminance(colour) < _LEAST_LUMINANCE:
        saturation *= 0.95
        colour = colorsys.hsv_to_rgb(hue, saturation, 1.0)
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue


def _luminance(colour: tuple[float, float, float]) -> float:
    """Relative luminance of sRGB values from 0 to 1, with a gamma of 2.2."""
    red, green, blue = (part**2.2 for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
