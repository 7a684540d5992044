"""The video file of a generated clip: its name, its size on screen, and the line that reports it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from store.clips.clip import Clip
from store.text import counted, pixels

_LONGEST_NAME = 80


def file_name(prompt: str) -> str:
    """Return the file name for the video of a prompt: its first words.

    Examples
    --------
    >>> file_name("A red disc moves left!"), file_name("")
    ('a-red-disc-moves-left.mp4', 'clip.mp4')
    """
    words = "-".join(re.findall(r"\w+", prompt.lower()))
    if len(words) > _LONGEST_NAME:
        words = words[: _LONGEST_NAME + 1].rpartition("-")[0] or words[:_LONGEST_NAME]
    return f"{words or 'clip'}.mp4"


def enlarged(clip: Clip, scale: int) -> Clip:
    """Enlarge a clip without tracks by repeating its pixels ``scale`` times in both directions.

    Examples
    --------
    >>> import numpy as np
    >>> enlarged(Clip(np.zeros((3, 5, 7, 3), np.uint8), fps=8), 4).images.shape
    (3, 20, 28, 3)
    """
    return clip if scale == 1 else replace(clip, images=clip.images.repeat(scale, axis=1).repeat(scale, axis=2))


def written(path: Path, clip: Clip, seed: int) -> str:
    """Line that reports a written clip: its path, its size, and the file beside it with what a video cannot hold.

    Examples
    --------
    >>> import numpy as np
    >>> written(Path("made.mp4"), Clip(np.zeros((1, 16, 24, 3), np.uint8), fps=8), 3)
    'made.mp4: 1 image of 16 x 24 px (height x width) at 8 fps, seed 3'
    """
    from store.clips.video import extras_path

    extras_file = extras_path(path)
    more = f"; its prompt is in {extras_file}" if extras_file.exists() else ""
    size = pixels(clip.height, clip.width)
    return f"{path}: {counted(len(clip), 'image')} of {size} at {clip.fps:g} fps, seed {seed}{more}"
