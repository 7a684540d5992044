"""Digests at the end of files in other people's formats, where their readers do not look.

A pickle ends at its STOP, whatever follows; MP4, Matroska and AVI have parts that players skip. Who re-encodes or
re-muxes a video, or pickles a set again, writes a file without the digest, and nothing is checked.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO

from store.files.digest import DIGEST

_NAME = f"{DIGEST}=".encode()
_HEX = 64
_PART = len(_NAME) + _HEX
_CHUNK = 1 << 20
_ISO = (8 + _PART).to_bytes(4, "big") + b"uuid"  # the name has the 16 bytes of a UUID
_BEFORE = {
    ".pkl": b"",
    ".mp4": _ISO,
    ".m4v": _ISO,
    ".mov": _ISO,
    ".mkv": b"\xec" + bytes([0x80 | _PART]),  # the element Void
    ".avi": b"JUNK" + _PART.to_bytes(4, "little"),
}


def append_digest(path: Path, suffix: str) -> None:
    """Add the SHA-256 of a file to its end, in the way of its suffix.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.pkl")
    ...     _ = path.write_bytes(b"content")
    ...     append_digest(path, ".pkl")
    ...     found = has_changed(path)
    ...     _ = path.write_bytes(path.read_bytes().replace(b"n", b"m"))
    ...     found, has_changed(path)
    (False, True)
    """
    with path.open("r+b") as file:
        digest = _digest(file, path.stat().st_size)
        file.write(_BEFORE[suffix] + _NAME + digest)


def has_changed(path: Path) -> bool:
    """Tell whether a file differs from the digest at its end; False if there is none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - _PART, 0))
        name, stored = file.read(len(_NAME)), file.read()
        if name != _NAME or len(stored) != _HEX:
            return False
        file.seek(max(size - _PART - 8, 0))
        head = file.read(8)
        before = next((each for each in _BEFORE.values() if each and head.endswith(each)), b"")
        file.seek(0)
        return _digest(file, size - _PART - len(before)) != stored


def _digest(file: IO[bytes], size: int) -> bytes:
    """Digest of the first bytes of a file, read from its current position, which is left after them."""
    digest = hashlib.sha256()
    while size > 0:
        part = file.read(min(size, _CHUNK))
        digest.update(part)
        size -= len(part) or size
    return digest.hexdigest().encode()
