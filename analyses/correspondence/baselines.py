"""What needs no model: matching raw patches of pixels, beside which every layer should be judged."""

from __future__ import annotations

import numpy as np

from analyses.correspondence.matching import match_features
from analyses.correspondence.patches import patch_features
from store.arguments import Array, checked
from store.arrays import as_array
from store.errors import InvalidInputError
from store.layout import TokenLayout


@checked
def match_patches(images: Array, points: Array, layout: TokenLayout) -> np.ndarray:
    """The position of each query point in every frame, by the cosine between the pixels of cells.

    Parameters
    ----------
    images : uint8 (image, y, x, 3), the clip of the layout
    points : (point, 2) float, (x, y) in pixels, in image 0
    layout : TokenLayout
        A frame of several images is compared by the middle one.

    Returns
    -------
    (frame, point, 2) float64, (x, y) in pixels. Frame 0 is ``points``, unchanged.

    Raises
    ------
    InvalidInputError
        For images that are not those of the layout, or cells that are no whole pixels.

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
