"""Cells of raw pixels as features: what a model's own features should beat."""

from __future__ import annotations

import numpy as np
import torch

from store.layout import TokenLayout


def patch_features(images: np.ndarray, layout: TokenLayout) -> torch.Tensor:
    """The pixels of every cell as a vector of length one, so that inner products are cosines.

    Parameters
    ----------
    images : (image, y, x, 3) uint8, of the layout's size in pixels, of which its cells take whole ones
    layout : TokenLayout; how many images it has does not matter

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
