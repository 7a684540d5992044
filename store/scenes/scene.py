"""Synthetic clips whose motion is known exactly: textured objects over a background seen by a moving camera."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from store.arguments import checked
from store.checks import finite, integer, one_of
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.scenes.prompt import (
    DIRECTIONS,
    MOST_OBJECTS,
    SHAPES,
    TEXTURES,
    CameraWords,
    ObjectWords,
    ScenePrompt,
    parse_prompt,
)
from store.scenes.texture import COLOURS, PATTERNS, Texture

FIRST_TRAINING_SEED = 10_000_000

PATHS = ("straight", "curved", "accelerating", "any")
"""How the objects and the camera of a scene can move."""

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
        return inside_shape(self.shape, local / self.radius)


def inside_shape(shape: str, unit: np.ndarray) -> np.ndarray:
    """Mask of the points inside an upright shape around the origin.

    Parameters
    ----------
    shape : one of :data:`store.scenes.prompt.SHAPES`
    unit : (..., 2) float, (x, y) in radii of the shape, y pointing down

    Returns
    -------
    (...) bool

    Raises
    ------
    InvalidInputError
        For another shape.

    Examples
    --------
    >>> inside_shape("ring", np.array([[0.0, 0.0], [0.0, 0.9], [1.1, 0.0]]))
    array([False,  True, False])
    """
    one_of(shape, SHAPES, "shape")
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


class _Narrow(np.random.Generator):
    """A generator whose uniform numbers lie nearer to the middle of their range: at it where ``spread`` is 0."""

    def __init__(self, rng: np.random.Generator, spread: float) -> None:
        super().__init__(rng.bit_generator)
        self.spread = spread

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        middle = (low + high) / 2
        return middle + self.spread * (super().uniform(low, high, size) - middle)


def _pick(rng: np.random.Generator, options: Iterable[str]) -> str:
    options = tuple(options)
    return options[rng.integers(len(options))]


def _draw_prompt(rng: np.random.Generator) -> ScenePrompt:
    """Draw the content of a scene. All colours differ; half have one object; two in ten cameras are static."""
    count = 1 + rng.choice(MOST_OBJECTS, p=(0.5, 0.3, 0.2))
    colours = rng.permutation(tuple(COLOURS))[: count + 1].tolist()
    objects = tuple(
        ObjectWords(
            colour, _pick(rng, SHAPES), _pick(rng, DIRECTIONS), None if rng.random() < 0.5 else _pick(rng, TEXTURES)
        )
        for colour in colours[:-1]
    )
    pattern, camera = _pick(rng, PATTERNS), CameraWords()
    if rng.random() > 0.2:
        pan = _pick(rng, DIRECTIONS) if rng.random() < 0.9 else None
        change = rng.random() if pan else rng.uniform(0.5, 1.0)
        zoom = _pick(rng, ("in", "out")) if 0.5 <= change < 0.75 else None
        camera = CameraWords(pan, zoom, _pick(rng, ("left", "right")) if change >= 0.75 else None)
    return ScenePrompt(objects, colours[-1], pattern, camera)


def _completed(prompt: ScenePrompt, rng: np.random.Generator) -> ScenePrompt:
    """The prompt with what it leaves open drawn by ``rng``."""
    objects = tuple(
        replace(
            words,
            shape=words.shape or _pick(rng, SHAPES),
            direction=words.direction or _pick(rng, DIRECTIONS),
        )
        for words in prompt.objects
    )
    camera = prompt.camera
    if camera.open:
        camera = CameraWords(pan=_pick(rng, DIRECTIONS))
        change = rng.random()
        if change < 0.25:
            camera = replace(camera, zoom=_pick(rng, ("in", "out")))
        elif change < 0.5:
            camera = replace(camera, turn=_pick(rng, ("left", "right")))
    return ScenePrompt(objects, prompt.background_colour, prompt.background_pattern or _pick(rng, PATTERNS), camera)


def _velocity(rng: np.random.Generator, direction: str, low: float, high: float) -> np.ndarray:
    """(x, y) of a motion that :func:`direction_word` calls ``direction``, ``low`` to ``high`` long."""
    angle = (DIRECTIONS.index(direction) + rng.uniform(-0.5, 0.5)) * math.pi / 4
    return rng.uniform(low, high) * np.array([math.cos(angle), math.sin(angle)])


@dataclass(frozen=True)
class _Path:
    """The way from place to place: straight at constant speed where ``bend`` is 0 and ``power`` 1.

    ``bend`` is how far the heading turns between the first image and the last, in radians; the line between both ends
    keeps its direction. A ``power`` above 1 starts slowly, one below 1 ends slowly.
    """

    bend: float = 0.0
    power: float = 1.0

    @classmethod
    def draw(cls, rng: np.random.Generator, kind: str) -> _Path:
        kind = _pick(rng, PATHS[:3]) if kind == "any" else kind
        if kind == "curved":
            return cls(bend=rng.choice((-1.0, 1.0)) * rng.uniform(1.2, 2.4))
        if kind == "accelerating":
            return cls(power=rng.uniform(1.8, 2.6) ** rng.choice((-1.0, 1.0)))
        return cls()

    def at(self, time: np.ndarray) -> np.ndarray:
        """(image,) complex: along the velocity and across it, 0 at time 0 and about 1 long at time 1."""
        passed = time**self.power
        if not self.bend:
            return passed + 0j
        start, turned = -0.5j * self.bend, 1j * self.bend
        return np.exp(start) * (np.exp(turned * passed) - 1) / turned

    def moved(self, time: np.ndarray, velocity: np.ndarray, start: float = 0.0) -> np.ndarray:
        """(image, 2) pixels from the place at the time ``start``."""
        if not self.bend and self.power == 1.0:
            return (time[:, None] - start) * velocity
        way = (self.at(time) - self.at(np.array([start]))) * complex(*velocity)
        return np.stack([way.real, way.imag], -1)


def _camera(
    rng: np.random.Generator, words: CameraWords, time: np.ndarray, centre: np.ndarray, unit: float, path: _Path
) -> _Motion:
    """The motion of the background: the other way than the camera's."""
    shift = -_velocity(rng, words.pan, 5.0, 13.0) * unit if words.pan else np.zeros(2)
    zoom = {None: 0.0, "in": 1.0, "out": -1.0}[words.zoom] * rng.uniform(0.1, 0.25)
    turn = {None: 0.0, "left": 1.0, "right": -1.0}[words.turn] * rng.uniform(0.1, 0.3)
    return _Motion(centre + path.moved(time, shift), time * turn, np.exp(time * zoom))


def _object(
    rng: np.random.Generator, words: ObjectWords, time: np.ndarray, size: np.ndarray, unit: float, path: _Path
) -> _Layer:
    if words.direction is None or words.shape is None:
        raise InvalidInputError(f"an object needs a direction and a shape to be drawn; got {words}.")
    near_centre = rng.uniform(0.35, 0.65, 2) * size
    motion = _Motion(
        near_centre + path.moved(time, _velocity(rng, words.direction, 10.0, 18.0), 0.25) * unit,
        rng.uniform(-0.4, 0.4) + time * rng.uniform(-0.4, 0.4),
        np.exp((time - 0.5) * rng.uniform(-0.25, 0.25)),
    )
    pattern = TEXTURES[words.texture] if words.texture else "clouds"
    texture = Texture.draw(rng, words.colour, pattern, unit, period=(5.0, 8.0))
    return _Layer(motion, texture, words.shape, rng.uniform(6.0, 9.5) * unit)


def _compose(
    rng: np.random.Generator, prompt: ScenePrompt, paths: list[_Path], images: int, height: int, width: int
) -> list[_Layer]:
    """Layers from front to back, each with its path; the camera's is the last."""
    time = np.linspace(0.0, 1.0, images) if images > 1 else np.zeros(1)
    size = np.array([width, height], dtype=np.float64)
    unit = min(height, width) / _REFERENCE_SIZE
    objects = [_object(rng, words, time, size, unit, path) for words, path in zip(prompt.objects, paths, strict=False)]
    motion = _camera(rng, prompt.camera, time, size / 2, unit, paths[-1])
    texture = Texture.draw(rng, prompt.background_colour, prompt.background_pattern or "clouds", unit)
    return [*objects, _Layer(motion, texture, None, 1.0)]


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


_MOST = 16_384  # images, and pixels on a side
_MOST_PIXELS, _MOST_POINTS = 2**28, 2**20


@checked
def make_scene(
    seed: int,
    images: int = 6,
    height: int = 40,
    width: int = 40,
    *,
    prompt: str | None = None,
    leave_open: Iterable[str] = (),
    path: str = "straight",
    single: bool = False,
    spread: float = 1.0,
    cell: float = 4.0,
    fps: float = 8.0,
) -> Clip:
    """A clip of moving textured shapes with exact tracks, exact occlusion and a prompt that describes it.

    One to three objects of six shapes move, turn, grow and hide one another (the first named lies in front) over a
    textured background that a camera pans across, zooms and turns. Motion is as seen in the image, at constant speed,
    and spans the same share of the image whatever the number of images. The defaults are the geometry of the bundled
    backbones.

    Parameters
    ----------
    seed : int
        Same seed, same clip. Training draws only from seeds >= 10,000,000; lower ones are for tests and evaluation.
    images, height, width : int
        Video frames and their size in pixels.
    prompt : str, optional
        What to draw, in the grammar of :mod:`store.scenes.prompt`; the seed then decides only what it leaves open
        (places, speeds, sizes, noise, and the parts of an open prompt). By default the seed decides that as well.
    leave_open : iterable of :data:`store.scenes.prompt.PARTS`
        Parts that the clip's prompt does not name. The pictures are the same.
    path : one of :data:`PATHS`
        How objects and camera move: ``straight`` at constant speed, ``curved`` (the heading turns by 70 to 140
        degrees), ``accelerating`` (or slowing down), or ``any`` of these for each of them. The direction in the
        prompt is that from the first image to the last.
    single : bool
        Draw the first object alone, and without a texture; the clip's prompt says so.
    spread : float in 0 to 1
        Share of the usual differences in all that a prompt does not name but noise: places, angles, sizes, speeds, and
        the periods of patterns. With 0 each of them is the mean, so that the prompt decides where every object and
        every stripe is.
    cell : float
        Spacing of the tracked points in pixels: they start at the centres of cells of this size.
    fps : float
        Images per second.

    Returns
    -------
    Clip
        images uint8 (image, y, x, 3); tracks (image, point, 2) float64, (x, y) in pixels, pixel centres at +0.5;
        visibility (image, point), all true in image 0; the prompt.

    Raises
    ------
    InvalidInputError
        For sizes that hold no cell, a negative seed, an unknown part or path, a spread outside 0 to 1, or a prompt
        outside the grammar.

    Examples
    --------
    >>> clip = make_scene(3)
    >>> clip.images.shape, clip.tracks.shape
    ((6, 40, 40, 3), (6, 100, 2))
    >>> make_scene(3, prompt="a red disc moves left over blue stripes").prompt
    'a red disc moves left over blue stripes'
    >>> make_scene(3, prompt="a red disc moves left over blue stripes", leave_open=["motion"], path="curved").prompt
    'a red disc over blue stripes'
    >>> make_scene(3, prompt="a red dotted disc moves left and a pink star moves up over blue dots", single=True).prompt
    'a red disc moves left over blue dots'
    """
    one_of(path, PATHS, "path")
    finite(spread, "spread", least=0, most=1)
    if seed < 0:
        raise InvalidInputError(f"seed must not be negative; got {seed}.")
    finite(cell, "cell", above=0)
    finite(fps, "fps", above=0)
    for name, count in (("images", images), ("height", height), ("width", width)):
        integer(count, name, most=_MOST)
    if images * height * width > _MOST_PIXELS or height * width > _MOST_POINTS * cell * cell:
        raise InvalidInputError(
            f"a scene of {images} images of {height} x {width} px with cells of {cell:g} px is too large to draw: at "
            f"most {_MOST_PIXELS} pixels in all images together, and {_MOST_POINTS} cells. Make it smaller."
        )
    if images < 1 or height < cell or width < cell:
        raise InvalidInputError(
            f"a scene needs at least one image and one cell of {cell:g} pixels; "
            f"got {images} images of {height} x {width}."
        )
    rng = np.random.default_rng(seed)
    words = _draw_prompt(rng) if prompt is None else parse_prompt(prompt)
    if single:
        words = replace(words, objects=(replace(words.objects[0], texture=None),))
    # what is new draws from generators of its own, so that scenes of old calls stay as they were
    full = _completed(words, np.random.default_rng([seed, 1]))
    turns = np.random.default_rng([seed, 2])
    paths = [_Path.draw(turns, path) for _ in (*full.objects, full.camera)]
    layers = _compose(rng if spread == 1.0 else _Narrow(rng, spread), full, paths, images, height, width)
    ys, xs = (cell * (np.arange(int(length // cell)) + 0.5) for length in (height, width))
    points = np.stack(np.broadcast_arrays(xs[None, :], ys[:, None]), -1).reshape(-1, 2)
    tracks, visible = _track(layers, points, height, width)
    said = str(words.leave_open(leave_open))
    return Clip(_render(layers, images, height, width), fps=fps, tracks=tracks, visibility=visible, prompt=said)
