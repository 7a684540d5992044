"""Tracks drawn on the images of a clip, for videos and strips of images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from analyses.arrays import as_images
from analyses.plots.colours import start_colours
from analyses.plots.theme import evenly
from store.arguments import Array, checked
from store.checks import finite, integer
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks

_FINE = 4  # factor by which images are enlarged for drawing and then averaged down, which smooths edges
_DARK, _WHITE = (20, 22, 28), (255, 255, 255)
_LABEL = 18  # pixels below each image of a strip
_GAP = 4  # pixels between them
_VIEWED = 320  # shorter side in pixels above which a video is comfortable to watch
_JUMP = 0.125  # in drawn scenes of six images things move by up to 0.09 of the diagonal, in filmed ones by half of that


def viewing_scale(height: int, width: int) -> int:
    """The integer factor by which a small clip should be enlarged for viewing; 1 for a clip that is large enough.

    Examples
    --------
    >>> viewing_scale(40, 40), viewing_scale(480, 720)
    (8, 1)
    """
    return max(1, math.ceil(_VIEWED / min(height, width)))


@checked
def draw_tracks(
    images: Array,
    tracks: PointTracks,
    *,
    trail: int = 10,
    jump: float = _JUMP,
    radius: float | None = None,
    scale: int = 1,
) -> np.ndarray:
    """Draw the points on every image of a clip.

    A visible point is a disc, a hidden one a ring through which the image is visible. Both have the colour of the query
    position (:func:`analyses.plots.colours.start_colours`) and a dark edge; in the image of the query the edge is
    white. A trail shows the recent path of a point, thinner for earlier images. It is interrupted where the point is
    hidden and where it jumps.

    Parameters
    ----------
    images : (image, y, x, 3) uint8
    tracks : PointTracks of as many images
    trail : number of past images that a trail covers; 0 draws none
    jump : fraction of the diagonal of the image; longer steps between consecutive images are not drawn. By default an
        eighth; ``math.inf`` draws every step
    radius : of the discs, in pixels of the result; by default 1/70 of its shorter side, at least 3
    scale : integer factor by which the images are enlarged, each pixel to a square; :func:`viewing_scale` proposes one

    Returns
    -------
    (image, scale * y, scale * x, 3) uint8, new

    Raises
    ------
    InvalidInputError
        For images of another type or number, and options below their minimum.

    Examples
    --------
    >>> images = np.zeros((9, 40, 40, 3), np.uint8)
    >>> draw_tracks(images, PointTracks.still(np.array([[0, 20.5, 10.5]]), 9), scale=4).shape
    (9, 160, 160, 3)
    """
    return np.stack(list(drawn_images(images, tracks, trail=trail, jump=jump, radius=radius, scale=scale)))


@checked
def drawn_images(
    images: Array,
    tracks: PointTracks,
    *,
    trail: int = 10,
    jump: float = _JUMP,
    radius: float | None = None,
    scale: int = 1,
) -> Iterator[np.ndarray]:
    """The images of :func:`draw_tracks` one after the other, for clips whose pictures do not fit into memory."""
    pen = _Pen.of(images, tracks, trail=trail, jump=jump, radius=radius, scale=scale)
    return (pen.drawn(number) for number in range(len(pen.images)))


@checked
def overlay_strip(
    images: Array,
    tracks: PointTracks,
    count: int = 6,
    *,
    trail: int = 10,
    jump: float = _JUMP,
    radius: float | None = None,
    scale: int = 1,
) -> np.ndarray:
    """Evenly spaced images of :func:`draw_tracks` side by side, each with its number below.

    Images with queries have a dark bar below them.

    Parameters
    ----------
    images, tracks, trail, jump, radius, scale : as in :func:`draw_tracks`
    count : images of the strip, including the first and the last; fewer if the clip has fewer

    Returns
    -------
    (y, x, 3) uint8

    Raises
    ------
    InvalidInputError
        As :func:`draw_tracks`, and for a count below one.

    Examples
    --------
    >>> images = np.zeros((9, 40, 40, 3), np.uint8)
    >>> overlay_strip(images, PointTracks.still(np.array([[0, 20.5, 10.5]]), 9), 3, scale=2).shape
    (98, 248, 3)
    """
    integer(count, "count", min_value=1)
    pen = _Pen.of(images, tracks, trail=trail, jump=jump, radius=radius, scale=scale)
    asked_in = set(tracks.queries[:, 0].astype(int).tolist())
    parts = []
    for number in evenly(len(pen.images), count):
        picture = pen.drawn(number)
        parts += [_labelled(picture, number, number in asked_in), _blank(picture.shape[0] + _LABEL, _GAP)]
    return np.concatenate(parts[:-1], axis=1)


def _blank(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def _labelled(picture: np.ndarray, number: int, asked: bool) -> np.ndarray:
    label = Image.fromarray(_blank(_LABEL, picture.shape[1]))
    draw = ImageDraw.Draw(label)
    if asked:
        draw.rectangle((0, 0, picture.shape[1], _LABEL), fill=_DARK)
    draw.text((4, 3), str(number), fill=_WHITE if asked else _DARK, font=ImageFont.load_default())
    return np.concatenate([picture, np.asarray(label)])


@dataclass(frozen=True, eq=False)
class _Pen:
    """Checked input; some fields are in pixels of the enlarged image, as stated."""

    images: np.ndarray
    tracks: PointTracks
    trail: int
    radius: float  # fine pixels
    scale: int
    colours: list[tuple[int, int, int]]
    followed: np.ndarray  # (image - 1, point) bool: whether the step to the next image is drawn

    @classmethod
    def of(cls, images: Any, tracks: PointTracks, *, trail: int, jump: float, radius: float | None, scale: int) -> _Pen:
        pictures = as_images(images)
        count, height, width = pictures.shape[:3]
        if len(tracks.tracks) != count:
            raise InvalidInputError(f"images are {count}, but the tracks have {len(tracks.tracks)} images.")
        if integer(scale, "scale", max_value=64) < 1:
            raise InvalidInputError(f"scale must be a whole number, at least 1; got {scale}.")
        if trail < 0:
            raise InvalidInputError(f"trail must be at least 0 images; got {trail}.")
        if not jump >= 0:
            raise InvalidInputError(f"jump must be at least 0, a share of the diagonal of the image; got {jump}.")
        if radius is not None and not finite(radius, "radius", max_value=scale * (height + width)) > 0:
            raise InvalidInputError(f"radius must be a positive number of pixels; got {radius}.")
        radius = radius or max(3.0, scale * min(height, width) / 70)
        colours = [(r, g, b) for r, g, b in start_colours(tracks.queries[:, 1:], height, width).tolist()]
        followed = _followed(tracks, jump * math.hypot(height, width))
        return cls(pictures, tracks, int(trail), radius * _FINE, int(scale), colours, followed)

    def drawn(self, number: int) -> np.ndarray:
        """One image with its points."""
        fine = self.scale * _FINE
        picture = Image.fromarray(np.ascontiguousarray(self.images[number]))
        picture = picture.resize((picture.width * fine, picture.height * fine), Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(picture)
        for point in range(len(self.colours)):
            self._trail(draw, number, point, fine)
        for point in range(len(self.colours)):
            self._point(draw, number, point, fine)
        return np.asarray(picture.reduce(_FINE))

    def _trail(self, draw: ImageDraw.ImageDraw, number: int, point: int, fine: int) -> None:
        """Draw coloured strokes over dark ones, to be visible on any image."""
        first = max(0, number - self.trail)
        places = self.tracks.tracks[:, point] * fine
        steps = [image for image in range(first, number) if self.followed[image, point]]
        for colour, edge in ((_DARK, _FINE), (self.colours[point], 0)):
            for image in steps:
                age = 1 - (number - image - 1) / self.trail
                width = round(max(_FINE, self.radius * 0.7 * age)) + edge
                draw.line([(x, y) for x, y in places[image : image + 2]], fill=colour, width=width)

    def _point(self, draw: ImageDraw.ImageDraw, number: int, point: int, fine: int) -> None:
        centre = self.tracks.tracks[number, point] * fine
        own = int(self.tracks.queries[point, 0]) == number
        edge = _WHITE if own else _DARK
        stroke = max(_FINE, round(self.radius * 0.3))
        visible = self.tracks.visibility[number, point]
        _circle(draw, centre, self.radius + stroke, edge, None if visible else stroke)
        _circle(draw, centre, self.radius, self.colours[point], None if visible else stroke)


def _followed(tracks: PointTracks, longest: float) -> np.ndarray:
    """(image - 1, point) bool: whether a point is visible at both ends of a step that is not too long."""
    length = np.linalg.norm(np.diff(tracks.tracks, axis=0), axis=-1)
    return tracks.visibility[1:] & tracks.visibility[:-1] & (length <= longest)


def _circle(
    draw: ImageDraw.ImageDraw,
    centre: np.ndarray,
    radius: float,
    colour: tuple[int, int, int],
    stroke: int | None,
) -> None:
    """A disc, or a ring of the given pixels inside the radius."""
    x, y = centre
    box = (x - radius, y - radius, x + radius, y + radius)
    if stroke is None:
        draw.ellipse(box, fill=colour)
    else:
        draw.ellipse(box, outline=colour, width=stroke)
