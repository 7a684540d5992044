"""Parts that readers of published sets share: names, lists, arrays and clips put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from store.clips.clip import Clip, Part
from store.clips.decoding import Wanted
from store.clips.video import read_clip
from store.errors import ClipError
from store.files.damaged import damage_as
from store.files.numpy_files import load_npy


def read_wanted(path: Path, part: Wanted) -> Clip:
    return read_clip(path, first=part.first, last=part.last, stride=part.stride)


def clip_names(videos: Sequence[str], folder: Path) -> dict[str, str]:
    """Name of each video: without its suffix, or as it was given where two would have the same name."""
    twice = [video for video, count in Counter(videos).items() if count > 1]
    if twice:
        raise ClipError(f"{folder} names {twice[0]!r} twice. Name every video once.")
    stems = Counter([*(Path(video).stem for video in videos), *videos])
    return {video: Path(video).stem if stems[Path(video).stem] == 1 else video for video in videos}


def path_inside(folder: Path, name: str) -> Path:
    """A path that a list names, rejected when it leaves the entry."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ClipError(f"{folder} names {name!r}, which lies outside it.")
    return path


def load_array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise ClipError(f"{path} is missing.")
    with damage_as(ClipError, f"{path} cannot be read as an npy file"):
        return load_npy(path)


def part_of_clip(clip: Clip) -> Part:
    return clip.part or Part(0, 1, len(clip))


def assemble_clip(path: Path, clip: Clip, tracks: Any, visibility: Any, masks: Any, prompt: str | None) -> Clip:
    """The clip with what is known of its whole video."""
    known = {"tracks": tracks, "visibility": visibility, "masks": masks, "prompt": prompt}
    try:
        return Clip.of_part(clip.images, clip.fps, part_of_clip(clip), **known)
    except ClipError as error:
        raise ClipError(f"{path}: {error}") from error


def merge_folders(folder: Path, parts: list[Path], read: Callable[[Path], dict[str, Clip]]) -> dict[str, Clip]:
    """Clips of several folders; names that occur twice are prefixed with their folder."""
    clips: dict[str, Clip] = {}
    for part in parts:
        for name, clip in read(part).items():
            free = name if name not in clips else f"{part.name}/{name}"
            if free in clips:
                raise ClipError(f"two clips of {folder} are called {free!r}. Rename one of them.")
            clips[free] = clip
    return clips


def children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ClipError(f"{folder} is not a folder.")
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def text_lines(file: Path) -> list[str]:
    """Lines of a text, trailing empty ones left out; none when the file is missing."""
    if not file.is_file():
        return []
    with damage_as(ClipError, f"{file} cannot be read as UTF-8 text", "Save it as UTF-8."):
        return [line.strip() for line in file.read_text(encoding="utf-8").rstrip().splitlines()]
