"""Synthetic clips whose motion is known exactly: textured objects over a background seen by a moving camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from store.clip import Clip
from store.errors import InvalidInputError
from store.texture import BACKGROUND_PATTERNS, COLOURS, Texture

FIRST_TRAINING_SEED = 10_000_000
SHAPES = ("disc", "square", "triangle", "ring", "cross", "star")
DIRECTIONS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")

_REFERENCE_SIZE = 32.0  # lengths below are pixels of a 32-pixel image and grow with the image
_OVERSAMPLING = 2
_SAMPLES_AT_ONCE = 1_000_000


def _rotation(angle: np.ndarray | float) -> np.ndarray:
    """(..., 2, 2) matrices that turn (x, y) by ``angle`` radians, clockwise on the screen (y points down)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)


@dataclass(frozen=True)
class _Motion:
    """A similarity motion: a point ``u`` of a layer is seen at ``position + scale * R(angle) u`` in each image."""

    position: np.ndarray  # (image, 2) pixels
    angle: np.ndarray  # (image,) radians
    scale: np.ndarray  # (image,)

    def to_image(self, local: np.ndarray) -> np.ndarray:
        """(point, 2) of the layer to (image, point, 2) pixels."""
        matrix = self.scale[:, None, None] * _rotation(self.angle)
        return np.einsum("tij,nj->tni", matrix, local) + self.position[:, None]

    def to_local(self, points: np.ndarray) -> np.ndarray:
        """(image, ..., 2) pixels to coordinates of the layer."""
        matrix = (_rotation(-self.angle) / self.scale[:, None, None]).astype(points.dtype)
        extra = (1,) * (points.ndim - 2)
        x, y = np.moveaxis(points - self.position.reshape(len(points), *extra, 2).astype(points.dtype), -1, 0)
        a, b, c, d = (matrix[:, i, j].reshape(-1, *extra) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
        return np.stack([a * x + b * y, c * x + d * y], -1)


@dataclass(frozen=True)
class _Layer:
    motion: _Motion
    texture: Texture
    shape: str | None  # None covers everything
    radius: float

    def part(self, images: slice) -> _Layer:
        """The layer in some of the images."""
        motion = _Motion(self.motion.position[images], self.motion.angle[images], self.motion.scale[images])
        return replace(self, motion=motion)

    def covers(self, local: np.ndarray) -> np.ndarray:
        """(..., 2) coordinates of the layer to bool: does the layer hide what lies behind?"""
        if self.shape is None:
            return np.ones(local.shape[:-1], dtype=bool)
        return _inside(self.shape, local / self.radius)


def _inside(shape: str, unit: np.ndarray) -> np.ndarray:
    x, y = unit[..., 0], unit[..., 1]
    if shape == "square":
        return np.maximum(abs(x), abs(y)) < 0.85
    if shape == "triangle":
        return (y < 0.65) & (math.sqrt(3.0) * abs(x) - y < 1.1)
    if shape == "cross":
        return (np.minimum(abs(x), abs(y)) < 0.42) & (np.maximum(abs(x), abs(y)) < 1.0)
    distance = x * x + y * y
    if shape == "disc":
        return distance < 0.9
    if shape == "ring":
        return (distance < 1.0) & (distance > 0.2)
    reach = 0.78 + 0.27 * np.cos(5 * (np.arctan2(y, x) + math.pi / 2))
    return distance < reach * reach


def direction_word(velocity: np.ndarray) -> str:
    """The nearest of eight direction words for a velocity (x, y), y pointing down.

    Examples
    --------
    >>> direction_word(np.array([-2.0, 0.1]))
    'left'
    """
    sector = round(math.atan2(velocity[1], velocity[0]) / (math.pi / 4)) % 8
    return DIRECTIONS[sector]


def _velocity(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    angle, speed = rng.uniform(0, 2 * math.pi), rng.uniform(low, high)
    return speed * np.array([math.cos(angle), math.sin(angle)])


def _camera(rng: np.random.Generator, time: np.ndarray, centre: np.ndarray, unit: float) -> tuple[_Motion, str]:
    """How the background moves, and the words for how the camera does (the background moves the other way)."""
    shift = _velocity(rng, 4.5, 12.0) * unit
    words = f"while the camera pans {direction_word(-shift)}"
    zoom = turn = 0.0
    extra = rng.random()
    if extra < 0.25:
        zoom = rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 0.25)
        words += f" and zooms {'in' if zoom > 0 else 'out'}"
    elif extra < 0.5:
        turn = rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 0.3)
        words += f" and turns {'left' if turn > 0 else 'right'}"
    return _Motion(centre + time[:, None] * shift, time * turn, np.exp(time * zoom)), words


def _object(
    rng: np.random.Generator, time: np.ndarray, size: np.ndarray, unit: float, colour: str
) -> tuple[_Layer, str]:
    velocity = _velocity(rng, 4.5, 12.0) * unit
    middle = rng.uniform(0.2, 0.8, 2) * size
    shape = SHAPES[rng.integers(len(SHAPES))]
    motion = _Motion(
        middle + (time[:, None] - 0.5) * velocity,
        rng.uniform(0, 2 * math.pi) + time * rng.uniform(-0.5, 0.5),
        np.exp((time - 0.5) * rng.uniform(-0.25, 0.25)),
    )
    texture = Texture.draw(rng, colour, "clouds", unit)
    return _Layer(
        motion, texture, shape, rng.uniform(5.0, 8.5) * unit
    ), f"a {colour} {shape} moves {direction_word(velocity)}"


def _compose(rng: np.random.Generator, images: int, height: int, width: int) -> tuple[list[_Layer], str]:
    """Layers from front to back, and the sentence that describes them."""
    time = np.linspace(0.0, 1.0, images) if images > 1 else np.zeros(1)
    size = np.array([width, height], dtype=np.float64)
    unit = min(height, width) / _REFERENCE_SIZE
    count = rng.integers(1, 4)
    colours = rng.permutation(len(COLOURS))[: count + 1]
    names = [list(COLOURS)[index] for index in colours]
    objects = [_object(rng, time, size, unit, name) for name in names[:-1]]
    pattern = BACKGROUND_PATTERNS[rng.integers(len(BACKGROUND_PATTERNS))]
    motion, camera = _camera(rng, time, size / 2, unit)
    background = _Layer(motion, Texture.draw(rng, names[-1], pattern, unit), None, 1.0)
    sentence = " and ".join(words for _, words in objects) + f" over {names[-1]} {pattern} {camera}"
    return [*(layer for layer, _ in objects), background], sentence


def _render(layers: list[_Layer], images: int, height: int, width: int) -> np.ndarray:
    """(image, y, x, 3) uint8, every pixel the mean of 2 x 2 samples; a few images at a time to bound memory."""
    step = 1.0 / _OVERSAMPLING
    rows = (np.arange(height * _OVERSAMPLING, dtype=np.float32) + 0.5) * step
    columns = (np.arange(width * _OVERSAMPLING, dtype=np.float32) + 0.5) * step
    grid = np.stack(np.broadcast_arrays(columns[None, :], rows[:, None]), -1)
    count = max(1, _SAMPLES_AT_ONCE // (len(rows) * len(columns)))
    parts = [slice(start, min(start + count, images)) for start in range(0, images, count)]
    return np.concatenate([_render_part([layer.part(part) for layer in layers], grid) for part in parts])


def _render_part(layers: list[_Layer], grid: np.ndarray) -> np.ndarray:
    images = len(layers[0].motion.angle)
    samples = np.broadcast_to(grid, (images, *grid.shape))
    canvas = np.empty((*samples.shape[:-1], 3), dtype=np.float32)
    free = np.ones(samples.shape[:-1], dtype=bool)
    for layer in layers:
        local = layer.motion.to_local(samples)
        mask = free & layer.covers(local)
        canvas[mask] = layer.texture.at(local[mask])
        free &= ~mask
    height, width = (length // _OVERSAMPLING for length in grid.shape[:2])
    shape = (images, height, _OVERSAMPLING, width, _OVERSAMPLING, 3)
    return np.round(canvas.reshape(shape).mean(axis=(2, 4)) * 255).astype(np.uint8)


def _track(layers: list[_Layer], points: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Tracks (image, point, 2) of what is seen at ``points`` in image 0, and where nothing hides it."""
    images = len(layers[0].motion.angle)
    tracks = np.zeros((images, len(points), 2))
    owner = np.full(len(points), -1)
    for index, layer in enumerate(layers):
        local = layer.motion.to_local(np.broadcast_to(points, (images, *points.shape)))[0]
        mine = (owner < 0) & layer.covers(local)
        owner[mine] = index
        tracks[:, mine] = layer.motion.to_image(local[mine])
    visible = np.all((tracks >= 0) & (tracks < [width, height]), axis=-1)
    for index, layer in enumerate(layers):
        visible &= ~(layer.covers(layer.motion.to_local(tracks)) & (owner > index))
    tracks[0] = points
    return tracks, visible


def make_scene(
    seed: int, images: int = 5, height: int = 32, width: int = 32, *, cell: float = 4.0, fps: float = 8.0
) -> Clip:
    """A clip of moving textured shapes with exact tracks, exact occlusion and a prompt that describes it.

    One to three objects of six shapes move, turn, grow and hide one another over a textured background that a
    camera pans across, zooms and turns. Motion is as seen in the image, at constant speed, and spans the same share
    of the image whatever the number of images. The defaults are the geometry of the bundled backbone.

    Parameters
    ----------
    seed : int
        Same seed, same clip. Training draws only from seeds >= 10,000,000; lower ones are for tests and evaluation.
    images, height, width : int
        Video frames and their size in pixels.
    cell : float
        Spacing of the tracked points in pixels: they start at the centres of cells of this size.
    fps : float
        Images per second.

    Returns
    -------
    Clip
        images uint8 (image, y, x, 3); tracks (image, point, 2) float64, (x, y) in pixels, pixel centres at +0.5;
        visibility (image, point), all true in image 0.

    Raises
    ------
    InvalidInputError
        For sizes that hold no cell, or a negative seed.

    Examples
    --------
    >>> clip = make_scene(3)
    >>> clip.images.shape, clip.tracks.shape
    ((5, 32, 32, 3), (5, 64, 2))
    """
    if seed < 0:
        raise InvalidInputError(f"seed must not be negative; got {seed}.")
    if images < 1 or height < cell or width < cell:
        raise InvalidInputError(
            f"a scene needs at least one image and one cell of {cell:g} pixels; "
            f"got {images} images of {height} x {width}."
        )
    rng = np.random.default_rng(seed)
    layers, prompt = _compose(rng, images, height, width)
    ys, xs = (cell * (np.arange(int(length // cell)) + 0.5) for length in (height, width))
    points = np.stack(np.broadcast_arrays(xs[None, :], ys[:, None]), -1).reshape(-1, 2)
    tracks, visible = _track(layers, points, height, width)
    return Clip(_render(layers, images, height, width), fps=fps, tracks=tracks, visibility=visible, prompt=prompt)
