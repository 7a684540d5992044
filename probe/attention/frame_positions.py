"""Positions at fractional frames: from the tables of whole frames, the values that a model would compute between."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from probe.attention.positions import AddedPositions, Positions, RotaryPositions
from store.checks import finite
from store.errors import InvalidInputError

_TOLERANCE = 1e-3  # of a sinusoid of a table that may be float16


def positions_at(positions: Positions, frames: Sequence[float]) -> Positions:
    """Return the positions of tokens whose frames lie at any times within a clip.

    Rotary tables, and added ones that are sinusoids of the frame (CogVideoX-2B), turn by a constant angle from frame
    to frame, which is read from the tables; so the values between two frames are those that the model's own formula
    gives. Other added tables (learned ones) are interpolated linearly.

    Parameters
    ----------
    positions : Positions
        Positions of all frames of a clip, at the frames 0, 1, 2 ...
    frames : sequence of float, 0 to the number of frames - 1

    Returns
    -------
    Positions of the same kind, tables (``len(frames)``, y, x, channel)

    Raises
    ------
    InvalidInputError
        For frames outside the clip, or none.

    Notes
    -----
    An angle is known only up to whole turns, so rotary positions must turn by less than half a turn a frame; those of
    CogVideoX, Wan and HunyuanVideo turn by at most one radian.

    Examples
    --------
    >>> angle = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 1, 2)
    >>> rotary = RotaryPositions(angle.cos(), angle.sin(), angle.cos(), angle.sin())
    >>> found = positions_at(rotary, [0.0, 1.5])
    >>> torch.atan2(found.query_sin, found.query_cos)[:, 0, 0, 0]
    tensor([0.0000, 1.5000])
    """
    tables = positions.tensors()
    count = len(next(iter(tables.values())))
    if not len(frames):
        raise InvalidInputError("frames must name at least one frame.")
    for frame in frames:
        finite(frame, "a frame", min_value=0, max_value=count - 1)
    if count == 1:
        return type(positions)(**{name: table.expand(len(frames), -1, -1, -1) for name, table in tables.items()})
    at = torch.tensor([float(frame) for frame in frames], dtype=torch.float64)
    if isinstance(positions, RotaryPositions):
        query = _turned(positions.query_cos, positions.query_sin, at)
        key = _turned(positions.key_cos, positions.key_sin, at)
        return RotaryPositions(*query, *key)
    return AddedPositions(_added(tables["table"], at))


def _turned(cos: Tensor, sin: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines at times, from those of whole frames."""
    start = torch.complex(cos[0].double(), sin[0].double())
    rate = _rate(start, torch.complex(cos[1].double(), sin[1].double()))
    found = start * torch.exp(1j * rate * at.to(rate.device)[:, None, None, None])
    return found.real.to(cos), found.imag.to(sin)


def _rate(first: Tensor, second: Tensor) -> Tensor:
    """Radians by which complex values turn from one frame to the next."""
    turned = second * first.conj()
    return torch.atan2(turned.imag, turned.real)


def _added(table: Tensor, at: Tensor) -> Tensor:
    """An added table at times: sinusoids of the frame exactly, other channels by linear interpolation."""
    low = at.floor().clamp(max=len(table) - 2).long()
    part = (at - low).to(table)[:, None, None, None]
    found = torch.lerp(table[low], table[low + 1], part)
    channels = _sinusoid_channels(table)
    if channels:
        half = channels // 2
        sin, cos = table[..., :half], table[..., half:channels]
        turned_cos, turned_sin = _turned(cos, sin, at)
        found = torch.cat([turned_sin, turned_cos, found[..., channels:]], dim=-1)
    return found


def _sinusoid_channels(table: Tensor) -> int:
    """Return how many of the first channels are sines and then cosines of the frame; the rest do not depend on it.

    Zero where the table is not built that way.
    """
    values = table.double()
    changing = ((values - values[:1]).abs() > _TOLERANCE).flatten(0, 2).any(0)
    quarter = table.shape[-1] // 4  # diffusers' three-dimensional sinusoids give a quarter of the channels to time
    if quarter % 2 or bool(changing[quarter:].any()):
        return 0
    sin, cos = values[..., : quarter // 2], values[..., quarter // 2 : quarter]
    if bool(((sin**2 + cos**2 - 1).abs() > _TOLERANCE).any()):
        return 0
    turned_cos, turned_sin = _turned(cos, sin, torch.arange(len(values), dtype=torch.float64))
    apart = max(float((turned_cos - cos).abs().max()), float((turned_sin - sin).abs().max()))
    return quarter if apart <= _TOLERANCE * len(values) else 0
