"""Data of the views that a page draws itself: linked maps, clips that play, and flows; JSON that holds no HTML."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from analyses.plots.colours import start_colours
from analyses.plots.theme import encoded_image, evenly, numbers, strided
from analyses.plots.transfer import frames_of_images
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks

MOST_IMAGES, MOST_POINTS = 24, 150
"""Largest numbers of images and points of a view; more are thinned out, as the page states."""
RIM = 95
"""Percentile of the lengths at the rim of the colour wheel; with the maximum, one far match would make others pale."""
_SCRIPTS = ("base.js", "linked.js", "clips.js", "flows.js", "start.js")
_PER_SECOND = 4.0


@dataclass(frozen=True)
class View:
    """A view of the page: its kind, the id of its data, and the data as JSON."""

    kind: str
    key: str
    data: Markup
    width: int = 0


@cache
def scripts() -> Markup:
    """Return the JavaScript of all views."""
    folder = resources.files("ditprobe.report").joinpath("static")
    return Markup("\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS))


@cache
def style() -> Markup:
    """Return the style sheet of every page."""
    return Markup(resources.files("ditprobe.report").joinpath("static", "report.css").read_text(encoding="utf-8"))


def json_of(values: Any) -> Markup:
    """Return values as JSON that is safe in a script element.

    Examples
    --------
    >>> json_of({"name": "</script>"})
    Markup('{"name":"\\\\u003c/script>"}')
    """
    return Markup(json.dumps(values, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


def view(kind: str, values: Any, names: Iterator[str], *, width: int = 0) -> View:
    """Return a view with the next id."""
    return View(kind, f"{next(names)}-data", json_of(values), width)


def packed(values: np.ndarray) -> dict[str, Any]:
    """Return an array as two-byte integers and their scale; the largest error is 1/65534 of the range.

    Examples
    --------
    >>> packed(np.array([-2.0, 1.0]))["bytes"], packed(np.zeros(2))["scale"]
    ('AYAAQA==', 1.0)
    """
    largest = float(np.max(np.abs(values), initial=0.0))
    scale = largest / 32767 or 1.0
    whole = np.round(values / scale).astype("<i2")
    return {"kind": "i2", "shape": list(values.shape), "scale": scale, "bytes": _base64(whole)}


def _levels(values: np.ndarray, largest: np.ndarray) -> dict[str, Any]:
    """Weights as the square root of their fraction of the largest, in 255 levels."""
    parts = np.sqrt(values / np.where(largest > 0, largest, 1))
    return {"kind": "u1", "shape": list(values.shape), "scale": 1 / 255, "bytes": _base64(np.round(255 * parts))}


def _base64(whole: np.ndarray) -> str:
    kind = whole.dtype if whole.dtype.kind == "i" else np.uint8
    return base64.b64encode(np.ascontiguousarray(whole, dtype=kind).tobytes()).decode()


def clip_data(
    clip: Clip,
    predicted: np.ndarray | PointTracks,
    *,
    attention: xr.DataArray | None = None,
) -> dict[str, Any]:
    """Return the data of a clip with tracks on it, and with the attention of some of its points.

    Parameters
    ----------
    clip : Clip; the truth is drawn if it has tracks
    predicted : PointTracks, or (image, point, 2) float, (x, y) in pixels of the clip
    attention : DataArray (point, frame, y, x), optional, as of :func:`analyses.attention.rows.attention_of_points`

    Raises
    ------
    InvalidInputError
        For predictions and truths that do not fit each other.
    """
    tracks, starts, seen = _predicted(clip, predicted)
    truth = clip.tracks if clip.tracks is not None and clip.tracks.shape == tracks.shape else None
    if clip.tracks is not None and truth is None:
        raise InvalidInputError(
            f"the prediction has shape {tracks.shape} and the truth {clip.tracks.shape}. Pass the same points and "
            "images in both."
        )
    seen = clip.visibility if truth is not None and clip.visibility is not None else seen
    shown = strided(len(clip), MOST_IMAGES)
    where = None if attention is None else _points_of(attention, tracks)
    keep = sorted({*evenly(tracks.shape[1], MOST_POINTS), *(where or ())})
    colours = [f"rgb({r},{g},{b})" for r, g, b in start_colours(starts[keep], clip.height, clip.width)]
    found: dict[str, Any] = {
        "height": clip.height,
        "width": clip.width,
        "images": [encoded_image(clip.images[image]) for image in shown],
        "labels": [str(image) for image in shown],
        "perSecond": _PER_SECOND,
        "colours": colours,
        "predicted": packed(tracks[shown][:, keep]),
    }
    if truth is not None:
        found["truth"] = packed(truth[shown][:, keep])
    if seen is not None:
        found["hidden"] = packed((~seen[shown][:, keep]).astype(float))
    if attention is not None and where is not None:
        found["frames"] = [str(frame) for frame in numbers(attention, "frame")]
        found["attention"] = _attention(attention, [keep.index(point) for point in where], shown, len(clip))
    return found


def _predicted(clip: Clip, predicted: np.ndarray | PointTracks) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Tracks (image, point, 2), the query of each point, and its predicted visibility."""
    if isinstance(predicted, PointTracks):
        tracks, starts, seen = predicted.tracks, predicted.queries[:, 1:], predicted.visibility
    else:
        tracks, seen = np.asarray(predicted, np.float64), None
        starts = tracks[0] if tracks.ndim == 3 else tracks
    if tracks.ndim != 3 or len(tracks) != len(clip) or tracks.shape[2] != 2 or not tracks.shape[1]:
        raise InvalidInputError(f"predicted needs dims (image, point, 2) with {len(clip)} images; got {tracks.shape}.")
    if not np.isfinite(tracks).all():
        raise InvalidInputError("predicted holds positions that are not finite.")
    return tracks, starts, seen


def _points_of(attention: xr.DataArray, tracks: np.ndarray) -> list[int]:
    """The track that starts nearest to each point whose attention is shown."""
    image = int(attention["image"].values[_source(attention)])
    places = np.stack([attention["point_x"].values, attention["point_y"].values], -1)
    away = np.linalg.norm(tracks[min(image, len(tracks) - 1)][None] - places[:, None], axis=-1)
    found: list[int] = []
    for row in away:
        found.append(next(int(point) for point in np.argsort(row) if point not in found))
    return found


def _source(attention: xr.DataArray) -> int:
    return int(attention["source_frame"]) if "source_frame" in attention.coords else 0


def _attention(attention: xr.DataArray, points: list[int], shown: list[int], images: int) -> dict[str, Any]:
    values = attention.transpose("point", "frame", "y", "x").values.astype(np.float64)
    largest = values.max((2, 3))
    frames = frames_of_images("attention", attention, images)
    middle = attention["image"].values
    return {
        "points": points,
        "cells": np.stack([attention["row"].values, attention["column"].values], -1).tolist(),
        "source": _source(attention),
        "frameOf": [frames[image] for image in shown],
        "frameImages": [int(np.argmin(np.abs(np.array(shown) - image))) for image in middle],
        "shares": rounded(values.sum((2, 3))),
        "largest": rounded(largest),
        "levels": _levels(values, largest[..., None, None]),
    }


def rounded(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Return all values in order, rounded to a number of digits; None for values that were not recorded.

    Examples
    --------
    >>> rounded(np.array([[1.23456, np.nan]]))
    [1.235, None]
    """
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in np.ravel(values).tolist()]


def rim_of(lengths: np.ndarray) -> float:
    """Return the length with full saturation: the :data:`RIM`-th percentile, or the largest if that is 0.

    Examples
    --------
    >>> rim_of(np.arange(101.0)), rim_of(np.zeros(3))
    (95.0, 1.0)
    """
    return float(np.percentile(lengths, RIM)) or float(lengths.max()) or 1.0


def flow_data(
    clip: Clip, flows: Sequence[Sequence[xr.DataArray]], *, layers: Sequence[str], steps: Sequence[str], rim: float
) -> dict[str, Any]:
    """Return the data of the flows of one clip, from each frame to each other.

    Parameters
    ----------
    clip : Clip
    flows : for each step, for each layer, DataArray (frame, frame_to, y, x, xy), in cells
    layers, steps : their names
    rim : length with full saturation
    """
    first = flows[0][0]
    middle = [int(image) for image in first["image"].values]
    return {
        "height": clip.height,
        "width": clip.width,
        "images": [encoded_image(clip.images[image]) for image in middle],
        "imageNumbers": middle,
        "frames": [int(frame) for frame in numbers(first, "frame")],
        "cells": [first.sizes["y"], first.sizes["x"]],
        "layers": list(layers),
        "steps": list(steps),
        "flows": [packed(flow.values) for row in flows for flow in row],
        "rim": rim,
        "layer": 0,
        "step": 0,
        "perSecond": _PER_SECOND,
    }


def transfer_data(
    reference: Clip,
    clip: Clip,
    flows: Sequence[Sequence[tuple[xr.DataArray, xr.DataArray]]],
    *,
    layers: Sequence[str],
    steps: Sequence[str],
) -> dict[str, Any]:
    """Return the data of a reference and a result, each beside the displacement of its parts since image 0.

    Parameters
    ----------
    reference, clip : Clip, of the same size and length
    flows : for each step, for each layer, the flow of the reference and that of the result
    layers, steps : their names
    """
    shown = strided(len(clip), MOST_IMAGES)
    pairs = [pair for row in flows for pair in row]
    # negative zero becomes zero, so that no cell reads -0.00
    come = [[0.0 - flow.values[:, 0].astype(np.float64) for flow in pair] for pair in pairs]
    lengths = np.concatenate([np.hypot(*np.moveaxis(each, -1, 0)).ravel() for pair in come for each in pair])
    moved = lengths[lengths > 0]
    sides = []
    for place, (name, each) in enumerate((("reference", reference), ("result", clip))):
        frames = frames_of_images(name, pairs[0][place], len(each))
        sides.append(
            {
                "name": name,
                "images": [encoded_image(each.images[image]) for image in shown],
                "frameOf": [frames[image] for image in shown],
                "flows": [packed(pair[place]) for pair in come],
            }
        )
    grid = pairs[0][0].sizes
    return {
        "height": clip.height,
        "width": clip.width,
        "labels": [str(image) for image in shown],
        "cells": [grid["y"], grid["x"]],
        "layers": list(layers),
        "steps": list(steps),
        "sides": sides,
        "rim": rim_of(moved) if moved.size else 1.0,
        "layer": 0,
        "step": 0,
        "perSecond": _PER_SECOND,
    }
