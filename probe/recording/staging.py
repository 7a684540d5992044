"""Captures on their way to the writer: cast, checked and counted on their own device, into memory of the writer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from store.bfloat16 import NAN
from store.files.atomic import ALIGNMENT, aligned_empty
from store.recordings.casting import CastPart
from store.recordings.writer import Ready

_EXACT_FROM = np.uint16(0x3700 << 1)
"""Bits of 2 ** -17 in bfloat16 without the sign: from here on float16 holds what bfloat16 holds."""
_BLOCK = 1 << 17
_BEYOND = {torch.float16: 65520.0, torch.bfloat16: (2 - 2.0**-8) * 2.0**127}
"""The least number that is rounded to infinity."""


class Staging:
    """Fill the memory of a recording's writer from tensors of one device.

    On CUDA everything is queued on a stream of its own, so the sampler goes on at once; the memory is pinned. On the
    CPU the same is done in place.

    Parameters
    ----------
    device : torch.device

    Examples
    --------
    >>> part = np.empty((2, 3), np.float16)
    >>> Staging(torch.device("cpu")).fill({"key": torch.full((2, 3), 0.1)}, {"key": part})()["key"].inexact
    6
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray:
        """Empty float16 memory at an aligned address; pinned where the tensors are on CUDA."""
        if self._stream is None:
            return aligned_empty(shape)
        nbytes = 2 * int(np.prod(shape, dtype=np.int64))
        memory = torch.empty(nbytes + ALIGNMENT, dtype=torch.uint8, pin_memory=True).numpy()
        start = -memory.ctypes.data % ALIGNMENT
        pinned: np.ndarray = memory[start : start + nbytes].view("<f2").reshape(shape)
        return pinned

    def fill(self, tensors: Mapping[str, Tensor], parts: Mapping[str, np.ndarray]) -> Ready:
        """Begin to fill parts with tensors of their shapes (a shorter text is filled up with NaN).

        Parts are float16, or uint16 for the bits of bfloat16.
        """
        with torch.no_grad():
            if self._stream is None:
                done = {name: _cast(tensor.detach(), _room(tensor, parts[name])) for name, tensor in tensors.items()}
                return lambda: done
            return self._queued(tensors, parts)

    def _queued(self, tensors: Mapping[str, Tensor], parts: Mapping[str, np.ndarray]) -> Ready:
        stream = self._stream
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        found = []
        with torch.cuda.stream(stream):
            for name, tensor in tensors.items():
                tensor = tensor.detach()
                room = _room(tensor, parts[name])
                half = tensor.to(room.dtype)
                room.copy_(half, non_blocking=True)
                counts = [(half.to(tensor.dtype) != tensor).sum(), torch.isinf(half).sum()]
                del half  # one large tensor at a time
                counts.insert(1, (~torch.isfinite(tensor)).sum())
                found.append(torch.stack([tensor.abs().amax().double(), *(each.double() for each in counts)]))
                tensor.record_stream(stream)
            reports = torch.empty(len(found), 4, dtype=torch.float64, pin_memory=True)
            reports.copy_(torch.stack(found), non_blocking=True)
            event = torch.cuda.Event()
            event.record(stream)

        def ready() -> dict[str, CastPart]:
            event.synchronize()
            rows = dict(zip(tensors, reports.tolist(), strict=True))
            return {
                name: CastPart(int(inexact), int(bad), int(beyond), size)
                for name, (size, inexact, bad, beyond) in rows.items()
            }

        return ready


def _room(tensor: Tensor, part: np.ndarray) -> Tensor:
    """The memory of a part as a tensor; where the text is shorter, the rest is filled with NaN."""
    bits = part.dtype == np.uint16
    if part.ndim == 3 and tensor.shape[1] < part.shape[1]:
        part[:, tensor.shape[1] :] = NAN if bits else np.nan
        part = part[:, : tensor.shape[1]]
    return torch.from_numpy(part).view(torch.bfloat16) if bits else torch.from_numpy(part)


def _cast(tensor: Tensor, room: Tensor) -> CastPart:
    """Cast a tensor on the CPU, head by head: each is made contiguous once and then stays in the cache."""
    cast_head = _CASTS.get((tensor.dtype, room.dtype), _any_cast)
    head = torch.empty(tensor.shape[1:], dtype=tensor.dtype)
    inexact, sizes = 0, []
    for source, cast in zip(tensor, room, strict=True):
        head.copy_(source)
        changed, size = cast_head(head, cast)
        inexact += changed
        sizes.append(size)
    largest = float(np.max(sizes))  # NaN where one is
    if largest < _BEYOND[room.dtype]:
        return CastPart(inexact, largest=largest)
    return CastPart(0, int((~torch.isfinite(tensor)).sum()), int(torch.isinf(room).sum()), largest)


def _any_cast(head: Tensor, cast: Tensor) -> tuple[int, float]:
    """Cast one head; return how many values changed and the largest size."""
    largest = _copied(head, cast)[1]
    return int(torch.count_nonzero(cast.to(head.dtype) != head)), largest


def _copied(head: Tensor, cast: Tensor) -> tuple[int, float]:
    """As :func:`_any_cast` where no value changes."""
    cast.copy_(head)
    low, high = torch.aminmax(head)
    return 0, float(torch.maximum(low.abs(), high.abs()))


def _bfloat16_to_float16(head: Tensor, cast: Tensor) -> tuple[int, float]:
    """As :func:`_any_cast`. Only values between 0 and 2 ** -17 can change; they are looked for in the bits.

    By way of float32 the cast is vectorised.
    """
    source, target = head.view(-1), cast.view(-1)
    wide = torch.empty(min(len(source), _BLOCK))
    scratch = wide.numpy().view(np.uint16)
    changed, largest, least = 0, 0, _EXACT_FROM - np.uint16(1)
    for block, half in zip(source.split(_BLOCK), target.split(_BLOCK), strict=True):
        half.copy_(wide[: len(block)].copy_(block))
        bits = block.view(torch.int16).numpy().view(np.uint16)
        sizes = np.left_shift(bits, np.uint16(1), out=scratch[: len(bits)])
        largest = max(largest, int(sizes.max()))
        sizes -= np.uint16(1)  # 0 becomes the largest
        if sizes.min() < least:
            places = torch.from_numpy(np.flatnonzero(sizes < least))
            changed += int(torch.count_nonzero(half[places].float() != block[places].float()))
    return changed, float(np.uint32(largest << 15).view(np.float32))


_CASTS = {
    (torch.bfloat16, torch.float16): _bfloat16_to_float16,
    (torch.bfloat16, torch.bfloat16): _copied,
    (torch.float16, torch.float16): _copied,
}
