"""Layers of a scene: a shape with a texture, and its motion."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from store.checks import one_of
from store.scenes.prompt import SHAPES
from store.scenes.texture import Texture


def _rotation(angle: np.ndarray | float) -> np.ndarray:
    """(..., 2, 2) matrices that turn (x, y) by ``angle`` radians, clockwise on the screen (y points down)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)


@dataclass(frozen=True)
class Motion:
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
class Layer:
    """A shape of one texture; a ``shape`` of None covers everything, as the background does."""

    motion: Motion
    texture: Texture
    shape: str | None
    radius: float

    def part(self, images: slice) -> Layer:
        """The layer in some of the images."""
        motion = Motion(self.motion.position[images], self.motion.angle[images], self.motion.scale[images])
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
