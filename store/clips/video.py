"""Clips to and from video files; what a video cannot hold goes to ``<path>.npz`` next to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from store.arguments import checked, checked_but
from store.checks import integer
from store.clips.clip import Clip
from store.clips.decoding import Wanted, decode
from store.clips.encoding import encode, extras_path, new_video
from store.errors import ClipError, InvalidInputError
from store.files.damaged import damage_as
from store.files.numpy_files import load_npz, save_npz
from store.files.trailer import has_changed

_TEXTS = ("prompt", "tracks_source")
_EXTRAS = ("tracks", "visibility", "masks", *_TEXTS)


@checked
def read_clip(path: str | os.PathLike[str], *, first: int = 0, last: int | None = None, stride: int = 1) -> Clip:
    """A clip from a video file, with the tracks, visibility, masks and prompt stored next to it.

    Parameters
    ----------
    path : path of a video file
        Anything that FFmpeg decodes; rotation noted in the file is applied. A truncated MP4, MOV, MKV, WebM or AVI
        is rejected; of other formats only what FFmpeg itself finds broken, or, in MPEG-TS, a file that ends within a
        packet: those do not state how long they are.
    first, last, stride : int
        Read only images ``first``, ``first + stride`` and so on, up to ``last``, which is included; by default all.
        The clip is ``read_clip(path)[first : last + 1 : stride]``, but no other image takes memory, and
        ``Clip.part`` says which these are.

    Raises
    ------
    ClipError
        No such file, no video in it, no images, or none in the part that was asked for, a truncated file (says how
        many images were decoded), a file that is not as :func:`write_clip` wrote it.
    InvalidInputError
        A negative number, a stride below one, or a last image before the first.
    UnsafePickleError
        When the file next to it holds pickled objects.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> grey = Clip(np.full((3, 80, 112, 3), 128, np.uint8), fps=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_clip(write_clip(f"{folder}/grey.mp4", grey))
    Clip(3 images of 80 x 112 px (height x width) at 8 fps)
    """
    path = Path(path)
    if not path.is_file():
        raise ClipError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; a video file is needed.")
    wanted = wanted_part(first, last, stride)
    with damage_as(ClipError, f"{path} cannot be read"):
        if has_changed(path):
            raise ClipError(
                f"{path} is damaged: its content differs from the digest at its end. Get it again. If it was changed "
                f"on purpose, `ffmpeg -i {path.name} -c copy other{path.suffix}` writes it without the digest."
            )
        images, fps, part = decode(path, wanted)
    extras_file = extras_path(path)
    extras = _read_extras(extras_file) if extras_file.is_file() else {}
    try:
        return Clip.of_part(images, fps, part, **extras)
    except ClipError as error:
        raise ClipError(f"{extras_file} does not fit {path.name}: {error}") from error


def wanted_part(first: int, last: int | None, stride: int) -> Wanted:
    """The images that arguments called ``first``, ``last`` and ``stride`` ask for.

    Raises
    ------
    InvalidInputError
        A negative number, a stride below one, or a last image before the first.

    Examples
    --------
    >>> wanted_part(3, None, 2)
    Wanted(first=3, last=None, stride=2)
    """
    first, stride = integer(first, "first", min_value=0), integer(stride, "stride", min_value=1)
    last = None if last is None else integer(last, "last", min_value=0)
    if last is not None and last < first:
        raise InvalidInputError(f"images {first} to {last} were asked for: last lies before first.")
    return Wanted(first, last, stride)


def _read_extras(path: Path) -> dict[str, Any]:
    with damage_as(ClipError, f"{path} cannot be read as an npz file"):
        found = load_npz(path)
        extras = {name: found[name] for name in _EXTRAS if name in found}
        return {name: str(value) if name in _TEXTS else value for name, value in extras.items()}


@checked_but("crf")
def write_clip(path: str | os.PathLike[str], clip: Clip, *, overwrite: bool = False, crf: int = 8) -> Path:
    """Write a clip as H.264, and what a video cannot hold to ``<path>.npz``.

    Both files are written atomically; for how colour is written, see :func:`store.clips.encoding.write_video`,
    which takes images that do not fit into memory.

    Parameters
    ----------
    path : path ending in .mp4, .mov, .m4v, .mkv or .avi
    clip : Clip
    overwrite : bool
        Replace existing files.
    crf : int
        H.264 quality: 0 is lossless in YUV, 51 the worst. At 8 the images come back almost unchanged.

    Returns
    -------
    Path of the video.

    Raises
    ------
    InvalidInputError
        For another suffix.
    OutputExistsError
        When the video or its npz exists and ``overwrite`` is False.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> clip = Clip(np.zeros((3, 80, 112, 3), np.uint8), fps=8, prompt="night")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_clip(write_clip(f"{folder}/night.mp4", clip)).prompt
    'night'
    """
    extras = {name: getattr(clip, name) for name in _EXTRAS if getattr(clip, name) is not None}
    with new_video(path, overwrite=overwrite) as (video, npz):
        encode(video, clip.images, clip.fps, crf)
        if extras:
            save_npz(npz, extras)
    return Path(path)
