"""Tracks of points with visibility and confidence: the result of every tracker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import xarray as xr

from store.arguments import Array, check_fields, check_kind, checked
from store.arrays import as_array
from store.checks import integer
from store.errors import InvalidInputError
from store.text import pixels


@dataclass(frozen=True, eq=False)
class PointTracks:
    """Positions of each query point in every image.

    Parameters
    ----------
    queries : (point, 3) float, (image, x, y), x and y in pixels of the clip
    tracks : (image, point, 2) float, (x, y) in pixels of the clip, pixel centres at +0.5; in a point's own image it is
        the query, unchanged
    visibility : (image, point) bool
    confidence : (image, point) float, 0 to 1
    details : how they were made: JSON values by name

    Raises
    ------
    InvalidInputError
        For shapes that do not belong together, or values that are not finite.

    Examples
    --------
    >>> PointTracks.still(np.array([[2, 10.0, 20.0]]), 9)
    PointTracks(1 point in 9 images, 100 % visible)
    """

    queries: np.ndarray
    tracks: np.ndarray
    visibility: np.ndarray
    confidence: np.ndarray
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.tracks.ndim != 3:
            raise InvalidInputError(f"tracks needs the shape (image, point, 2); got {self.tracks.shape}.")
        images, points = self.tracks.shape[:2]
        wanted = {
            "queries": (points, 3),
            "tracks": (images, points, 2),
            "visibility": (images, points),
            "confidence": (images, points),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise InvalidInputError(
                    f"{name} needs the shape {shape} for {images} images of {points} points; "
                    f"got {getattr(self, name).shape}."
                )
        if self.visibility.dtype != bool:
            raise InvalidInputError(f"visibility must be bool; got {self.visibility.dtype}.")
        for name in ("queries", "tracks", "confidence"):
            if not np.isfinite(getattr(self, name)).all():
                raise InvalidInputError(f"{name} holds values that are not finite.")

    def _repr_html_(self) -> str:
        from store.notebook import repr_html

        return repr_html(repr(self))

    def __repr__(self) -> str:
        images, points = self.visibility.shape
        share = f", {100 * self.visibility.mean():.0f} % visible" if points else ""
        return f"PointTracks({points} point{'s' * (points != 1)} in {images} image{'s' * (images != 1)}{share})"

    @classmethod
    @checked
    def still(cls, queries: np.ndarray, images: int) -> PointTracks:
        """Nothing moves and everything is visible: the simplest baseline.

        Raises
        ------
        InvalidInputError
            For queries of another shape than (point, 3), or fewer than one image.
        """
        queries = as_array(queries).astype(np.float64)
        if queries.ndim != 2 or queries.shape[1] != 3:
            raise InvalidInputError(f"queries need the shape (point, 3); got {queries.shape}.")
        integer(images, "images", min_value=1, max_value=10**6)
        tracks = np.broadcast_to(queries[None, :, 1:], (images, len(queries), 2)).astype(np.float64)
        seen = np.ones(tracks.shape[:2], bool)
        return cls(np.asarray(queries, np.float64), tracks, seen, seen.astype(np.float64), {"tracker": "nothing moves"})

    def to_dataset(self) -> xr.Dataset:
        """``tracks`` (image, point, xy), ``visibility`` and ``confidence`` (image, point), ``queries`` as coordinates.

        It saves with ``to_zarr`` or ``to_netcdf``; :meth:`from_dataset` reads it back, and
        :func:`store.tracks.files.save_tracks` does it all.
        """
        point = ("point",)
        return xr.Dataset(
            {
                "tracks": (("image", "point", "xy"), self.tracks, {"units": "px", "long_name": "position"}),
                "visibility": (("image", "point"), self.visibility, {"long_name": "whether the point is seen"}),
                "confidence": (("image", "point"), self.confidence, {"units": "1", "long_name": "confidence"}),
            },
            {
                "xy": np.array(["x", "y"], object),  # Zarr has no specification for text of fixed length
                "query_image": (point, self.queries[:, 0].astype(np.int64)),
                "query_x": (point, self.queries[:, 1], {"units": "px"}),
                "query_y": (point, self.queries[:, 2], {"units": "px"}),
            },
            {"details": json.dumps(dict(self.details))},
        )

    @classmethod
    @checked
    def from_dataset(cls, dataset: xr.Dataset) -> PointTracks:
        """Tracks from a dataset that :meth:`to_dataset` made.

        Raises
        ------
        InvalidInputError
            For another dataset.
        """
        wanted = ("tracks", "visibility", "confidence", "query_image", "query_x", "query_y")
        missing = [name for name in wanted if name not in dataset.variables]
        if missing:
            raise InvalidInputError(f"the dataset holds no tracks: it lacks {', '.join(missing)}.")
        queries = np.stack([dataset[f"query_{name}"].values.astype(np.float64) for name in ("image", "x", "y")], -1)
        try:
            details = json.loads(dataset.attrs.get("details", "{}"))
        except (TypeError, ValueError) as error:
            raise InvalidInputError("the dataset's attribute 'details' is not JSON.") from error
        return cls(
            queries,
            dataset["tracks"].values,
            dataset["visibility"].values.astype(bool),
            dataset["confidence"].values,
            details,
        )


class Tracker(Protocol):
    """Anything that tracks points; what baselines and evaluations call."""

    def __call__(self, images: np.ndarray, queries: np.ndarray) -> PointTracks:
        """uint8 (image, y, x, 3) and (point, 3) queries as (image, x, y) to tracks."""
        ...


def check_queries(queries: Any, images: int, height: int, width: int) -> np.ndarray:
    """Queries as float64 (point, 3), rejected when a point is not in the clip.

    Raises
    ------
    InvalidInputError
        Names the first offending query, and suggests swapping x and y if that would fix it.

    Examples
    --------
    >>> check_queries([[0, 12.5, 3.0]], images=9, height=80, width=112)
    array([[ 0. , 12.5,  3. ]])
    """
    try:
        check_kind(queries, Array, "queries")
    except InvalidInputError as error:
        raise InvalidInputError(
            f"queries need the shape (point, 3), each as (image, x, y) in pixels, and hold numbers: {error}"
        ) from error
    found = as_array(queries).astype(np.float64)
    if found.size == 0:
        return np.zeros((0, 3))
    if found.ndim != 2 or found.shape[1] != 3:
        raise InvalidInputError(
            f"queries need the shape (point, 3), each as (image, x, y) in pixels; got {found.shape}."
        )
    if not np.isfinite(found).all():
        bad = int(np.flatnonzero(~np.isfinite(found).all(1))[0])
        raise InvalidInputError(f"query {bad} is not finite: {found[bad].tolist()}.")
    if (found[:, 0] != np.round(found[:, 0])).any():
        bad = int(np.flatnonzero(found[:, 0] != np.round(found[:, 0]))[0])
        raise InvalidInputError(
            f"query {bad} asks for image {found[bad, 0]:g}; queries are (image, x, y) with a whole image number first."
        )
    outside = (found[:, 0] < 0) | (found[:, 0] >= images)
    if outside.any():
        bad = int(np.flatnonzero(outside)[0])
        raise InvalidInputError(
            f"query {bad} is in image {found[bad, 0]:g}, but the clip has images 0 to {images - 1}."
        )
    x, y = found[:, 1], found[:, 2]
    outside = (x < 0) | (x > width) | (y < 0) | (y > height)
    if outside.any():
        bad = int(np.flatnonzero(outside)[0])
        swapped = ((y >= 0) & (y <= width) & (x >= 0) & (x <= height)).all()
        hint = " With x and y exchanged all would lie inside: are they (y, x)?" if swapped else ""
        raise InvalidInputError(
            f"query {bad} at (x, y) = ({x[bad]:g}, {y[bad]:g}) lies outside the clip of {pixels(height, width)}.{hint}"
        )
    return found


def grid_points(count: int, height: int, width: int) -> np.ndarray:
    """Centres of ``count`` x ``count`` equal parts of an image, row after row: (point, 2), (x, y) in pixels.

    Examples
    --------
    >>> grid_points(2, height=40, width=80).tolist()
    [[20.0, 10.0], [60.0, 10.0], [20.0, 30.0], [60.0, 30.0]]
    """
    centres = (np.arange(count) + 0.5) / count
    y, x = np.meshgrid(centres * height, centres * width, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], -1)
