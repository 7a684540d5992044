"""Checks of the images, tracks, visibility and masks of a clip."""

from __future__ import annotations

from typing import Any

import numpy as np

from store.arguments import Array, check_kind
from store.arrays import as_array
from store.errors import ClipError, InvalidInputError


def check_array(values: Any, name: str) -> None:
    if values is None:
        return
    try:
        check_kind(values, Array, name)
    except InvalidInputError as error:
        raise ClipError(str(error)) from error


def check_images(images: Any) -> None:
    shape, dtype = getattr(images, "shape", None), getattr(images, "dtype", None)
    if not isinstance(images, np.ndarray) or dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] != 3:
        found = type(images).__name__ if shape is None else f"{dtype} of shape {tuple(shape)}"
        raise ClipError(f"images must be a uint8 array (image, y, x, 3); got {found}.")
    if 0 in images.shape:
        raise ClipError(f"the clip has no images: its shape is {images.shape}.")


def checked_tracks(tracks: Any, images: int) -> np.ndarray:
    tracks = as_array(tracks)
    if tracks.ndim != 3 or tracks.shape[2] != 2 or tracks.dtype.kind not in "fiu":
        raise ClipError(f"tracks must be numbers (image, point, 2); got {tracks.dtype} of shape {tracks.shape}.")
    if len(tracks) != images:
        raise ClipError(f"tracks cover {len(tracks)} images, the clip has {images}. Cut one to fit the other.")
    tracks = tracks if tracks.dtype.kind == "f" else tracks.astype(np.float32)
    bad = np.argwhere(~np.isfinite(tracks).all(-1))
    if len(bad):
        image, point = bad[0].tolist()
        raise ClipError(
            f"tracks are not finite in {len(bad)} places, first at image {image}, point {point}. "
            f"Give hidden points a position and mark them in visibility."
        )
    return tracks


def checked_visibility(visibility: Any, tracks: np.ndarray | None) -> np.ndarray:
    if tracks is None:
        raise ClipError("visibility was given without tracks. Pass the tracks it belongs to.")
    if visibility is None:
        return np.ones(tracks.shape[:2], bool)
    visibility = as_array(visibility)
    if visibility.dtype != bool or visibility.shape != tracks.shape[:2]:
        raise ClipError(
            f"visibility must be bool (image, point) = {tracks.shape[:2]} like the tracks; "
            f"got {visibility.dtype} of shape {visibility.shape}."
        )
    return visibility


def check_masks(masks: Any, shape: tuple[int, ...]) -> None:
    count, height, width = shape
    if getattr(masks, "dtype", None) not in (np.dtype(bool), np.dtype(np.uint8)) or masks.shape not in (
        (count, height, width),
        (1, height, width),
    ):
        found = f"{getattr(masks, 'dtype', type(masks).__name__)} of shape {np.shape(masks)}"
        raise ClipError(
            f"masks must be bool or uint8 of shape {(count, height, width)}, "
            f"or {(1, height, width)} for image 0 alone; got {found}."
        )
