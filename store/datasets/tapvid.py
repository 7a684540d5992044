"""Clips of the TAP-Vid sets (DAVIS, RGB-stacking, Kinetics, RoboTAP), and clips written as TAP-Vid writes them."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from store.arguments import checked
from store.clips.clip import Clip
from store.datasets.array_pickle import load_array_pickle
from store.errors import ClipError, InvalidInputError
from store.files.damaged import damage_as, shown
from store.plan import format_bytes

FPS = 25.0
"""TAP-Vid files state no rate; Kinetics was extracted at this one, and TAP-Vid's own pictures are shown at it."""

_KEYS = ("video", "points", "occluded")
_MOST_DECODED = 500  # bytes of images for one of the file; JPEGs of dark films reach 200
_SLACK = 1 << 28


@checked
def read_tapvid(path: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> dict[str, Clip]:
    """Every clip of a TAP-Vid pickle, or of a folder of them, by name.

    All clips are in memory at once: :func:`iter_tapvid` gives one at a time, which Kinetics and RoboTAP need.

    Parameters
    ----------
    path : a pickle, or a folder of pickles (``*.pkl``, read in the order of their names)
        Read are a dict of clips by name (DAVIS, RoboTAP) and a list of clips (RGB-stacking, Kinetics). A clip is a
        dict: ``video`` uint8 (image, y, x, 3), or JPEG or PNG files as bytes, one per image; ``points`` float
        (point, image, 2) as (x, y) in fractions of width and height; ``occluded`` bool (point, image).
    size : (height, width), optional
        Resize every clip (bicubic, antialiased), its points with it.

    Returns
    -------
    dict of str to Clip
        Clips of a list are named by number, ``"000"``, and in a folder by file and number, ``"0003_of_0010/000"``.
        Tracks are float64 (image, point, 2) in pixels of the clip, pixel centres at +0.5. Hidden points that are not
        finite come back as (0, 0). ``fps`` is 25, which the files do not state.

    Raises
    ------
    ClipError
        Nothing is there, a file is damaged, or a clip lacks a key or has a wrong shape, kind or value. Also for a file
        whose images would be more than 500 times as large as the file, and over 256 MiB.
    UnsafePickleError
        A file asks for more than arrays. Nothing in it is run.

    Notes
    -----
    TAP-Vid stores positions in fractions of the raster, (0, 0) the upper left corner of the upper left pixel and
    (1, 1) the lower right corner of the lower right one, so pixel centres lie at +0.5 there as they do here and no
    half pixel is added or taken away. (TAP-Vid's script for Kinetics takes half a pixel from what annotators clicked
    before it stores the fraction. Its evaluation reads the result as above, and so does this.)

    Examples
    --------
    >>> read_tapvid("tapvid_davis.pkl")
    Traceback (most recent call last):
    ...
    store.errors.ClipError: tapvid_davis.pkl does not exist. Name a TAP-Vid pickle or a folder of them.
    """
    return dict(iter_tapvid(path, size=size))


@checked
def iter_tapvid(path: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> Iterator[tuple[str, Clip]]:
    """The clips of :func:`read_tapvid` one after the other, as (name, clip).

    One file at a time is in memory, as it is stored, and one clip decoded; a clip's part of the file is released once
    the clip is made.

    Parameters, returned clips and errors are those of :func:`read_tapvid`; a path without pickles raises
    at once, the rest when the clip is reached.

    Examples
    --------
    >>> import tempfile
    >>> from store import write_tapvid
    >>> clip = Clip(np.zeros((3, 80, 112, 3), np.uint8), fps=25, tracks=np.ones((3, 4, 2)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_tapvid(f"{folder}/two.pkl", {"goat": clip, "swan": clip})
    ...     for name, clip in iter_tapvid(path, size=(40, 56)):
    ...         print(name, clip)
    goat Clip(3 images of 40 x 56 px (height x width) at 25 fps, 4 tracked points (100 % visible))
    swan Clip(3 images of 40 x 56 px (height x width) at 25 fps, 4 tracked points (100 % visible))
    """
    path = Path(path)
    if not path.exists():
        raise ClipError(f"{path} does not exist. Name a TAP-Vid pickle or a folder of them.")
    if size is not None and (len(size) != 2 or not all(float(side).is_integer() and side >= 1 for side in size)):
        raise InvalidInputError(f"size must be (height, width) in whole pixels; got {size}.")
    files = sorted(path.glob("*.pkl")) if path.is_dir() else [path]
    if not files:
        raise ClipError(f"{path} holds no TAP-Vid pickle (*.pkl).")
    return _clips(files, size, several=path.is_dir())


def _clips(files: list[Path], size: tuple[int, int] | None, *, several: bool) -> Iterator[tuple[str, Clip]]:
    seen: set[str] = set()
    for file in files:
        room = _Room(file)
        for name, entry in _entries(file, prefix=f"{file.stem}/" if several else ""):
            free = name if name not in seen else f"{file.stem}/{name}"
            if free in seen:
                raise ClipError(f"two clips of {file.parent} are called {shown(free)!r}. Rename one of them.")
            seen.add(free)
            clip = _clip(f"{file}, clip {shown(name)!r}", entry, size, room)
            del entry  # as large as the clip, and not needed while the caller works on it
            yield free, clip


def _entries(file: Path, prefix: str) -> Iterator[tuple[str, Any]]:
    """Entries of a file by name; each is removed from the file's content as it is given."""
    content = load_array_pickle(file)
    if isinstance(content, list | tuple):
        content = {f"{prefix}{number:03d}": entry for number, entry in enumerate(content)}
    if not isinstance(content, dict):
        raise ClipError(
            f"{file} does not have a TAP-Vid layout: it needs a dict or a list of clips; got {describe(content)}."
        )
    if not content:
        raise ClipError(f"{file} holds no clips.")
    for name in list(content):
        if not isinstance(name, str):
            raise ClipError(
                f"{file} does not have a TAP-Vid layout: a clip is named by {describe(name)}, not by a string."
            )
        yield name, content.pop(name)


class _Room:
    """Budget of bytes that a file can still decode to; a hostile one names the same picture over and over."""

    def __init__(self, file: Path) -> None:
        self._stored = file.stat().st_size
        self._left = _SLACK + _MOST_DECODED * self._stored

    def check(self, where: str, nbytes: int) -> None:
        """Raise if there is no room for more."""
        if nbytes > self._left:
            raise ClipError(
                f"{where}: its images would have {format_bytes(nbytes)}, and the whole file has "
                f"{format_bytes(self._stored)}. It is damaged or forged; download it again."
            )

    def take(self, where: str, nbytes: int) -> None:
        """Use some of it."""
        self.check(where, nbytes)
        self._left -= nbytes


def _clip(where: str, entry: Any, size: tuple[int, int] | None, room: _Room) -> Clip:
    missing = [key for key in _KEYS if not isinstance(entry, dict) or key not in entry]
    if missing:
        found = f"the keys {_texts(entry)}" if isinstance(entry, dict) else describe(entry)
        raise ClipError(f"{where}: {', '.join(missing)} missing. It needs a dict with {', '.join(_KEYS)}; got {found}.")
    points, occluded = _points(where, entry["points"], entry["occluded"])
    with damage_as(ClipError, f"{where} is damaged"):
        images = _images(where, entry["video"], size, room)
    tracks = points.swapaxes(0, 1) * [images.shape[2], images.shape[1]]
    try:
        return Clip(images, FPS, tracks, np.ascontiguousarray(~occluded.T))
    except ClipError as error:
        raise ClipError(f"{where}: {error}") from error


def _texts(keys: Mapping[Any, Any]) -> str:
    """The first keys of a dict, as far as they are texts."""
    return ", ".join(shown(key) if isinstance(key, str) else describe(key) for key in list(keys)[:10])


def _points(where: str, points: Any, occluded: Any) -> tuple[np.ndarray, np.ndarray]:
    if not _is_array(points, "f", 3) or points.shape[2] != 2:
        raise ClipError(f"{where}: points must be floats (point, image, 2); got {describe(points)}.")
    if not _is_array(occluded, "b", 2) or occluded.shape != points.shape[:2]:
        raise ClipError(
            f"{where}: occluded must be bool (point, image) = {points.shape[:2]} like the points; "
            f"got {describe(occluded)}."
        )
    points, occluded = np.array(points, np.float64), np.asarray(occluded)
    lost = ~np.isfinite(points).all(-1)
    bad = np.argwhere(lost & ~occluded)
    if len(bad):
        point, image = bad[0].tolist()
        raise ClipError(
            f"{where}: {len(bad)} visible points are not finite, first point {point} in image {image}. "
            f"Mark them in occluded."
        )
    visible = np.abs(points[~occluded])
    if visible.size and np.median(visible) > 2:
        raise ClipError(
            f"{where}: points reach {visible.max():g}, but TAP-Vid stores fractions of width and height. Divide them."
        )
    points[lost] = 0
    return points, occluded


def _is_array(value: Any, kind: str, dims: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == kind and value.ndim == dims


def describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"{type(value).__name__}"


def _images(where: str, video: Any, size: tuple[int, int] | None, room: _Room) -> np.ndarray:
    """(image, y, x, 3) uint8 of its own, decoded and resized one image at a time."""
    raw = _is_array(video, "u", 4) and video.dtype == np.uint8
    if not raw and not _is_array(video, "S", 1) and not isinstance(video, list | tuple):
        raise ClipError(
            f"{where}: video must be uint8 (image, y, x, 3), or one JPEG or PNG file per image; got {describe(video)}."
        )
    if not len(video):
        raise ClipError(f"{where}: the clip has no images.")
    images, first = np.empty(0, np.uint8), ()
    for number, stored in enumerate(video):
        image = _image(f"{where}, image {number}", stored, room)
        if not number:
            first = image.shape
            wanted = (len(video), *(size or first[:2]), 3)
            room.check(where, max(math.prod(wanted), len(video) * image.nbytes))
            images = np.empty(wanted, np.uint8)
        if image.shape != first:
            raise ClipError(f"{where}: image {number} has the shape {image.shape}, image 0 has {first}.")
        images[number] = image if size in (None, first[:2]) else _resized(image, size)
    return images


def _image(where: str, stored: Any, room: _Room) -> np.ndarray:
    if isinstance(stored, bytes):
        return _decoded(where, stored, room)
    if not _is_array(stored, "u", 3) or stored.dtype != np.uint8 or stored.shape[2] != 3 or not stored.size:
        raise ClipError(f"{where} must be uint8 (y, x, 3), or a JPEG or PNG file; got {describe(stored)}.")
    room.take(where, stored.nbytes)
    return np.asarray(stored)


def _decoded(where: str, stored: bytes, room: _Room) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(stored), formats=("JPEG", "PNG")) as picture:
                room.take(where, 3 * picture.width * picture.height)
                return np.asarray(picture.convert("RGB"))
    except ClipError:
        raise
    except Exception as error:  # zlib, struct and PIL raise their own kinds
        raise ClipError(f"{where} cannot be decoded as JPEG or PNG ({len(stored)} bytes).") from error


def _resized(image: np.ndarray, size: Sequence[int] | None) -> np.ndarray:
    height, width = size or image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
