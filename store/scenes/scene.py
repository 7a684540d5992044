"""Synthetic clips whose motion is known exactly: textured objects over a background seen by a moving camera."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from store.arguments import checked
from store.checks import finite, integer, one_of
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.scenes.draws import PATHS, NarrowGenerator, Path, complete_prompt, compose, draw_prompt
from store.scenes.prompt import parse_prompt
from store.scenes.rendering import render, track

FIRST_TRAINING_SEED = 10_000_000

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
    path : one of :data:`store.scenes.draws.PATHS`
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
    finite(spread, "spread", min_value=0, max_value=1)
    if seed < 0:
        raise InvalidInputError(f"seed must not be negative; got {seed}.")
    finite(cell, "cell", above=0)
    finite(fps, "fps", above=0)
    for name, count in (("images", images), ("height", height), ("width", width)):
        integer(count, name, max_value=_MOST)
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
    words = draw_prompt(rng) if prompt is None else parse_prompt(prompt)
    if single:
        words = replace(words, objects=(replace(words.objects[0], texture=None),))
    # what is new draws from generators of its own, so that scenes of old calls stay as they were
    full = complete_prompt(words, np.random.default_rng([seed, 1]))
    turns = np.random.default_rng([seed, 2])
    paths = [Path.draw(turns, path) for _ in (*full.objects, full.camera)]
    layers = compose(rng if spread == 1.0 else NarrowGenerator(rng, spread), full, paths, images, height, width)
    ys, xs = (cell * (np.arange(int(length // cell)) + 0.5) for length in (height, width))
    points = np.stack(np.broadcast_arrays(xs[None, :], ys[:, None]), -1).reshape(-1, 2)
    tracks, visible = track(layers, points, height, width)
    sentence = str(words.leave_open(leave_open))
    return Clip(render(layers, images, height, width), fps=fps, tracks=tracks, visibility=visible, prompt=sentence)
