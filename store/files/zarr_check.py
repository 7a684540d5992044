"""Inspection of the files of a Zarr 3 folder before any codec acts on their content."""

from __future__ import annotations

import json
from pathlib import Path

from numcodecs import zstd

MOST_COMPRESSED = 1 << 15  # bytes that one byte of zstd can decode to: a block of 128 KiB in four
_TEXTS = "vlen-utf8"
_CODECS = {"bytes", _TEXTS, "zstd"}
_ZSTD = b"\x28\xb5\x2f\xfd"


def check_zarr_folder(path: Path) -> None:
    """Raise for codecs that no ditprobe writes, and chunks that claim to be larger than they can be.

    Raises
    ------
    ValueError
        To be reported as damage: :func:`store.files.damaged.damage_as`. Unreadable metadata raises further kinds.
    """
    for metadata in path.rglob("zarr.json"):
        codecs = {codec["name"] for codec in json.loads(metadata.read_bytes()).get("codecs", [])}
        if not codecs <= _CODECS:
            raise ValueError(f"the array {metadata.parent.name} has a codec that ditprobe does not write")
        for file in metadata.parent.rglob("*") if codecs else ():
            if file.is_file() and file != metadata:
                _check_chunk(file, texts=_TEXTS in codecs)


def _check_chunk(file: Path, *, texts: bool) -> None:
    with file.open("rb") as opened:
        head = opened.read(18)
    claimed = _declared(head)
    if claimed > MOST_COMPRESSED * file.stat().st_size:
        raise ValueError(f"the chunk {file.name} claims to have {claimed} bytes")
    if texts:  # a number of texts, then each with its length: the decoder makes room for them first
        content = file.read_bytes()
        content = bytes(zstd.decompress(content)) if head.startswith(_ZSTD) else content
        count = int.from_bytes(content[:4], "little")
        if 4 + 4 * count > len(content):
            raise ValueError(f"the chunk {file.name} claims to have {count} texts")


def _declared(head: bytes) -> int:
    """The size that a zstd frame states of its content (RFC 8878, 3.1.1.1), 0 where it states none."""
    if head[:4] != _ZSTD or len(head) < 6:
        return 0
    flags = head[4]
    alone = bool(flags & 0x20)  # no window descriptor, one byte
    length = (1 if alone else 0, 2, 4, 8)[flags >> 6]
    at = 5 + (not alone) + (0, 1, 2, 4)[flags & 3]
    return int.from_bytes(head[at : at + length], "little") + (256 if length == 2 else 0)
