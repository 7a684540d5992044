"""Clips to and from video files; what a video cannot hold goes to ``<path>.npz`` beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
import numpy as np

from store.clip import Clip
from store.encoding import FAITHFUL, encode, extras_path, new_video
from store.errors import ClipError
from store.files.damaged import damage_as
from store.files.numpy_files import load_npz, save_npz
from store.files.trailer import has_changed
from store.truncation import is_cut_off

_EXTRAS = ("tracks", "visibility", "masks", "prompt")


def read_clip(path: str | os.PathLike[str]) -> Clip:
    """A clip from a video file, with the tracks, visibility, masks and prompt that lie beside it.

    Parameters
    ----------
    path : path of a video file
        Anything that FFmpeg decodes; rotation noted in the file is applied. A truncated MP4, MOV, MKV, WebM or AVI
        is refused; of other formats only what FFmpeg itself finds broken, or, in MPEG-TS, a file that ends within a
        packet: those do not state how long they are.

    Raises
    ------
    ClipError
        No such file, no video in it, no images, a truncated file (says how many images were decoded), a file that is
        not as :func:`write_clip` wrote it.
    UnsafePickleError
        When the file beside it holds pickled objects.

    Examples
    --------
    >>> import tempfile
    >>> grey = Clip(np.full((3, 80, 112, 3), 128, np.uint8), fps=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_clip(write_clip(f"{folder}/grey.mp4", grey))
    Clip(3 images of 80 x 112 px (height x width) at 8 fps)
    """
    path = Path(path)
    if not path.is_file():
        raise ClipError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; a video file is needed.")
    with damage_as(ClipError, f"{path} cannot be read"):
        if has_changed(path):
            raise ClipError(
                f"{path} is damaged: its content differs from the digest at its end. Get it again. If it was changed "
                f"on purpose, `ffmpeg -i {path.name} -c copy other{path.suffix}` writes it without the digest."
            )
        images, fps = _decode(path)
    beside = extras_path(path)
    extras = _read_extras(beside) if beside.is_file() else {}
    try:
        return Clip(images, fps, **extras)
    except ClipError as error:
        raise ClipError(f"{beside} does not fit {path.name}: {error}") from error


def _decode(path: Path) -> tuple[np.ndarray, float]:
    images: list[np.ndarray] = []
    expected, damaged, cut_off = 0, False, is_cut_off(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video and cut_off:
                raise ClipError(_truncated(path, 0, 0, "the file ends early"))
            if not container.streams.video:
                raise ClipError(f"{path} holds no video stream.")
            stream = container.streams.video[0]
            expected = stream.frames
            rate = stream.average_rate or stream.guessed_rate
            for frame in container.decode(stream):
                images.append(_upright(frame))
                damaged = frame.is_corrupt
            cut_off |= _ends_early(path, stream) and len(images) < expected
    except av.error.FFmpegError as error:
        raise ClipError(_truncated(path, len(images), expected, f"FFmpeg says: {error.strerror}")) from error
    if cut_off:
        raise ClipError(_truncated(path, len(images), expected, "the file ends early"))
    if damaged:
        raise ClipError(_truncated(path, len(images), expected, "the last one is damaged"))
    if not images:
        raise ClipError(f"{path} holds no images: 0 were decoded of {expected} expected.")
    if any(image.shape != images[0].shape for image in images):
        raise ClipError(f"{path} changes its image size midway; cut it where it does.")
    return np.stack(images), float(rate or 0) or 24.0


def _upright(frame: Any) -> np.ndarray:
    image: np.ndarray = frame.reformat(format="rgb24", interpolation=FAITHFUL).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.rot90(image, turns) if turns else image


def _ends_early(path: Path, stream: Any) -> bool:
    """Whether the index names bytes beyond the end of the file; a trimmed but whole file does not."""
    entries = stream.index_entries
    return bool(len(entries)) and max(entry.pos + entry.size for entry in entries) > path.stat().st_size


def _truncated(path: Path, decoded: int, expected: int, reason: str) -> str:
    of = f"of {expected} expected" if expected else "of an unknown number"
    return f"{path} is truncated or not a video: {decoded} images decoded {of} ({reason}). Get the whole file."


def _read_extras(path: Path) -> dict[str, Any]:
    with damage_as(ClipError, f"{path} cannot be read as an npz file"):
        found = load_npz(path)
        extras: dict[str, Any] = {name: found[name] for name in _EXTRAS if name in found}
        if "prompt" in extras:
            extras["prompt"] = str(extras["prompt"])
        return extras


def write_clip(path: str | os.PathLike[str], clip: Clip, *, overwrite: bool = False, crf: int = 8) -> Path:
    """Write a clip as H.264, and what a video cannot hold to ``<path>.npz``.

    How colour is written, and that both files appear whole or not at all: see :func:`store.encoding.write_video`,
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
