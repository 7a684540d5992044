"""Cells of raw pixels as features, a baseline that a model's features should beat."""

from __future__ import annotations

import numpy as np
import torch

from analyses.correspondence.matching import match_features
from store.arguments import Array, checked
from store.arrays import as_array
from store.errors import InvalidInputError
from store.layout import TokenLayout


def patch_features(images: np.ndarray, layout: TokenLayout) -> torch.Tensor:
    """The pixels of every cell as a vector of length one, so that inner products are cosines.

    Parameters
    ----------
    images : (image, y, x, 3) uint8, of the layout's size in pixels; cells cover whole pixels
    layout : TokenLayout; its number of images is not used

    Returns
    -------
    (image, cell, channel) float32, cells row by row; grey is 0, so that contrast does not count

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 20, 42, 3)
    >>> patch_features(np.full((2, 20, 42, 3), 255, np.uint8), layout).shape
    torch.Size([2, 35, 72])
    """
    high, wide = layout.pixel_height // layout.height, layout.pixel_width // layout.width
    pixels = torch.from_numpy(images.astype(np.float32) / 127.5 - 1)
    cells = pixels.reshape(len(images), layout.height, high, layout.width, wide, 3).transpose(2, 3)
    return torch.nn.functional.normalize(cells.reshape(len(images), layout.height * layout.width, -1), dim=-1)


@checked
def match_patches(images: Array, points: Array, layout: TokenLayout) -> np.ndarray:
    """The position of each query point in every frame, by the cosine between the pixels of cells.

    Parameters
    ----------
    images : uint8 (image, y, x, 3), the clip of the layout
    points : (point, 2) float, (x, y) in pixels, in image 0
    layout : TokenLayout
        A frame that covers several images is represented by the middle one.

    Returns
    -------
    (frame, point, 2) float64, (x, y) in pixels. Frame 0 is ``points``, unchanged.

    Raises
    ------
    InvalidInputError
        For images that are not those of the layout, or cells that are not whole pixels.

    Examples
    --------
    >>> layout = TokenLayout(2, 4, 4, 32, 32, 2)
    >>> first = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    >>> images = np.stack([first, np.roll(first, 8, axis=1)])
    >>> match_patches(images, np.array([[4.0, 12.0]]), layout)[1]
    array([[12., 12.]])
    """
    pixels = as_array(images)
    wanted = (layout.images, layout.pixel_height, layout.pixel_width, 3)
    if pixels.shape != wanted or pixels.dtype != np.uint8:
        raise InvalidInputError(f"images need to be uint8 {wanted} for this layout; got {pixels.dtype} {pixels.shape}.")
    if layout.pixel_height % layout.height or layout.pixel_width % layout.width:
        high, wide = layout.cell_size
        raise InvalidInputError(
            f"patches need whole pixels; the cells of this layout are {high:g} x {wide:g} px. Resize the clip to a "
            f"multiple of {layout.height} x {layout.width} px."
        )
    middle = np.floor(layout.frame_centres).astype(int)
    cells = patch_features(pixels[middle], layout).unflatten(1, (layout.height, layout.width))
    found: np.ndarray = match_features(cells, as_array(points).astype(np.float64), layout).numpy()
    return found
