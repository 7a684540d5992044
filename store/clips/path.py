"""Whether a clip can be written to a path, known before a model runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from store.clips.clip import Clip
from store.clips.video import extras_path, write_clip
from store.errors import ClipError, InvalidInputError, OutputExistsError


def check_clip_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse, before a model runs, a path to which no clip can be written afterwards.

    Parameters
    ----------
    path : of a video to be written by :func:`store.clips.video.write_clip`
    overwrite : bool
        Whether an existing video is to be replaced.

    Raises
    ------
    OutputExistsError
        The video, or the npz beside it, exists.
    InvalidInputError
        A suffix that cannot hold the video, a folder, or a folder that cannot be made.

    Examples
    --------
    >>> check_clip_path("made.txt")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: a clip cannot be saved to made.txt: '.txt' holds no H.264 video. Name it made.mp4.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInputError(
            f"a clip cannot be saved to {path}: it is a folder. Name a file, such as {path / 'clip.mp4'}."
        )
    taken = [str(file) for file in (path, extras_path(path)) if file.exists()]
    if taken and not overwrite:
        exist = "exists" if len(taken) == 1 else "exist"
        raise OutputExistsError(
            f"{' and '.join(taken)} {exist} already. Choose another path for the clip, or pass overwrite=True."
        )
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        what = "not writable" if folder.is_dir() else "no folder"
        raise InvalidInputError(f"a clip cannot be saved to {path}: {folder} is {what}. Choose another path.")
    with tempfile.TemporaryDirectory() as trial:
        try:
            write_clip(f"{trial}/trial{path.suffix}", Clip(np.zeros((1, 16, 16, 3), np.uint8), fps=8))
        except (ClipError, InvalidInputError) as error:
            holds = f"{path.suffix!r} holds no H.264 video" if path.suffix else "it has no video suffix"
            named = path.with_suffix(".mp4")
            raise InvalidInputError(f"a clip cannot be saved to {path}: {holds}. Name it {named}.") from error
