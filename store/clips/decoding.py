"""Images out of a video file: only those that are asked for become pictures in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from store.clips.clip import Part
from store.clips.encoding import FAITHFUL
from store.clips.truncation import is_cut_off
from store.errors import ClipError

# Where a packet is an image and its time is known without decoding it. VP8 has packets that show nothing, MPEG-4 in AVI
# packets of two images, and MPEG-TS packets of half an image.
_SEEKABLE = {"h264", "hevc", "vp9", "av1", "mjpeg", "prores", "ffv1"}
_SEEKABLE_IN = {"mov", "matroska"}


@dataclass(frozen=True)
class Wanted:
    """Every ``stride``-th image from ``first`` to ``last``, both included; None is the last one of the video."""

    first: int = 0
    last: int | None = None
    stride: int = 1

    @property
    def is_everything(self) -> bool:
        """True where the video is read from its beginning to its end."""
        return self.first == 0 and self.last is None

    def __contains__(self, number: int) -> bool:
        within = number >= self.first and (self.last is None or number <= self.last)
        return within and (number - self.first) % self.stride == 0


def decode(path: Path, wanted: Wanted) -> tuple[np.ndarray, float, Part]:
    """The wanted images of a video, how many of these there are in a second, and which part of the video they are.

    Where the times of the images are known, the part is found by seeking, and decoding stops after it. Other files are
    decoded to their end, but only what is wanted is converted and kept. Both give the same images.

    Parameters
    ----------
    path : of a file
    wanted : Wanted
        Images beyond the end are ignored, as in a slice; at least one must exist.

    Returns
    -------
    images : (image, y, x, 3) uint8, RGB, upright
    fps : float
    part : Part

    Raises
    ------
    ClipError
        See :func:`store.clips.video.read_clip`.

    Examples
    --------
    >>> import tempfile
    >>> from store.clips.encoding import write_video
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     video = write_video(f"{folder}/night.mp4", np.zeros((9, 80, 112, 3), np.uint8), fps=8)
    ...     decode(video, Wanted(2, 6, 2))[1:]
    (4.0, Part(first=2, stride=2, images=9))
    """
    found = None if wanted.is_everything or is_cut_off(path) else _sought(path, wanted)
    found = found or _from_the_beginning(path, wanted)
    if not found.images:
        last = "the end" if wanted.last is None else str(wanted.last)
        raise ClipError(
            f"{path} has images 0 to {found.total - 1}; images {wanted.first} to {last} were asked for. "
            f"Begin with image {found.total - 1} at the latest."
        )
    part = Part(wanted.first, wanted.stride, found.total)
    return _stacked(path, found.images), found.fps / wanted.stride, part


@dataclass
class _Found:
    """The images kept so far, how many there are in the file, and its images per second."""

    fps: float = 0.0
    total: int = 0
    images: list[np.ndarray] = field(default_factory=list)


def _from_the_beginning(path: Path, wanted: Wanted) -> _Found:
    """Decode the whole file, which also tells whether it is all there."""
    found = _Found()
    expected, damaged, cut_off = 0, False, is_cut_off(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video and cut_off:
                raise ClipError(_truncated(path, 0, 0, "the file ends early"))
            if not container.streams.video:
                raise ClipError(f"{path} holds no video stream.")
            stream = container.streams.video[0]
            expected, found.fps = stream.frames, _rate(stream)
            for frame in container.decode(stream):
                if found.total in wanted:
                    found.images.append(_upright(frame))
                found.total, damaged = found.total + 1, frame.is_corrupt
            cut_off |= _ends_early(path, stream) and found.total < expected
    except av.error.FFmpegError as error:
        raise ClipError(_truncated(path, found.total, expected, f"FFmpeg says: {error.strerror}")) from error
    if cut_off:
        raise ClipError(_truncated(path, found.total, expected, "the file ends early"))
    if damaged:
        raise ClipError(_truncated(path, found.total, expected, "the last one is damaged"))
    if not found.total:
        raise ClipError(f"{path} holds no images: 0 were decoded of {expected} expected.")
    return found


def _sought(path: Path, wanted: Wanted) -> _Found | None:
    """Read the wanted images from the key image before them; None if the file does not tell where they are."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video or _ends_early(path, container.streams.video[0]):
                return None
            stream = container.streams.video[0]
            times = _times(container, stream)
            if not wanted.first < len(times):
                return None
            found = _Found(_rate(stream), len(times))
            numbers: dict[int | None, int] = {time: number for number, time in enumerate(times)}
            final = len(times) - 1 if wanted.last is None else min(wanted.last, len(times) - 1)
            container.seek(times[wanted.first], stream=stream, backward=True)
            following = None
            for frame in container.decode(stream):
                number = numbers.get(frame.pts)
                if number is None or frame.is_corrupt:
                    return None
                startable = number <= wanted.first and frame.key_frame
                if not startable if following is None else number != following:
                    return None
                if number in wanted:
                    found.images.append(_upright(frame))
                if number == final:
                    return found
                following = number + 1
            return None
    except av.error.FFmpegError:
        return None


def _times(container: Any, stream: Any) -> list[int]:
    """The time of every image, in the order in which they are shown; empty where packets do not tell."""
    if stream.codec_context.name not in _SEEKABLE or not _SEEKABLE_IN & set(container.format.name.split(",")):
        return []
    packets = [packet for packet in container.demux(stream) if packet.size]
    if not packets or not packets[0].is_keyframe:
        return []
    if any(packet.pts is None or packet.is_discard or packet.is_corrupt for packet in packets):
        return []
    times = sorted(packet.pts for packet in packets)
    return times if len(set(times)) == len(times) else []


def _stacked(path: Path, images: list[np.ndarray]) -> np.ndarray:
    """One array; each image is given up as it is copied, so that they are in memory once."""
    shape = images[0].shape
    if any(image.shape != shape for image in images):
        raise ClipError(f"{path} changes its image size midway; cut it where it does.")
    stacked = np.empty((len(images), *shape), np.uint8)
    for number in reversed(range(len(images))):
        stacked[number] = images.pop()
    return stacked


def _rate(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or 0) or 24.0


def _upright(frame: Any) -> np.ndarray:
    image: np.ndarray = frame.reformat(format="rgb24", interpolation=FAITHFUL).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.rot90(image, turns) if turns else image


def _ends_early(path: Path, stream: Any) -> bool:
    """Tell whether the index names bytes beyond the end of the file; a trimmed but whole file does not."""
    entries = stream.index_entries
    return bool(len(entries)) and max(entry.pos + entry.size for entry in entries) > path.stat().st_size


def _truncated(path: Path, decoded: int, expected: int, reason: str) -> str:
    of = f"of {expected} expected" if expected else "of an unknown number"
    return f"{path} is truncated or not a video: {decoded} images decoded {of} ({reason}). Get the whole file."
