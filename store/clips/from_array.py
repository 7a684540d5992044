"""Images of any usual kind, floats, tensors or channels first, as the uint8 images of a clip."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from store.arrays import as_array
from store.errors import ClipError

Axes = Literal["last", "first"]


def to_images(images: Any, *, channels: Axes | None = None) -> np.ndarray:
    """uint8 RGB images (image, y, x, 3) from an array or a tensor.

    Parameters
    ----------
    images : (image, y, x, channel) or (image, channel, y, x), uint8 from 0 to 255 or floats from 0 to 1
        With 3 channels, or 1 that stands for all three.
    channels : "last" or "first", optional
        Where the channels are; needed where both could be.

    Raises
    ------
    ClipError
        For another rank or kind, values outside of the range, or axes that could be either.

    Examples
    --------
    >>> to_images(np.full((2, 3, 8, 8), 0.5)).shape
    (2, 8, 8, 3)
    """
    array = as_array(images)
    if array.ndim != 4:
        raise ClipError(f"images must have four axes, such as (image, y, x, channel); got the shape {array.shape}.")
    if channels is None:
        last, first = array.shape[3] in (1, 3), array.shape[1] in (1, 3)
        if last and first:
            raise ClipError(
                f"the channels of {array.shape} could be first or last.", remedy="Pass channels='last' or 'first'."
            )
        channels = "first" if first else "last"
    if channels == "first":
        array = np.moveaxis(array, 1, 3)
    if array.shape[3] not in (1, 3):
        raise ClipError(f"images have 1 or 3 channels; got {array.shape[3]} of the shape {array.shape}.")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min(initial=0) < 0 or array.max(initial=0) > 1:
            raise ClipError(
                "images of floats must be from 0 to 1.",
                remedy="Divide by 255, or take (images + 1) / 2 where they are from -1 to 1.",
            )
        array = np.rint(array.astype(np.float32) * 255)
    elif array.dtype != np.uint8:
        raise ClipError(f"images must be uint8 from 0 to 255 or floats from 0 to 1; got {array.dtype}.")
    return np.ascontiguousarray(np.broadcast_to(array.astype(np.uint8), (*array.shape[:3], 3)))
