"""Images to a video file, one after the other, so that a long video is never held in memory as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from store.arguments import checked_but
from store.checks import finite, shown
from store.errors import ClipError, InvalidInputError
from store.files.atomic import atomic_write
from store.files.outputs import OutputFile
from store.files.trailer import append_digest

_BT601 = 6  # SMPTE 170M in H.273: the matrix that swscale uses by default, so say so in the file
# swscale: bicubic (4), colour at full horizontal resolution both ways, accurate rounding. Its defaults darken every
# picture by more than one grey level.
FAITHFUL = 0x4 | 0x2000 | 0x4000 | 0x40000
_SMALL = 128  # pixels; below it, cells are so small that half-resolution colour changes what a model sees
CLIP_FILE = OutputFile("clip", "clip.mp4", (".mp4", ".mov", ".m4v", ".mkv", ".avi"))
"""Containers that hold H.264, which comes back as it was."""

_FAST_START = (".mp4", ".mov", ".m4v")


def extras_path(path: str | os.PathLike[str]) -> Path:
    """Path of the tracks, visibility, masks and prompt of a video: ``<path>.npz``."""
    return Path(f"{os.fspath(path)}.npz")


@checked_but("fps", "crf")
def write_video(
    path: str | os.PathLike[str], images: Iterable[np.ndarray], fps: float, *, overwrite: bool = False, crf: int = 8
) -> Path:
    """Write images as H.264 as they arrive; only the few dozen that the encoder looks ahead at are in memory.

    Colour is written at half resolution (yuv420p), which plays everywhere, except for odd sizes and for pictures
    under 128 pixels, where it would be lost: those keep it all (yuv444p), which some players refuse. The small ones
    are also written without loss, whatever ``crf``: they come back within 3 of 255. The file is written
    atomically, also when ``images`` fails or the program is killed. It ends in a digest, which
    :func:`store.clips.video.read_clip` checks and players skip; whatever re-encodes or re-muxes the video leaves it
    out.

    Parameters
    ----------
    path : path ending in .mp4, .mov, .m4v, .mkv or .avi
    images : of (y, x, 3) uint8, RGB, at least one, all of one size
    fps : images per second
    overwrite : bool
        Replace an existing video. What ``<path>.npz`` next to it holds belonged to the old one and is removed.
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
    ClipError
        For no images, and an image of another kind or size than the first; also what the encoder rejects.

    Examples
    --------
    >>> import tempfile
    >>> from store.clips.video import read_clip
    >>> images = (np.full((80, 112, 3), 20 * n, np.uint8) for n in range(9))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_clip(write_video(f"{folder}/brighter.mp4", images, fps=8))
    Clip(9 images of 80 x 112 px (height x width) at 8 fps)
    """
    with new_video(path, overwrite=overwrite) as (video, _):
        encode(video, images, fps, crf)
    return Path(path)


def check_clip_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Validate a path to which a clip is to be written, before a model runs.

    Parameters
    ----------
    path : of a video to be written by :func:`store.clips.video.write_clip`
    overwrite : bool
        Whether an existing video is to be replaced.

    Raises
    ------
    InvalidInputError
        A suffix that cannot hold the video.
    OutputExistsError
        The video, or the npz next to it, exists, or the path is a folder or below a file.
    RecordingError
        When the operating system does not allow it.

    Examples
    --------
    >>> check_clip_path("made.gif")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: made.gif cannot hold the clip: its suffix must be .mp4, .mov, .m4v, .mkv or .avi. Name it made.mp4.
    """  # noqa: E501
    CLIP_FILE.check(path, overwrite=overwrite, companions=(extras_path(path),))


@contextmanager
def new_video(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """Temporary paths of a video and its npz, which both take their places at the end; an old npz does not survive."""
    path = Path(path)
    extras_file = extras_path(path)
    check_clip_path(path, overwrite=overwrite)
    with atomic_write(path) as video, atomic_write(extras_file) as npz:
        yield video, npz
        if not npz.exists():
            extras_file.unlink(missing_ok=True)


def encode(path: Path, images: Iterable[np.ndarray], fps: float, crf: int) -> None:
    """Write images to a path that nothing else reads yet; see :func:`write_video`."""
    try:
        fps = finite(fps, "fps", above=0, max_value=100_000)
    except InvalidInputError as error:
        raise ClipError(f"fps must be a positive number; got {shown(fps)}.") from error
    images = iter(images)
    first = next(images, None)
    if first is None:
        raise ClipError(f"there are no images to write to a {path.suffix} file.")
    _check_image(first, 0, None)
    # What fails in ``images`` is not the encoder's fault, so only the encoder's own steps are watched.
    with _encoder_fails_as_clip_error(path):
        container = av.open(
            str(path), "w", options={"movflags": "faststart"} if path.suffix.lower() in _FAST_START else {}
        )
    with container:
        with _encoder_fails_as_clip_error(path):
            stream = _stream(container, first.shape, fps, crf)
        for number, image in enumerate(chain([first], images)):
            _check_image(image, number, first.shape)
            with _encoder_fails_as_clip_error(path):
                container.mux(stream.encode(_frame(image, stream.pix_fmt)))
        with _encoder_fails_as_clip_error(path):
            container.mux(stream.encode())
            container.close()
    append_digest(path, path.suffix.lower())


def _check_image(image: Any, number: int, wanted: tuple[int, ...] | None) -> None:
    found = np.asarray(image)
    if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3 or not found.size:
        raise ClipError(f"image {number} must be uint8 (y, x, 3); got {found.dtype} of shape {found.shape}.")
    if wanted is not None and found.shape != wanted:
        raise ClipError(
            f"image {number} is of {found.shape[0]} x {found.shape[1]} px (height x width), but image 0 of "
            f"{wanted[0]} x {wanted[1]} px. Resize one to the other."
        )


@contextmanager
def _encoder_fails_as_clip_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError(f"the clip cannot be written as {path.suffix}: {error}. Name the file .mp4.") from error


def _stream(container: Any, shape: tuple[int, ...], fps: float, crf: int) -> Any:
    height, width = shape[:2]
    small = min(height, width) < _SMALL
    # x264's choices for tiny pictures vary from call to call; without loss they decode to the same images all the same
    quality = {"qp": "0"} if small else {"crf": str(crf)}
    rate = Fraction(fps).limit_denominator(100_000)
    stream = container.add_stream("libx264", rate=rate, options={**quality, "preset": "medium"})
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 and not small else "yuv444p"
    stream.codec_context.colorspace = _BT601
    return stream


def _frame(image: np.ndarray, pix_fmt: str) -> Any:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return frame.reformat(format=pix_fmt, interpolation=FAITHFUL)
