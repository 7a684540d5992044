"""Digests of clips, which tell whether a saved result was made from a given clip."""

from __future__ import annotations

from typing import Any

import numpy as np

from store.clips.clip import Clip
from store.files.digest import digest_of_bytes, digest_of_parts


def digest_of_clip(clip: Clip, *parts: Any) -> str:
    """Return sixteen hexadecimal digits that change with the images, the tracks, their visibility or a further part.

    Examples
    --------
    >>> clip = Clip(np.zeros((2, 8, 8, 3), np.uint8), fps=8)
    >>> digest_of_clip(clip) == digest_of_clip(clip, "truth")
    False
    """
    return digest_of_parts(clip.images, clip.tracks, clip.visibility, *parts)


def digest_of_images(images: np.ndarray) -> str:
    """Return twelve hexadecimal digits of the images of a clip, as recordings keep them.

    Examples
    --------
    >>> digest_of_images(np.zeros((1, 2, 2, 3), np.uint8))
    '15ec7bf0b507'
    """
    return digest_of_bytes([np.ascontiguousarray(images).reshape(-1)])[:12]
