"""Colour leak: how far the colours of a generated clip are tinted towards those of its reference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analyses.scenes.vision import see_scene
from store.arguments import Array, checked
from store.errors import InvalidInputError
from store.scenes.prompt import ScenePrompt, parse_prompt
from store.scenes.texture import COLOURS

_LEAST_HUE = 0.15
"""Distance of two colours without brightness below which brightness is included as well (white and grey)."""


@dataclass(frozen=True)
class ColourLeak:
    """Position of a clip's colours between those of the prompt (0) and those of the reference (1).

    Attributes
    ----------
    object : float
        0 the prompt's colour, 1 the reference's; NaN where no object is seen.
    background : float
        The same for all pixels outside of the object.
    """

    object: float
    background: float


@checked
def colour_leak(images: Array, prompt: str | ScenePrompt, reference: str | ScenePrompt) -> ColourLeak:
    """Return how far the object and the background of a clip are tinted towards the colours of its reference.

    The mean colours of the largest object's region and of all other pixels are projected onto the line from the colour
    that the prompt names to the colour that the reference's prompt names. The component along the prompt's colour is
    removed, so that brightness (stripes, clouds) does not count. Compare with a clip of the same prompt and noise
    without the reference, since textures vary in tint.

    Parameters
    ----------
    images : (image, y, x, 3) uint8, rgb
    prompt, reference : prompts of one object in the grammar of :mod:`store.scenes.prompt`
        They must name different colours for the object and for the background.

    Raises
    ------
    InvalidInputError
        For images of another shape or kind, a prompt outside the grammar or of several objects, and equal colours.
    MissingOpenCVError
        Where OpenCV (``pip install "ditprobe[vision]"``) is not installed.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> images = make_scene(3, prompt="a red ring moves left over blue stripes").images
    >>> leak = colour_leak(images, "a red ring over blue stripes", "a green disc over orange dots")
    >>> abs(leak.object) < 0.2, abs(leak.background) < 0.2
    (True, True)
    >>> colour_leak(images, "a green ring over blue stripes", "a red disc over orange dots").object > 0.8
    True
    """
    ours, theirs = (parse_prompt(each) if isinstance(each, str) else each for each in (prompt, reference))
    for words in (ours, theirs):
        if len(words.objects) != 1:
            raise InvalidInputError(f"prompts need one object; got {len(words.objects)} in {str(words)!r}.")
    pairs = (ours.objects[0].colour, theirs.objects[0].colour), (ours.background_colour, theirs.background_colour)
    for own, other in pairs:
        if own == other:
            raise InvalidInputError(
                f"prompt and reference both name {own}, so no leak can be seen. Name other colours."
            )
    seen = see_scene(images, 1).objects
    values = np.asarray(images).astype(np.float64) / 255
    mask = seen[0].mask if seen else np.zeros(values.shape[:-1], bool)
    return ColourLeak(_share(values[mask], *pairs[0]), _share(values[~mask], *pairs[1]))


def _share(pixels: np.ndarray, own: str, other: str) -> float:
    """Position of the mean of pixels (pixel, 3) between two colours, 0 (first) to 1 (second); NaN if empty."""
    if not len(pixels):
        return math.nan
    start, end = np.array(COLOURS[own]), np.array(COLOURS[other])
    way = end - start
    across = way - (way @ start) / (start @ start) * start
    if np.linalg.norm(across) >= _LEAST_HUE:
        return float(pixels.mean(0) @ across / (across @ across))
    return float((pixels.mean(0) - start) @ way / (way @ way))
