"""Folders of DiffTrack: videos with tracks and visibility."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from store.arguments import checked
from store.clips.clip import Clip
from store.clips.decoding import Wanted
from store.clips.video import wanted_part
from store.datasets.shared import (
    assemble_clip,
    load_array,
    read_wanted,
    text_lines,
)
from store.errors import ClipError


@checked
def read_difftrack(
    folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None, stride: int = 1
) -> dict[str, Clip]:
    """Clips of one folder of DiffTrack's layout, by name.

    The folder holds ``tracks/NNN.npy``, float (1, image, point, 2) as (x, y) in pixels, ``visibility/NNN.npy``, bool
    (1, image, point), ``prompt.txt`` with one prompt a line, and ``NNN.mp4``. Entries with tracks but no video are
    left out; :func:`tracks_without_video` lists them. ``first``, ``last`` and ``stride`` choose images of every clip,
    as in :func:`store.clips.video.read_clip`.

    Raises
    ------
    ClipError
        The layout is another, no entry has a video, or a video does not fit its tracks.
    UnsafePickleError
        An array holds pickled objects.

    Examples
    --------
    >>> read_difftrack("nowhere")
    Traceback (most recent call last):
    ...
    store.errors.ClipError: nowhere does not have the DiffTrack layout: it needs tracks/*.npy and visibility/*.npy.
    """
    folder = Path(folder)
    if not is_difftrack(folder):
        raise ClipError(f"{folder} does not have the DiffTrack layout: it needs tracks/*.npy and visibility/*.npy.")
    missing = tracks_without_video(folder)
    names = [name for name in track_names(folder) if name not in missing]
    if not names:
        raise ClipError(
            f"{folder} has tracks for {missing[0]} to {missing[-1]} but no video. Put {missing[0]}.mp4 next to tracks/."
        )
    prompts = text_lines(folder / "prompt.txt")
    part = wanted_part(first, last, stride)
    return {name: _difftrack_clip(folder, name, prompts, part) for name in names}


@checked
def tracks_without_video(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the entries of a DiffTrack folder that have tracks but no video, which :func:`read_difftrack` omits."""
    return [name for name in track_names(Path(folder)) if not (Path(folder) / f"{name}.mp4").is_file()]


def track_names(folder: Path) -> list[str]:
    return sorted(file.stem for file in (folder / "tracks").glob("*.npy"))


def _difftrack_clip(folder: Path, name: str, prompts: list[str], part: Wanted) -> Clip:
    clip = read_wanted(folder / f"{name}.mp4", part)
    tracks = _first(load_array(folder / "tracks" / f"{name}.npy"))
    visibility = _first(load_array(folder / "visibility" / f"{name}.npy"))
    line = int(name) if name.isdecimal() else -1
    prompt = prompts[line] if 0 <= line < len(prompts) else None
    return assemble_clip(folder / name, clip, tracks, visibility.astype(bool), None, prompt)


def _first(batch: np.ndarray) -> np.ndarray:
    return batch[0] if batch.ndim and len(batch) == 1 else batch


def is_difftrack(folder: Path) -> bool:
    return any((folder / "tracks").glob("*.npy")) and (folder / "visibility").is_dir()
