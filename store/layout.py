"""Places of the tokens of a video transformer in the clip; nothing else converts between the two.

A *cell* is one video token's patch of pixels. A *frame* is a latent frame, an *image* a decoded video frame: a
causal video VAE folds several images into one frame, so frame and image numbers differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from store.arguments import Array, check_fields, checked
from store.checks import integer, one_of
from store.errors import InvalidInputError
from store.text import pixels

GeometryPreset = Literal["exact", "difftrack"]
_PAIRS: dict[Any, Any] = {}
_MOST_PAIRS = 256
_MOST = 10**7  # of anything that is counted here; far beyond what a video or a model has


def _like(points: Any, values: tuple[float, float]) -> Any:
    """A pair of numbers as the same kind of array as ``points`` (store imports no torch)."""
    if hasattr(points, "new_tensor"):
        key = values, points.dtype, points.device
        if key not in _PAIRS:  # copied to a device once
            made = points.new_tensor(values)
            if made.is_inference():
                return made
            if len(_PAIRS) >= _MOST_PAIRS:
                _PAIRS.clear()
            _PAIRS[key] = made
        return _PAIRS[key]
    dtype = points.dtype if np.issubdtype(points.dtype, np.floating) else np.float64
    return np.asarray(values, dtype=dtype)


def _as_points(points: Any) -> Any:
    if not hasattr(points, "new_tensor"):
        points = np.asarray(points)
    elif not points.is_floating_point():
        points = points.double()
    if points.ndim < 1 or points.shape[-1] != 2:
        raise InvalidInputError(f"points need (x, y) on the last axis; got shape {tuple(points.shape)}.")
    return points


def _on_cpu(points: Any) -> np.ndarray:
    """Points of any kind as float64 numbers, also those of a tensor with gradients."""
    return np.asarray(points.detach().double().cpu() if hasattr(points, "detach") else points, dtype=np.float64)


def _causal_spans(frames: int, images: int) -> tuple[range, ...]:
    if frames == 1:
        if images != 1:
            raise InvalidInputError(
                f"1 frame cannot cover {images} images without spans. Pass spans=[range(0, {images})]."
            )
        return (range(1),)
    stride, rest = divmod(images - 1, frames - 1)
    if rest or stride < 1:
        raise InvalidInputError(
            f"{images} images do not divide into image 0 and {frames - 1} equal spans. "
            f"Pass spans: one range of images per frame."
        )
    return (range(1), *(range(1 + stride * k, 1 + stride * (k + 1)) for k in range(frames - 1)))


@dataclass(frozen=True)
class TokenLayout:
    """The grid of video tokens and the pixels and images it stands for.

    Parameters
    ----------
    frames, height, width : int
        Latent frames and token rows and columns.
    pixel_height, pixel_width : int
        Size of the clip in pixels.
    images : int
        Decoded video frames of the clip.
    text_tokens : int
        Text tokens that take part in the same self-attention (0 where text is attended separately).
    spans : iterable of range, optional
        The images that each frame covers. By default image 0 alone, then a causal stride of
        ``(images - 1) / (frames - 1)``, which must be whole.

    Raises
    ------
    InvalidInputError
        For sizes below one, or images that the spans do not fit.

    Examples
    --------
    >>> layout = TokenLayout(13, 30, 45, 480, 720, 49)
    >>> layout.cell_size, layout.images_of(2), layout.frame_of(8)
    ((16.0, 16.0), range(5, 9), 2)
    """

    frames: int
    height: int
    width: int
    pixel_height: int
    pixel_width: int
    images: int
    text_tokens: int = 0
    spans: Iterable[range] | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "height", "width", "pixel_height", "pixel_width", "images"):
            object.__setattr__(self, name, integer(getattr(self, name), name, min_value=1))
            integer(getattr(self, name), name, max_value=_MOST)
        if integer(self.text_tokens, "text_tokens", max_value=_MOST) < 0:
            raise InvalidInputError(f"text_tokens must not be negative; got {self.text_tokens}.")
        check_fields(self)
        spans = _causal_spans(self.frames, self.images) if self.spans is None else tuple(self.spans)
        if len(spans) != self.frames:
            raise InvalidInputError(f"spans needs one range per frame: {self.frames} frames, {len(spans)} spans.")
        for span in spans:
            if len(span) < 1 or span.step != 1 or span.start < 0 or span.stop > self.images:
                raise InvalidInputError(f"span {span} does not lie within images 0 to {self.images - 1}.")
        for before, after in itertools.pairwise(spans):
            if after.start < before.stop:
                raise InvalidInputError(
                    f"spans {before} and {after} overlap or descend. Give each image to one frame, in order of time."
                )
        object.__setattr__(self, "spans", spans)

    @property
    def cell_size(self) -> tuple[float, float]:
        """Pixels per cell, ``(dy, dx)``."""
        return self.pixel_height / self.height, self.pixel_width / self.width

    @property
    def video_tokens(self) -> int:
        """Tokens of the whole video: frames x height x width."""
        return self.frames * self.height * self.width

    @property
    def frame_centres(self) -> np.ndarray:
        """(frame,) float: the image time each frame stands for; the mean of its span."""
        return np.array([(span.start + span.stop - 1) / 2 for span in self._spans])

    @property
    def _spans(self) -> tuple[range, ...]:
        return cast("tuple[range, ...]", self.spans)

    @checked
    def images_of(self, frame: int) -> range:
        """The images that a latent frame covers."""
        if not 0 <= frame < self.frames:
            raise InvalidInputError(f"frame {frame} is outside 0 to {self.frames - 1}.")
        return self._spans[frame]

    @checked
    def frame_of(self, image: int) -> int:
        """The latent frame that covers an image."""
        for frame, span in enumerate(self._spans):
            if image in span:
                return frame
        raise InvalidInputError(f"image {image} is covered by no frame of this layout (images 0 to {self.images - 1}).")

    @checked
    def to_cells(self, points: Array, preset: GeometryPreset = "exact") -> Any:
        """Pixel points as continuous cell coordinates.

        Parameters
        ----------
        points : (..., 2) torch or numpy, (x, y) in pixels of the clip, pixel centres at +0.5
        preset : "exact" puts integers at cell centres, ``x / dx - 0.5``; "difftrack" is the released ``x / dx``.

        Returns
        -------
        (..., 2) of the same kind, (x, y) in cells. For the integer cell that holds a point see :meth:`cell_at`.

        Examples
        --------
        >>> TokenLayout(3, 5, 7, 80, 112, 9).to_cells(np.array([8.0, 24.0]))
        array([0., 1.])
        """
        one_of(preset, get_args(GeometryPreset), "preset")
        points = _as_points(points)
        dy, dx = self.cell_size
        return points / _like(points, (dx, dy)) - (0.5 if preset == "exact" else 0.0)

    @checked
    def to_pixels(self, cells: Array, preset: GeometryPreset = "exact") -> Any:
        """Continuous cell coordinates (x, y) as pixel points: the inverse of :meth:`to_cells`.

        Examples
        --------
        >>> TokenLayout(3, 5, 7, 80, 112, 9).to_pixels(np.array([0.0, 1.0]))
        array([ 8., 24.])
        """
        one_of(preset, get_args(GeometryPreset), "preset")
        cells = _as_points(cells)
        dy, dx = self.cell_size
        return (cells + (0.5 if preset == "exact" else 0.0)) * _like(cells, (dx, dy))

    @checked
    def cell_at(self, points: Array) -> np.ndarray:
        """The integer cell (y, x) that holds each pixel point (x, y).

        Parameters
        ----------
        points : (..., 2), (x, y) in pixels of the clip; must lie within it.

        Returns
        -------
        (..., 2) int64 numpy array, (y, x).
        """
        points = _on_cpu(points)
        self.check_inside(points)
        dy, dx = self.cell_size
        cells = np.floor(np.stack([points[..., 1] / dy, points[..., 0] / dx], axis=-1)).astype(np.int64)
        return np.minimum(cells, [self.height - 1, self.width - 1])

    @checked
    def check_inside(self, points: Array) -> None:
        """Raise for points that are not finite or lie outside the image.

        Raises
        ------
        InvalidInputError
            Names the first offending point and the size of the image.
        """
        points = _as_points(_on_cpu(points)).reshape(-1, 2)
        if not np.isfinite(points).all():
            bad = int(np.flatnonzero(~np.isfinite(points).all(-1))[0])
            raise InvalidInputError(f"point {bad} is not finite: (x, y) = {tuple(points[bad].tolist())}.")
        outside = ((points < 0) | (points > [self.pixel_width, self.pixel_height])).any(-1)
        if outside.any():
            bad = int(np.flatnonzero(outside)[0])
            x, y = points[bad].tolist()
            raise InvalidInputError(
                f"point {bad} at (x, y) = ({x:g}, {y:g}) is outside the image of "
                f"{pixels(self.pixel_height, self.pixel_width)}."
            )
