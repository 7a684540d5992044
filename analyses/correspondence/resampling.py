"""Tracks at latent-frame rate, brought to image rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analyses.arrays import as_tensor, restore_kind
from store.arguments import Array, checked
from store.checks import integer
from store.errors import InvalidInputError
from store.layout import GeometryPreset, TokenLayout


@checked
def to_image_rate(tracks: Array, layout: TokenLayout, images: int, preset: GeometryPreset = "exact") -> Any:
    """Tracks at image rate: linear between the times of the latent frames.

    Parameters
    ----------
    tracks : (..., frame, point, 2) torch or numpy, (x, y) in pixels
    layout : TokenLayout
    images : how many images the clip has; where that is not ``layout.images``, the frame centres are scaled by
        ``(images - 1) / (layout.images - 1)``, which keeps the first image first
    preset : "exact" interpolates between the frame centres and holds the ends; "difftrack" resamples the frames to the
        images with half-sample alignment, as if every frame covered equally many images

    Returns
    -------
    (..., image, point, 2) of the same kind

    Raises
    ------
    InvalidInputError
        When the tracks have another number of frames than the layout, or ``images`` is below one.

    Notes
    -----
    docs/definitions.md, section 1.

    Examples
    --------
    Image 0 is frame 0 alone and frame 1 covers images 1 to 4, so image 1 lies two fifths of the way.

    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> tracks = np.array([[[0.0, 5.0]], [[10.0, 5.0]], [[10.0, 5.0]]])
    >>> to_image_rate(tracks, layout, 9)[:4, 0, 0]
    array([ 0.,  4.,  8., 10.])
    """
    tensor = as_tensor(tracks)
    if tensor.ndim < 3 or tensor.shape[-1] != 2 or tensor.shape[-3] != layout.frames:
        raise InvalidInputError(
            f"tracks need the shape (frame, point, 2) with {layout.frames} frames; got {tuple(tensor.shape)}."
        )
    integer(integer(images, "images", max_value=10**6), "images", min_value=1)
    if not tensor.is_floating_point():
        tensor = tensor.double()
    return restore_kind(tracks)(Resampling.of(layout, images, preset, tensor.device)(tensor))


@dataclass(frozen=True, eq=False)
class Resampling:
    """Frames before and after each image, and its position between them, on a device.

    Attributes
    ----------
    lower, upper : (image,) int64
    share : (image,) float64, or float32 on a device without
    """

    lower: torch.Tensor
    upper: torch.Tensor
    share: torch.Tensor

    @classmethod
    def of(cls, layout: TokenLayout, images: int, preset: GeometryPreset, device: torch.device) -> Resampling:
        """Return the resampling for checked arguments of :func:`to_image_rate`."""
        lower, upper, share = _times(layout, images, preset)
        share = share.astype(np.float32) if device.type == "mps" else share
        return cls(*(torch.as_tensor(part, device=device) for part in (lower, upper, share)))

    def __call__(self, tracks: torch.Tensor) -> torch.Tensor:
        """(..., frame, point, 2) tracks as (..., image, point, 2)."""
        start, stop = tracks.index_select(-3, self.lower), tracks.index_select(-3, self.upper)
        # Start plus a share of the difference: a point that does not move stays exactly where it is.
        return start + (stop - start) * self.share.to(tracks.dtype)[:, None, None]


def _times(layout: TokenLayout, images: int, preset: GeometryPreset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each image the frames before and after it, and its position between them."""
    frames = layout.frames
    if preset == "difftrack":
        place = np.maximum((np.arange(images) + 0.5) * frames / images - 0.5, 0)
        lower = np.minimum(np.floor(place).astype(np.int64), frames - 1)
        return lower, np.minimum(lower + 1, frames - 1), place - lower
    centres = layout.frame_centres * ((images - 1) / max(layout.images - 1, 1))
    upper = np.clip(np.searchsorted(centres, np.arange(images), side="right"), 1, max(frames - 1, 1))
    lower, upper = upper - 1, np.minimum(upper, frames - 1)
    width = centres[upper] - centres[lower]
    share = (np.arange(images) - centres[lower]) / np.where(width > 0, width, 1)
    return lower, upper, np.clip(share, 0, 1)


to_images = to_image_rate
"""The former name of :func:`to_image_rate`."""
