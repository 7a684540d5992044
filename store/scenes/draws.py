"""Random choices of a scene: what its prompt leaves open, then places, speeds, sizes and textures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from store.errors import InvalidInputError
from store.scenes.layers import Layer, Motion
from store.scenes.prompt import (
    DIRECTIONS,
    MOST_OBJECTS,
    SHAPES,
    TEXTURES,
    CameraWords,
    ObjectWords,
    ScenePrompt,
)
from store.scenes.texture import COLOURS, PATTERNS, Texture

PATHS = ("straight", "curved", "accelerating", "any")
"""How the objects and the camera of a scene can move."""

_REFERENCE_SIZE = 32.0  # lengths below are pixels of a 32-pixel image and grow with the image


class NarrowGenerator(np.random.Generator):
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


def draw_prompt(rng: np.random.Generator) -> ScenePrompt:
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


def complete_prompt(prompt: ScenePrompt, rng: np.random.Generator) -> ScenePrompt:
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
class Path:
    """The way from place to place: straight at constant speed where ``bend`` is 0 and ``power`` 1.

    ``bend`` is how far the heading turns between the first image and the last, in radians; the line between both ends
    keeps its direction. A ``power`` above 1 starts slowly, one below 1 ends slowly.
    """

    bend: float = 0.0
    power: float = 1.0

    @classmethod
    def draw(cls, rng: np.random.Generator, kind: str) -> Path:
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
    rng: np.random.Generator, words: CameraWords, time: np.ndarray, centre: np.ndarray, unit: float, path: Path
) -> Motion:
    """The motion of the background: the other way than the camera's."""
    shift = -_velocity(rng, words.pan, 5.0, 13.0) * unit if words.pan else np.zeros(2)
    zoom = {None: 0.0, "in": 1.0, "out": -1.0}[words.zoom] * rng.uniform(0.1, 0.25)
    turn = {None: 0.0, "left": 1.0, "right": -1.0}[words.turn] * rng.uniform(0.1, 0.3)
    return Motion(centre + path.moved(time, shift), time * turn, np.exp(time * zoom))


def _object(
    rng: np.random.Generator, words: ObjectWords, time: np.ndarray, size: np.ndarray, unit: float, path: Path
) -> Layer:
    if words.direction is None or words.shape is None:
        raise InvalidInputError(f"an object needs a direction and a shape to be drawn; got {words}.")
    near_centre = rng.uniform(0.35, 0.65, 2) * size
    motion = Motion(
        near_centre + path.moved(time, _velocity(rng, words.direction, 10.0, 18.0), 0.25) * unit,
        rng.uniform(-0.4, 0.4) + time * rng.uniform(-0.4, 0.4),
        np.exp((time - 0.5) * rng.uniform(-0.25, 0.25)),
    )
    pattern = TEXTURES[words.texture] if words.texture else "clouds"
    texture = Texture.draw(rng, words.colour, pattern, unit, period=(5.0, 8.0))
    return Layer(motion, texture, words.shape, rng.uniform(6.0, 9.5) * unit)


def compose(
    rng: np.random.Generator, prompt: ScenePrompt, paths: list[Path], images: int, height: int, width: int
) -> list[Layer]:
    """Layers from front to back, each with its path; the camera's is the last."""
    time = np.linspace(0.0, 1.0, images) if images > 1 else np.zeros(1)
    size = np.array([width, height], dtype=np.float64)
    unit = min(height, width) / _REFERENCE_SIZE
    objects = [_object(rng, words, time, size, unit, path) for words, path in zip(prompt.objects, paths, strict=False)]
    motion = _camera(rng, prompt.camera, time, size / 2, unit, paths[-1])
    texture = Texture.draw(rng, prompt.background_colour, prompt.background_pattern or "clouds", unit)
    return [*objects, Layer(motion, texture, None, 1.0)]
