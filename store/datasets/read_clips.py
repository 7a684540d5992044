"""Clips of published sets and of plain folders, by the layout of what lies at a path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from store.arguments import checked
from store.clips.clip import Clip
from store.clips.decoding import Wanted
from store.clips.video import wanted_part
from store.datasets.difftrack import is_difftrack, read_difftrack, track_names, tracks_without_video
from store.datasets.mtbench import is_mtbench, read_mtbench
from store.datasets.shared import (
    children,
    clip_names,
    merge_folders,
    read_wanted,
)
from store.errors import ClipError

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


@checked
def read_clips(
    path: str | os.PathLike[str], *, first: int = 0, last: int | None = None, stride: int = 1
) -> dict[str, Clip]:
    """Clips of whatever lies at a path, by name.

    Recognised are a video file, a folder of DiffTrack's or MTBench's layout (:func:`read_difftrack`,
    :func:`read_mtbench`), a folder of such folders, and a folder of plain videos. A clip's name is that of its video
    without the suffix; where two would share it, with the suffix, and in folders of folders with the folder.

    Parameters
    ----------
    path : of a video file or a folder
    first, last, stride : int
        Read only these images of every clip, see :func:`store.clips.video.read_clip`.

    Raises
    ------
    ClipError
        Nothing is there, or nothing that is recognised.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from store import Clip, write_clip
    >>> clip = Clip(np.zeros((3, 80, 112, 3), np.uint8), fps=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_clip(f"{folder}/night.mp4", clip)
    ...     read_clips(folder)
    {'night': Clip(3 images of 80 x 112 px (height x width) at 8 fps)}
    """
    path, wanted = Path(path), wanted_part(first, last, stride)
    if not path.exists():
        raise ClipError(f"{path} does not exist. Name a video, or a folder of clips.")
    if path.is_file():
        return {path.stem: read_wanted(path, wanted)}
    clips = _read_folder(path, wanted)
    if clips is None:
        parts = [child for child in children(path) if child.is_dir() and _is_known(child)]
        if not parts:
            raise ClipError(
                f"{path} holds no clips: no video ({', '.join(VIDEO_SUFFIXES)}), no DiffTrack folder (tracks/ and "
                f"visibility/), no MTBench entry (videos.txt), and no folder of these."
            )
        clips = merge_folders(path, parts, lambda part: _read_folder(part, wanted) or {})
    return clips


def _read_folder(path: Path, part: Wanted) -> dict[str, Clip] | None:
    chosen: dict[str, Any] = {"first": part.first, "last": part.last, "stride": part.stride}
    if is_mtbench(path):
        return read_mtbench(path, **chosen)
    if is_difftrack(path):
        return read_difftrack(path, **chosen)
    names = clip_names([video.name for video in _videos(path)], path)
    return {name: read_wanted(path / video, part) for video, name in names.items()} or None


def _is_known(folder: Path) -> bool:
    if is_difftrack(folder):
        return len(tracks_without_video(folder)) < len(track_names(folder))
    return is_mtbench(folder) or bool(_videos(folder))


def _videos(folder: Path) -> list[Path]:
    return [file for file in children(folder) if file.suffix.lower() in VIDEO_SUFFIXES]
