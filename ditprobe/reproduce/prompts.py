"""Prompts with the points to follow in what they generate, of folders of DiffTrack's layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from store.errors import ClipError
from store.files.numpy_files import load_npy

WIDTH, HEIGHT = 720, 480
"""Size in pixels that the points of the published folders are of."""


@dataclass(frozen=True, eq=False)
class StartedPrompt:
    """A prompt and the points of image 0 to follow: (point, 2) as (x, y) in fractions of width and height."""

    prompt: str
    points: np.ndarray


def read_prompts(folder: Path) -> Mapping[str, StartedPrompt]:
    """Return the prompts and start points of a folder with ``prompt.txt`` and ``tracks``, or of several in one.

    Videos are not needed: the experiment generates its own. Each entry is named after its folder and number.

    Raises
    ------
    ClipError
        For another layout, a number without a prompt, or tracks of another shape.

    Examples
    --------
    >>> read_prompts(Path("nowhere"))
    Traceback (most recent call last):
    ...
    store.errors.ClipError: nowhere is not a folder with prompt.txt and tracks of DiffTrack's layout, nor holds some.
    """
    folders = [each for each in (folder, *_children(folder)) if (each / "prompt.txt").is_file()]
    found = {name: entry for each in folders for name, entry in _entries(each, nested=each != folder)}
    if not found:
        raise ClipError(f"{folder} is not a folder with prompt.txt and tracks of DiffTrack's layout, nor holds some.")
    return found


def _children(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def _entries(folder: Path, *, nested: bool) -> Iterator[tuple[str, StartedPrompt]]:
    prompts = [line.strip() for line in (folder / "prompt.txt").read_text(encoding="utf-8").splitlines()]
    for file in sorted((folder / "tracks").glob("*.npy")):
        line = int(file.stem) if file.stem.isdecimal() else -1
        if not 0 <= line < len(prompts) or not prompts[line]:
            raise ClipError(f"{file} has no prompt: {folder / 'prompt.txt'} has {len(prompts)} lines.")
        tracks = np.asarray(load_npy(file))
        tracks = tracks[0] if tracks.ndim == 4 else tracks
        if tracks.ndim != 3 or tracks.shape[-1] != 2 or not len(tracks):
            raise ClipError(f"{file} must hold (image, point, 2) tracks; got {tracks.shape}.")
        points = np.asarray(tracks[0], np.float64) / (WIDTH, HEIGHT)
        inside = ((points >= 0) & (points < 1)).all(1)
        yield f"{folder.name}/{file.stem}" if nested else file.stem, StartedPrompt(prompts[line], points[inside])
