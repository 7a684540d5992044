"""Pictures and tracks of the layers of a scene."""

from __future__ import annotations

import numpy as np

from store.scenes.layers import Layer

_OVERSAMPLING = 2
_SAMPLES_AT_ONCE = 1_000_000


def render(layers: list[Layer], images: int, height: int, width: int) -> np.ndarray:
    """(image, y, x, 3) uint8, every pixel the mean of 2 x 2 samples; a few images at a time to bound memory."""
    step = 1.0 / _OVERSAMPLING
    rows = (np.arange(height * _OVERSAMPLING, dtype=np.float32) + 0.5) * step
    columns = (np.arange(width * _OVERSAMPLING, dtype=np.float32) + 0.5) * step
    grid = np.stack(np.broadcast_arrays(columns[None, :], rows[:, None]), -1)
    count = max(1, _SAMPLES_AT_ONCE // (len(rows) * len(columns)))
    parts = [slice(start, min(start + count, images)) for start in range(0, images, count)]
    return np.concatenate([_draw_part([layer.part(part) for layer in layers], grid) for part in parts])


def _draw_part(layers: list[Layer], grid: np.ndarray) -> np.ndarray:
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


def track(layers: list[Layer], points: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
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
