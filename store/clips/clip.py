"""A video clip with what is known about it: point tracks, visibility, masks, a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, overload

import numpy as np
from PIL import Image

from store.arguments import checked
from store.checks import finite, integer, shown, text
from store.clips.clip_checks import check_array, check_images, check_masks, checked_tracks, checked_visibility
from store.clips.from_array import Axes, to_images
from store.errors import ClipError, InvalidInputError


@dataclass(frozen=True)
class Part:
    """Images that a clip has of a longer video: ``first``, ``first + stride`` and so on, of ``images`` in all."""

    first: int
    stride: int
    images: int

    def __post_init__(self) -> None:
        integer(self.first, "first", min_value=0)
        integer(self.stride, "stride", min_value=1)
        integer(self.images, "images", min_value=1)


MOST_PIXELS = 16_384
"""On a side of an image that is made or resized here: far above any video, far below what fills the memory."""


@dataclass(frozen=True, eq=False, repr=False)
class Clip:
    """Images of one video and, where known, the tracks of points in it.

    Parameters
    ----------
    images : (image, y, x, 3) uint8, RGB
    fps : float
        Images per second.
    tracks : (image, point, 2) float, (x, y) in pixels of the clip, pixel centres at +0.5, optional
        Hidden points may lie outside the image.
    visibility : (image, point) bool, optional
        Whether each point is seen. Tracks without visibility count as seen everywhere.
    masks : (image, y, x) or (1, y, x) bool or uint8, optional
        Where the objects are (0 is background; a uint8 may number them): in every image, or in image 0 alone.
    prompt : str, optional
        What the clip shows.
    tracks_source : str, optional
        Who estimated the tracks, such as "optical flow", where they are estimates: whatever is measured against them
        says so.
    part : Part, optional
        Which images of a longer video these are; kept by slices and by :func:`store.clips.video.read_clip`.

    Raises
    ------
    ClipError
        No images, a wrong shape or dtype, tracks of another length, tracks that are not finite.

    Notes
    -----
    A slice, ``clip[3:20:2]``, cuts tracks, visibility and masks with the images, and divides the images per second by
    its stride. Its arrays are views.

    Examples
    --------
    >>> Clip(np.zeros((9, 80, 112, 3), np.uint8), fps=8, tracks=np.ones((9, 4, 2)), prompt="a red ball")
    Clip(9 images of 80 x 112 px (height x width) at 8 fps, 4 tracked points (100 % visible), prompt 'a red ball')
    """

    images: np.ndarray
    fps: float
    tracks: np.ndarray | None = None
    visibility: np.ndarray | None = None
    masks: np.ndarray | None = None
    prompt: str | None = None
    tracks_source: str | None = None
    part: Part | None = None

    def __post_init__(self) -> None:
        try:
            finite(self.fps, "fps", above=0)
        except InvalidInputError as error:
            raise ClipError(f"fps must be a positive number; got {shown(self.fps)}.") from error
        for name in ("images", "tracks", "visibility", "masks"):
            check_array(getattr(self, name), name)
        check_images(self.images)
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise ClipError(f"prompt must be text; got {shown(self.prompt)}.")
        if self.tracks is not None:
            object.__setattr__(self, "tracks", checked_tracks(self.tracks, len(self)))
        if self.visibility is not None or self.tracks is not None:
            object.__setattr__(self, "visibility", checked_visibility(self.visibility, self.tracks))
        if self.masks is not None:
            check_masks(self.masks, self.images.shape[:3])
        if self.tracks_source is not None and self.tracks is None:
            raise ClipError(f"tracks_source {text(self.tracks_source, 'tracks_source')!r} was given without tracks.")
        if self.part is not None:
            object.__setattr__(self, "part", _checked_part(self.part, len(self)))

    @classmethod
    def of_part(
        cls,
        images: np.ndarray,
        fps: float,
        part: Part,
        *,
        tracks: Any = None,
        visibility: Any = None,
        masks: Any = None,
        prompt: str | None = None,
        tracks_source: str | None = None,
    ) -> Self:
        """The clip of some images of a video, cut out of what is known of the whole video.

        Parameters
        ----------
        images : (image, y, x, 3) uint8, only those of the part
        fps : float
            Images per second of the part.
        part : Part
        tracks, visibility, masks : of every image of the video, see :class:`Clip`
        prompt, tracks_source : see :class:`Clip`

        Raises
        ------
        ClipError
            As :class:`Clip`, where something does not fit the whole video.

        Examples
        --------
        >>> images, tracks = np.zeros((2, 80, 112, 3), np.uint8), np.arange(18.0).reshape(9, 1, 2)
        >>> Clip.of_part(images, 8, Part(3, 2, 9), tracks=tracks).tracks[:, 0, 0]
        array([ 6., 10.])
        """
        check_images(images)
        if tracks is not None:
            tracks = checked_tracks(tracks, part.images)
        if visibility is not None:
            visibility = checked_visibility(visibility, tracks)
        if masks is not None:
            check_masks(masks, (part.images, *images.shape[1:3]))
        chosen = slice(part.first, part.first + part.stride * (len(images) - 1) + 1, part.stride)
        cut = (_cut(tracks, chosen), _cut(visibility, chosen), _cut_masks(masks, part.images, chosen))
        return cls(images, fps, *cut, prompt, tracks_source, part)

    @classmethod
    def from_array(cls, images: Any, fps: float, *, channels: Axes | None = None, **known: Any) -> Self:
        """A clip of floats, tensors or images with their channels first; see :func:`store.clips.from_array.to_images`.

        Examples
        --------
        >>> len(Clip.from_array(np.full((4, 3, 8, 8), 0.5), fps=8, prompt="grey"))
        4
        """
        return cls(to_images(images, channels=channels), fps, **known)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, chosen: slice) -> Clip: ...

    @overload
    def __getitem__(self, chosen: int) -> np.ndarray: ...

    def __getitem__(self, chosen: slice | int) -> Clip | np.ndarray:
        """One image (y, x, 3) by its number, or some of them as a clip; see the notes of :class:`Clip`."""
        if isinstance(chosen, int | np.integer) and not isinstance(chosen, bool):
            if not -len(self) <= chosen < len(self):
                raise ClipError(f"image {chosen} does not exist: the clip has images 0 to {len(self) - 1}.")
            image: np.ndarray = self.images[chosen]
            return image
        if not isinstance(chosen, slice):
            raise InvalidInputError(
                f"a clip is cut by a slice, such as clip[3:20:2], or asked for an image by its number; got {chosen!r}."
            )
        start, stop, stride = chosen.indices(len(self))
        if stride < 1:
            raise InvalidInputError(f"a clip is cut forward in time; got a slice with the stride {stride}.")
        if start >= stop:
            asked = ":".join("" if end is None else str(end) for end in (chosen.start, chosen.stop))
            raise ClipError(f"the slice {asked} of a clip of {len(self)} images is empty. Cut out at least one.")
        chosen = slice(start, stop, stride)
        before = self.part or Part(0, 1, len(self))
        part = Part(before.first + before.stride * start, before.stride * stride, before.images)
        return Clip(
            self.images[chosen],
            self.fps / stride,
            _cut(self.tracks, chosen),
            _cut(self.visibility, chosen),
            _cut_masks(self.masks, len(self), chosen),
            self.prompt,
            self.tracks_source,
            part,
        )

    def take(self, images: Sequence[int] | np.ndarray) -> Clip:
        """Some images by their numbers, with their tracks, visibility and masks; they need not be evenly spaced.

        The images per second stay. A single mask of image 0 stays where image 0 comes first.

        Raises
        ------
        InvalidInputError
            When there are no numbers, or one is not that of an image.

        Examples
        --------
        >>> clip = Clip(np.zeros((4, 8, 8, 3), np.uint8), fps=8, tracks=np.arange(8.0).reshape(4, 1, 2))
        >>> clip.take([0, 1, 3]).tracks[:, 0, 0]
        array([0., 2., 6.])
        """
        numbers = np.asarray(images)
        if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iu":
            raise InvalidInputError(f"images must be numbers of images, such as [0, 1, 3]; got {shown(images)}.")
        if numbers.min() < 0 or numbers.max() >= len(self):
            raise InvalidInputError(f"the clip has images 0 to {len(self) - 1}; got {numbers.tolist()}.")
        masks = self.masks
        if masks is not None:
            masks = masks[numbers] if len(masks) == len(self) else masks if numbers[0] == 0 else None
        tracks, visibility = (None if each is None else each[numbers] for each in (self.tracks, self.visibility))
        return replace(self, images=self.images[numbers], tracks=tracks, visibility=visibility, masks=masks, part=None)

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.images.shape[1]

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.images.shape[2]

    @checked
    def window(self, start: int, stop: int) -> Clip:
        """Images ``start`` to ``stop - 1`` with their part of the tracks, visibility and masks.

        A single mask of image 0 stays only in windows that start there.

        Raises
        ------
        ClipError
            When the window is empty or leaves the clip.

        Examples
        --------
        >>> len(Clip(np.zeros((9, 80, 112, 3), np.uint8), fps=8).window(2, 7))
        5
        """
        if not 0 <= start < stop <= len(self):
            raise ClipError(f"window {start} to {stop} does not lie within the {len(self)} images of the clip.")
        return self[start:stop]

    @checked
    def resized(self, height: int, width: int) -> Clip:
        """The clip at another size: images antialiased (bicubic), tracks scaled with them, masks nearest.

        Raises
        ------
        ClipError
            For a size below one pixel.

        Examples
        --------
        >>> clip = Clip(np.zeros((1, 80, 112, 3), np.uint8), fps=8, tracks=np.array([[[56.0, 40.0]]]))
        >>> clip.resized(40, 28).tracks
        array([[[14., 20.]]])
        """
        if height < 1 or width < 1:
            raise ClipError(f"a clip needs at least 1 x 1 pixels; got height {height} and width {width}.")
        if height > MOST_PIXELS or width > MOST_PIXELS:
            raise ClipError(f"a clip has at most {MOST_PIXELS} pixels on a side; got {shown(max(height, width))}.")
        if (height, width) == (self.height, self.width):
            return self
        tracks = self.tracks
        if tracks is not None:
            tracks = tracks * np.array([width / self.width, height / self.height], tracks.dtype)
        images = _resize(self.images, height, width, Image.Resampling.BICUBIC)
        masks = self.masks
        if masks is not None:
            masks = _resize(masks.astype(np.uint8), height, width, Image.Resampling.NEAREST).astype(masks.dtype)
        return replace(self, images=images, tracks=tracks, masks=masks)

    def _repr_html_(self) -> str:
        from store.notebook import clip_html

        return clip_html(self)

    def __repr__(self) -> str:
        size = f"{self.height} x {self.width} px (height x width)"
        parts = [f"{len(self)} image{'s' if len(self) > 1 else ''} of {size} at {self.fps:g} fps"]
        if self.tracks is not None and self.visibility is not None:
            share = f" ({100 * self.visibility.mean():.0f} % visible)" if self.visibility.size else ""
            points = self.tracks.shape[1]
            kind = (
                f"point{'s' * (points != 1)} tracked by {self.tracks_source}"
                if self.tracks_source
                else "tracked points"
            )
            parts.append(f"{points} {kind}{share}")
        if self.masks is not None:
            parts.append("masks" if len(self.masks) == len(self) else "mask of image 0")
        if self.prompt:
            shown = self.prompt if len(self.prompt) <= 60 else self.prompt[:59] + "…"
            parts.append(f"prompt {shown!r}")
        return f"Clip({', '.join(parts)})"


def _cut(values: np.ndarray | None, chosen: slice) -> np.ndarray | None:
    return None if values is None else values[chosen]


def _cut_masks(masks: np.ndarray | None, images: int, chosen: slice) -> np.ndarray | None:
    """The masks of some images; a single one is that of image 0, and stays with it."""
    if masks is None or len(masks) == images:
        return _cut(masks, chosen)
    return masks if chosen.start == 0 else None


def _resize(values: np.ndarray, height: int, width: int, how: Image.Resampling) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(value).resize((width, height), how)) for value in values])


def _checked_part(part: Part, images: int) -> Part | None:
    """None for the whole video."""
    last = part.first + part.stride * (images - 1)
    if last >= part.images:
        raise ClipError(f"image {last} is named as a part of a video of {part.images} images.")
    return None if part == Part(0, 1, images) else part
