"""Tracks of a clip in its latent frames: where points are in the predicted latents, and where they are seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from probe.backbones.backbone import Backbone
from store.arguments import Array, check_fields, checked
from store.checks import finite, integer
from store.clips.clip import Clip
from store.errors import ClipError, InvalidInputError

TracksPreset = Literal["exact", "paper", "det"]


@dataclass(frozen=True, eq=False)
class LatentTracks:
    """Points in latent frames.

    Parameters
    ----------
    points : (frame, point, 2) float tensor, (x, y) in latent cells before patching, cell centres at +0.5
    visible : (frame, point) bool tensor
    size : (rows, columns) of a latent frame

    Raises
    ------
    InvalidInputError
        For shapes that do not belong together.
    """

    points: Tensor
    visible: Tensor
    size: tuple[int, int]

    def __post_init__(self) -> None:
        check_fields(self)
        if self.points.ndim != 3 or self.points.shape[-1] != 2 or self.visible.shape != self.points.shape[:2]:
            raise InvalidInputError(
                f"points need the shape (frame, point, 2) and visible (frame, point); got {tuple(self.points.shape)} "
                f"and {tuple(self.visible.shape)}."
            )

    def __repr__(self) -> str:
        frames, points = self.visible.shape
        return f"LatentTracks({points} points in {frames} frames of {self.size[0]} x {self.size[1]} cells)"


@checked
def latent_tracks(
    backbone: Backbone,
    latents: Tensor,
    clip: Clip,
    tracks: Array,
    visibility: Array,
    *,
    preset: TracksPreset = "exact",
) -> LatentTracks:
    """Tracks of a clip at the times of its latent frames.

    Parameters
    ----------
    backbone : Backbone
    latents : (1, ...) tensor
        Latents of the clip, as ``backbone.encode`` gives them.
    clip : Clip
    tracks : (image, point, 2), (x, y) in pixels of the clip, pixel centres at +0.5
    visibility : (image, point) bool
    preset : "exact", "paper" or "det"
        "exact": positions are interpolated at the mean time of the images that a latent frame covers, and a point is
        seen where it is in both images around that time. "paper" and "det", as released: latent frame k has image
        ``int(linspace(0, images - 1, frames)[k])``, the last one of its span.

    Raises
    ------
    InvalidInputError
        For tracks of another length, or a visible point outside the image.
    """
    points, seen = np.asarray(tracks, np.float64), np.asarray(visibility, bool)
    check_tracks(clip, points, seen)
    frames = latents.shape[backbone.frame_axis]
    rows, columns = (int(each) for each in latents.shape[-2:])
    if preset == "exact":
        times = latent_times(backbone, len(clip), frames)
        low = np.floor(times).astype(int)
        high = np.minimum(low + 1, len(clip) - 1)
        part = (times - low)[:, None, None]
        at, visible = points[low] * (1 - part) + points[high] * part, seen[low] & (seen[high] | (part[..., 0] == 0))
    else:
        chosen = np.linspace(0, len(clip) - 1, frames).astype(int)
        at, visible = points[chosen], seen[chosen]
    scale = np.array([columns / clip.width, rows / clip.height])
    return LatentTracks(
        torch.from_numpy(at * scale).float().to(latents.device),
        torch.from_numpy(visible).to(latents.device),
        (rows, columns),
    )


def latent_times(backbone: Backbone, images: int, frames: int) -> np.ndarray:
    """Return the image time that each latent frame stands for, the mean of its span; padded ones have that of image 0.

    Examples
    --------
    >>> from probe import load_backbone
    >>> latent_times(load_backbone("mini"), 6, 6)
    array([0., 1., 2., 3., 4., 5.])
    """
    stride = backbone.strides[0]
    own = (images - 1) // stride + 1
    times = [0.0, *(1 + stride * k + (stride - 1) / 2 for k in range(own - 1))]
    return np.array([0.0] * (frames - own) + times)


def check_tracks(clip: Clip, tracks: np.ndarray, visibility: np.ndarray) -> None:
    """Raise if tracks are not those of a clip.

    Raises
    ------
    InvalidInputError
        For other shapes, values that are not finite, or a visible point outside the image.
    """
    if tracks.ndim != 3 or tracks.shape[-1] != 2 or len(tracks) != len(clip) or visibility.shape != tracks.shape[:2]:
        raise InvalidInputError(
            f"tracks need the shape ({len(clip)}, point, 2) and visibility ({len(clip)}, point) for this clip; got "
            f"{tracks.shape} and {visibility.shape}."
        )
    if not np.isfinite(tracks).all():
        raise InvalidInputError("tracks hold values that are not finite.")
    x, y = tracks[..., 0], tracks[..., 1]
    outside = visibility & ((x < 0) | (y < 0) | (x > clip.width) | (y > clip.height))
    if outside.any():
        image, point = (int(each) for each in np.argwhere(outside)[0])
        raise InvalidInputError(
            f"point {point} is visible in image {image} at (x, y) = ({x[image, point]:g}, {y[image, point]:g}), "
            f"outside the image of {clip.height} x {clip.width} px (height x width). Mark it hidden, or give tracks in "
            "pixels of this clip."
        )


@checked
def sample_foreground(mask: Array, count: int, *, radius: float = 5.0, seed: int = 0) -> np.ndarray:
    """Draw points of a mask, those in thin parts more often (DeT, section 3.3.1).

    A pixel is drawn with a probability in proportion to one over the number of pixels of the mask within ``radius``,
    without repetition as long as there are enough.

    Parameters
    ----------
    mask : (y, x) bool
    count : int
    radius : float
        Pixels.
    seed : int

    Returns
    -------
    (count, 2) float64, (x, y) in pixels, at pixel centres

    Raises
    ------
    ClipError
        For an empty mask.

    Examples
    --------
    >>> mask = np.zeros((20, 40), bool)
    >>> mask[2:18, 2:18], mask[10, 18:38] = True, True  # a square with a thin arm
    >>> arm = sample_foreground(mask, 1000)[:, 0] > 18
    >>> bool(arm.mean() > mask[:, 18:].sum() / mask.sum())
    True
    """
    from scipy.ndimage import convolve

    region = np.asarray(mask, bool)
    if region.ndim != 2:
        raise InvalidInputError(f"mask must be (y, x); got {region.ndim} axes.")
    integer(count, "count", min_value=1)
    reach = int(finite(radius, "radius", min_value=0))
    if not region.any():
        raise ClipError("the mask of image 0 is empty, so no points can be drawn from it. Leave the mask out.")
    offsets = np.arange(-reach, reach + 1)
    disc = (offsets[:, None] ** 2 + offsets[None] ** 2 <= radius**2).astype(np.int64)
    density = convolve(region.astype(np.int64), disc, mode="constant")
    pixels = np.argwhere(region)
    weights = 1.0 / density[region]
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(pixels), count, replace=count > len(pixels), p=weights / weights.sum())
    return pixels[chosen][:, ::-1].astype(np.float64) + 0.5


def mask_of(clip: Clip, mask: Any = None) -> np.ndarray | None:
    """Return where the foreground is in image 0, (y, x) bool; None if it is not known.

    Parameters
    ----------
    clip : Clip
    mask : (y, x) array, optional
        By default that of the clip.

    Raises
    ------
    ClipError
        For a mask of another size than the clip.
    """
    if mask is None:
        return None if clip.masks is None else np.asarray(clip.masks[0]) > 0
    found = np.asarray(mask)
    if found.shape != (clip.height, clip.width):
        raise ClipError(
            f"the mask has the shape {found.shape}, the images of the clip are {clip.height} x {clip.width} px (height "
            "x width). Resize it."
        )
    return found > 0
