"""Detection of truncated video files from the sizes that their container states.

FFmpeg plays what is left of a truncated file without a warning. The containers themselves know better: each states the
sizes of its parts at their beginning, so a few headers tell whether the last part is whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_ISO = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx")
_ISO_NEEDED = (b"moov", b"moof", b"mdat")  # what follows the last of them may be anything
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_EBML_NEEDED = (_EBML, _SEGMENT, *map(bytes.fromhex, ("1549A966", "1654AE6B", "1F43B675")))  # info, tracks, cluster
_TS_PACKETS = (188, 192)  # broadcast; with a time code before each packet


def is_cut_off(path: str | os.PathLike[str]) -> bool:
    """Tell whether the file ends inside a part whose size its container states.

    Known are MP4 and QuickTime, Matroska and WebM, and AVI. MPEG-TS and live Matroska streams state no length of the
    whole: a cut between two packets or two clusters cannot be distinguished from their end, one within them can.

    Sources: ISO/IEC 14496-12, section 4.2; RFC 8794, sections 5 and 6, and RFC 9559; the OpenDML extensions of AVI;
    ISO/IEC 13818-1, section 2.4.3.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     video = Path(folder, "cut.avi")
    ...     _ = video.write_bytes(b"RIFF" + (1000).to_bytes(4, "little") + b"AVI LIST")
    ...     is_cut_off(video)
    True
    """
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        file.seek(0)
        return _walker(head)(file, size)


def _walker(head: bytes) -> Callable[[BinaryIO, int], bool]:
    if head[:4] == _EBML:
        return _matroska_is_cut
    if head[:4] == b"RIFF":
        return _riff_is_cut
    if head[4:8] in _ISO:
        return _iso_is_cut
    return _transport_is_cut


def _iso_is_cut(file: BinaryIO, size: int) -> bool:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: to the end of the file; anything else is not a box
            return False
        if at + length > size:
            return kind in _ISO_NEEDED
        at += length
    return False


def _riff_is_cut(file: BinaryIO, size: int) -> bool:
    at = 0
    while at + 8 <= size:  # files above 1 GB are several RIFFs
        file.seek(at)
        header = file.read(8)
        length = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # a live stream fills in no size
            return False
        at += 8 + length
    return at > size


def _matroska_is_cut(file: BinaryIO, size: int) -> bool:
    """The Segment states its size; in a live stream, which does not know its own, the elements in it do."""
    at = 0
    while at < size:
        file.seek(at)
        name, length = _number(file), _length(file)
        if length is None and name != _SEGMENT:
            return False  # a live cluster has no stated end: nothing to compare with
        at = file.tell() + (length or 0)
        if at > size:
            return name in _EBML_NEEDED
    return False


def _length(file: BinaryIO) -> int | None:
    """The stated length of an element, None when it states that it is unknown."""
    number = _number(file)
    bits = 7 * len(number)
    value = int.from_bytes(number, "big") & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value


def _number(file: BinaryIO) -> bytes:
    """A number of variable length, unchanged: the first bit that is set says how many bytes it has."""
    first = file.read(1)
    return first + file.read(8 - first[0].bit_length()) if first and first[0] else b""


def _transport_is_cut(file: BinaryIO, size: int) -> bool:
    for packet in _TS_PACKETS:
        file.seek(packet - 188)
        marks = [file.read(packet)[:1] for _ in range(3)]
        if marks == [b"\x47"] * 3:
            return size % packet != 0
    return False
