"""Colours, shapes and motion in a clip of a synthetic scene, by plain computer vision, without its prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage

from analyses.optical_flow import DISFlow
from store.arrays import as_array
from store.checks import integer
from store.errors import InvalidInputError
from store.scenes.layers import inside_shape
from store.scenes.prompt import SHAPES
from store.scenes.texture import COLOURS, PATTERNS, Texture

_BINS = 32  # levels of each channel in the table of colours
_LEAST_SHARE = 1e-4  # fraction of a clip that a colour is assumed to have a priori
_ROUNDS = 5  # iterations that estimate the fractions
_LEAST_REGION = 0.005  # smallest fraction of a clip's pixels
_CANDIDATES = 2  # regions examined beyond the requested number, in case they look more like a shape
_SHAPE_IMAGES = 3  # images that show most of a region
_GRID = 32  # cells along the window in which shapes are compared
_REACH = 2.0  # half of that window, in radii of the disc that has the region's area


@dataclass(frozen=True, eq=False)
class SeenObject:
    """A region that is not background.

    Attributes
    ----------
    colour : the word of :data:`store.scenes.texture.COLOURS` that it fits best
    shape : the word of :data:`store.scenes.prompt.SHAPES` that overlaps it best
    motion : (x, y) pixels from the first to the last image, y pointing down; NaN where no two images show it
    mask : (image, y, x) bool
    alike : (image, y, x) bool, all pixels of its colour, of the region or not
    """

    colour: str
    shape: str
    motion: tuple[float, float]
    mask: np.ndarray
    alike: np.ndarray


@dataclass(frozen=True, eq=False)
class SeenScene:
    """Contents of a clip; objects by area times likeness to a shape, largest first, all of different colours.

    ``pan`` is the camera's motion, (x, y) in pixels: the background's motion with the opposite sign. ``mask`` is
    (image, y, x) bool, the pixels of the background's colour.
    """

    background: str
    pan: tuple[float, float]
    objects: tuple[SeenObject, ...]
    mask: np.ndarray


def see_scene(images: Any, objects: int = 1) -> SeenScene:
    """The background and the largest objects of a clip of a synthetic scene.

    Every pixel is assigned to one of the ten named colours by the frequency of its value in their textures and by the
    fractions of the colours in this clip. The commonest colour is the background. Connected regions (in x, y and time)
    of the other colours may be objects; of each colour only the largest is considered. A shape is the word whose
    outline, turned, scaled and shifted, has the largest intersection over union with the region; parts hidden by image
    borders and other regions do not count. Regions rank by their area times that overlap. Motion is the median of the
    optical flow (OpenCV's DIS) in the region, averaged over the images weighted by the visible part of the region,
    times the number of steps between images. The camera's motion is that of the background at the centre of the image,
    from a plane fitted to its flow, so that zooms and rotations are not mistaken for it. The flow follows motions of up
    to about a tenth of the image from one image to the next.

    Parameters
    ----------
    images : (image, y, x, 3) uint8, rgb
    objects : how many objects to look for; fewer are returned where fewer are seen

    Raises
    ------
    InvalidInputError
        For images of another shape or kind, or no objects to look for.
    MissingOpenCVError
        Where OpenCV is not installed.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> seen = see_scene(make_scene(3, prompt="a red ring moves left over blue stripes").images)
    >>> seen.background, seen.objects[0].colour, seen.objects[0].shape
    ('blue', 'red', 'ring')
    """
    images = _checked(images, objects)
    labels = _colour_labels(images)
    words = tuple(COLOURS)
    background = int(np.bincount(labels.ravel(), minlength=len(COLOURS)).argmax())
    flow = _flow(images)
    others = labels != background
    found = []
    for index, mask in _regions(labels, background)[: objects + _CANDIDATES]:
        shape, overlap = _shape(mask, others & ~mask)
        alike = labels == index
        found.append((overlap * mask.sum(), SeenObject(words[index], shape, _motion(flow, mask), mask, alike)))
    found.sort(key=lambda item: -item[0])
    x, y = _centre_motion(flow, labels == background)
    return SeenScene(words[background], (-x, -y), tuple(seen for _, seen in found[:objects]), ~others)


def _checked(images: Any, objects: int) -> np.ndarray:
    images = as_array(images)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise InvalidInputError(
            f"images must be uint8 of shape (image, y, x, 3); got {images.dtype} of shape {images.shape}."
        )
    if min(images.shape[1:3]) < 8:
        raise InvalidInputError(f"images must be at least 8 x 8 pixels; got {images.shape[1]} x {images.shape[2]}.")
    integer(objects, "objects", min_value=1)
    return images


@lru_cache(maxsize=1)
def _colour_table() -> np.ndarray:
    """(red, green, blue, colour): logarithm of how often textures of a colour have an rgb value.

    The table is smoothed at two widths: a narrow one for the plane in which a texture varies, and a wide one that
    assigns values of no texture to the nearest colour.
    """
    rng = np.random.default_rng(0)
    tables = []
    for colour in COLOURS:
        textures = [Texture.draw(rng, colour, pattern, 1.0) for pattern in PATTERNS for _ in range(8)]
        values = np.concatenate([texture.at(rng.uniform(0, 1000, (2500, 2))) for texture in textures])
        counts = np.histogramdd(values, bins=_BINS, range=[(0, 1)] * 3)[0] / len(values)
        narrow, wide = (ndimage.gaussian_filter(counts, width, mode="nearest") for width in (1.2, 4.0))
        tables.append(np.log(0.9 * narrow + 0.1 * wide + 1e-9))
    return np.stack(tables, -1).astype(np.float32)


def _colour_labels(images: np.ndarray) -> np.ndarray:
    """(image, y, x) int: index of the colour of each pixel."""
    red, green, blue = np.moveaxis(images // (256 // _BINS), -1, 0)
    fit = ndimage.gaussian_filter(_colour_table()[red, green, blue], (0, 0.7, 0.7, 0), mode="nearest")
    fit -= fit.max(-1, keepdims=True)
    likelihood = np.exp(fit)
    share = np.ones(len(COLOURS), dtype=np.float32)
    for _ in range(_ROUNDS):
        weighted = likelihood * share
        share = (weighted / weighted.sum(-1, keepdims=True)).mean((0, 1, 2)) + _LEAST_SHARE
    return (likelihood * share).argmax(-1)


def _regions(labels: np.ndarray, background: int) -> list[tuple[int, np.ndarray]]:
    """The largest connected region of each colour but the background's, largest first: (index of the colour, mask)."""
    regions = []
    for index in sorted(set(labels.ravel().tolist()) - {background}):
        parts, _ = ndimage.label(labels == index, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        if sizes.max() >= _LEAST_REGION * labels.size:
            regions.append((index, parts == sizes.argmax()))
    return sorted(regions, key=lambda region: -int(region[1].sum()))


@lru_cache(maxsize=1)
def _shape_templates() -> np.ndarray:
    """(shape, template, cell) float32: outlines of all angles and sizes, in the window of :func:`_shape`."""
    samples = 4
    side = _GRID * samples
    axis = ((np.arange(side) + 0.5) / side * 2 - 1) * _REACH
    x, y = np.meshgrid(axis, axis)
    templates = []
    for shape in SHAPES:
        fine = np.linspace(-1.2, 1.2, 400)
        area = inside_shape(shape, np.stack(np.meshgrid(fine, fine), -1)).mean() * 2.4**2
        for factor in (0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.8):
            radius = math.sqrt(math.pi * factor / area)
            for angle in np.linspace(-0.8, 0.8, 9):
                cosine, sine = math.cos(angle) / radius, math.sin(angle) / radius
                inside = inside_shape(shape, np.stack([x * cosine + y * sine, y * cosine - x * sine], -1))
                templates.append(inside.reshape(_GRID, samples, _GRID, samples).mean((1, 3)).ravel())
    return np.asarray(templates, dtype=np.float32).reshape(len(SHAPES), -1, _GRID * _GRID)


def _shape(mask: np.ndarray, hidden: np.ndarray) -> tuple[str, float]:
    """The word for the outline of a region (image, y, x); ``hidden`` pixels are ignored."""
    shown = mask.any((1, 2))
    mask, known = mask[shown], ~hidden[shown]
    on_border = mask[:, [0, -1]].sum((1, 2)) + mask[:, :, [0, -1]].sum((1, 2))
    most_complete = np.argsort(4 * on_border - mask.sum((1, 2)), kind="stable")[:_SHAPE_IMAGES]
    overlap = np.mean([_overlaps(mask[image], known[image]) for image in most_complete], axis=0)
    return SHAPES[int(overlap.argmax())], float(overlap.max())


def _overlaps(mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(shape,): the largest intersection over union with a region of one image."""
    radius = math.sqrt(mask.sum() / math.pi)
    centre = np.argwhere(mask).mean(0)
    shifts = np.linspace(-0.6, 0.6, 9) * radius
    cells = ((np.arange(_GRID) + 0.5) / _GRID * 2 - 1) * _REACH * radius
    rows, columns = (np.round(centre[axis] + shifts[:, None] + cells).astype(int) for axis in (0, 1))
    pad = max(0, -rows.min(), -columns.min(), rows.max() - mask.shape[0] + 1, columns.max() - mask.shape[1] + 1)
    windows = []
    for picture in (mask, known):
        padded = np.pad(picture.astype(np.float32), pad)
        cut = padded[(rows + pad)[:, None, :, None], (columns + pad)[None, :, None, :]]
        windows.append(cut.reshape(-1, _GRID * _GRID).T)
    templates = _shape_templates()
    both, shown = (templates.reshape(-1, _GRID * _GRID) @ window for window in windows)
    area = math.pi * (_GRID / 2 / _REACH) ** 2  # of the region, in cells, including parts outside the window
    return (both / (shown + area - both)).reshape(len(SHAPES), -1).max(1)


def _flow(images: np.ndarray) -> np.ndarray:
    """Return (image - 1, y, x, 2), the (x, y) pixels from each image to the next."""
    height, width = images.shape[1:3]
    flow = DISFlow((height, width))
    grey = [flow.grey(image) for image in images]
    flows = [flow.reduced(flow.between(first, second)) for first, second in pairwise(grey)]
    return np.asarray(flows, dtype=np.float32).reshape(-1, height, width, 2)


def _motion(flow: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """(x, y) motion of a region over the clip in pixels; images are weighted by the part of it that they show."""
    steps, weights = [], []
    for field, region in zip(flow, mask, strict=False):
        inner = ndimage.binary_erosion(region, border_value=1)
        region = inner if inner.sum() >= 8 else region
        if region.any():
            steps.append(np.median(field[region], axis=0))
            weights.append(region.sum())
    x, y = len(flow) * np.average(steps, axis=0, weights=weights) if steps else (math.nan, math.nan)
    return float(x), float(y)


def _centre_motion(flow: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """(x, y) motion in pixels at the centre of the first image, by planes fitted to the flow of a region."""
    if not len(flow):
        return math.nan, math.nan
    size = np.array(flow.shape[2:0:-1], dtype=np.float64)
    place = size / 2
    for field, region in zip(flow, mask, strict=False):
        rows, columns = np.nonzero(region)
        if len(rows) < 8:
            continue
        points = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], -1)
        moved = field[region].astype(np.float64)
        kept = np.ones(len(rows), dtype=bool)
        for _ in range(3):
            fit = np.linalg.lstsq(points[kept], moved[kept], rcond=None)[0]
            error = np.hypot(*(moved - points @ fit).T)
            kept = error <= 2 * np.median(error)
        place = place + [*place, 1.0] @ fit
    x, y = place - size / 2
    return float(x), float(y)
