"""Captures on their way to the writer: cast, checked and counted on their own device, into memory of the writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from store.bfloat16 import NAN
from store.files.atomic import ALIGNMENT, aligned_empty
from store.recordings.casting import CastPart
from store.recordings.writer import Ready

_OFFSET, _ZERO = torch.tensor(0x7FFF, dtype=torch.int16, device="cpu"), 0x7FFF
"""Twice the bits of a number, without its sign, plus this: as int16, numbers are then in the order of their sizes, from
-32767 of the smallest on; 0, of either sign, is behind them all."""
_EXACT_FROM = 2 * 0x3700 - 0x8001
"""Place by size of 2 ** -17 in bfloat16: from here on float16 holds what bfloat16 holds."""
_BLOCK = 1 << 18
"""Numbers of a block: with its float32 copy, its cast and its order, about what a core's own cache holds."""
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
    """Cast a tensor on the CPU, block by block in the order of its memory: each stays in the cache for all passes."""
    source = tensor.reshape(len(tensor), -1, tensor.shape[-1])
    target = room.view(source.shape)
    cast = _CASTS.get((tensor.dtype, room.dtype), _any_cast)
    scratch = _Scratch(tensor.dtype, _BLOCK + source.shape[-1])
    inexact, sizes = 0, []
    for block, part in _blocks(source, target):
        changed, size = cast(block, part, scratch)
        inexact += changed
        sizes.append(size)
    largest = float(np.max(sizes))  # NaN where one is
    if largest < _BEYOND[room.dtype]:
        return CastPart(inexact, largest=largest)
    return CastPart(0, int((~torch.isfinite(tensor)).sum()), int(torch.isinf(room).sum()), largest)


def _blocks(source: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts (row, ..., channel) of two tensors (head, token, channel), in the order of the first one's memory."""
    if source.stride(0) < source.stride(1):  # as transformers make them: the heads of a token lie together
        source, target = source.transpose(0, 1), target.transpose(0, 1)
    rows = _BLOCK // source[0].numel()
    if rows:
        yield from zip(source.split(rows), target.split(rows), strict=True)
        return
    tokens = max(1, _BLOCK // source.shape[-1])
    for row, part in zip(source, target, strict=True):
        yield from zip(row.split(tokens), part.split(tokens), strict=True)


class _Scratch:
    """Memory for the passes over one block, used again for the next."""

    def __init__(self, dtype: torch.dtype, size: int) -> None:
        self._wide = torch.empty(size, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        self._order = torch.empty(size if dtype.itemsize == 2 else 0, dtype=torch.int16)

    def wide(self, block: Tensor) -> Tensor:
        """Memory of a block's shape in a type that holds all its values."""
        return self._wide[: block.numel()].view(block.shape)

    def order(self, block: Tensor) -> Tensor:
        """Place of each value of a half-precision block by size: -32767 of the smallest, but 32767 of 0."""
        memory = self._order[: block.numel()].view(block.shape)
        return torch.add(_OFFSET, block.view(torch.int16), alpha=2, out=memory)


def _any_cast(block: Tensor, part: Tensor, scratch: _Scratch) -> tuple[int, float]:
    """Cast a block; return how many values changed and the largest size."""
    part.copy_(block)
    back = scratch.wide(block).copy_(part)
    changed = np.count_nonzero(np.not_equal(back.numpy(), block.to(back.dtype).numpy()))
    low, high = torch.aminmax(block)
    return int(changed), float(torch.maximum(low.abs(), high.abs()))


def _copied(block: Tensor, part: Tensor, scratch: _Scratch) -> tuple[int, float]:
    """As :func:`_any_cast` where no value changes."""
    part.copy_(block)
    return 0, _largest(scratch.order(block), block.dtype)[1]


def _bfloat16_to_float16(block: Tensor, part: Tensor, scratch: _Scratch) -> tuple[int, float]:
    """As :func:`_any_cast`. Only values between 0 and 2 ** -17 can change; they are looked for in the bits.

    By way of float32 the cast is vectorised.
    """
    wide = scratch.wide(block).copy_(block)
    part.copy_(wide)
    order = scratch.order(block)
    least, largest = _largest(order, block.dtype)
    if least >= _EXACT_FROM:
        return 0, largest
    few = wide.view(-1).numpy()[np.flatnonzero(order.view(-1).numpy() < _EXACT_FROM)]
    return int(np.count_nonzero(few.astype(np.float16) != few)), largest


def _largest(order: Tensor, dtype: torch.dtype) -> tuple[int, float]:
    """The least place by size in a block, and its largest size."""
    low, high = (int(each) for each in torch.aminmax(order))
    if high == _ZERO:
        places = order.numpy()
        high = int(np.max(places, where=places != _ZERO, initial=-(2**15)))
    bits = (high + 2**15 + 1) >> 1
    if dtype == torch.bfloat16:
        return low, float(np.uint32(bits << 16).view(np.float32))
    return low, float(np.uint16(bits).view(np.float16))


_CASTS = {
    (torch.bfloat16, torch.float16): _bfloat16_to_float16,
    (torch.bfloat16, torch.bfloat16): _copied,
    (torch.float16, torch.float16): _copied,
}
