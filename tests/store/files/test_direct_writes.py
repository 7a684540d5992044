"""Files written past the page cache hold the same bytes as any other, whatever their length."""

import errno
import os

import numpy as np
import pytest

from store.files.atomic import ALIGNMENT, aligned_empty, write_atomically

LARGE = 1 << 20


@pytest.mark.parametrize("more", [0, 2, ALIGNMENT - 2, ALIGNMENT])
@pytest.mark.parametrize("after", [b"", b"index", bytes(ALIGNMENT), bytes(LARGE)])
def test_payload_and_what_follows(tmp_path, more, after):
    values = aligned_empty(((LARGE + more) // 2,))
    values[...] = np.arange(len(values)) % 2048
    write_atomically(tmp_path / "file", values, after)
    assert (tmp_path / "file").read_bytes() == values.tobytes() + after
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_a_disk_that_refuses_direct_writes_or_takes_a_part(tmp_path, monkeypatch, refused):
    """From some call on: each write takes a block, then none is allowed past the cache."""
    values, calls, real = aligned_empty((LARGE // 2 + 1,)), [], os.write
    values[...] = np.arange(len(values)) % 2048

    def write(descriptor, data):
        calls.append(len(data))
        if len(calls) == refused + 1:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, data[: max(ALIGNMENT, len(data) // 2 // ALIGNMENT * ALIGNMENT)])

    monkeypatch.setattr(os, "write", write)
    write_atomically(tmp_path / "file", values, b"index")
    assert (tmp_path / "file").read_bytes() == values.tobytes() + b"index"
