"""Conversion between torch and numpy, and the checks that every analysis makes of its tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from analyses.token_checks import TokenChecks
from store.arrays import as_array
from store.errors import InvalidInputError
from store.layout import TokenLayout

BUDGET_BYTES = 256 * 2**20
"""Default working memory of one analysis call, in bytes, beyond its input and its result."""


def as_tensor(array: Any) -> torch.Tensor:
    """The same numbers as a torch tensor, without a copy where that is possible."""
    if isinstance(array, torch.Tensor):
        return array.detach()
    array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        # A recording is a read-only memory map. Nothing here writes to its inputs.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array if all(s >= 0 for s in array.strides) else array.copy())


def check_axes(tensor: torch.Tensor, axes: tuple[str, ...], name: str) -> None:
    """Raise for a tensor without these axes, empty, or not of finite floats.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_axes(torch.zeros(3, 4), ("frame", "channel"), "features")
    """
    if tensor.ndim != len(axes) or not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InvalidInputError(f"{name} must be floats ({', '.join(axes)}); got {kind} {tuple(tensor.shape)}.")
    check_finite(tensor.detach(), name)


def restore_kind(like: Any) -> Callable[[torch.Tensor], Any]:
    """A function that turns a tensor into the kind of array that ``like`` is."""
    if isinstance(like, torch.Tensor):
        return lambda tensor: tensor
    return lambda tensor: tensor.cpu().numpy()


def compute_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """Return float64 if an input has it, else float32: half precision is slow on CPUs and cannot resolve near ties."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def as_points(points: Any, layout: TokenLayout, device: torch.device) -> torch.Tensor:
    """Query points on the device as floats of at least 32 bits, rejected when not finite or outside the image."""
    points = as_tensor(points)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InvalidInputError(f"points need the shape (point, 2), as (x, y) in pixels; got {tuple(points.shape)}.")
    if points.dtype not in (torch.float32, torch.float64):
        points = points.double() if device.type != "mps" else points.float()
    layout.check_inside(points.cpu().numpy())
    return points.to(device)


def check_finite(tensor: torch.Tensor, name: str) -> float:
    """Return the largest absolute value; a tensor that holds NaN or infinite values is rejected."""
    checks = TokenChecks()
    checks.finite(tensor, name)
    return checks.finish()[name]


def check_visibility(visibility: Any) -> torch.Tensor:
    """Visibility as a bool tensor; numbers are rejected, since half visible has no meaning here."""
    visibility = as_tensor(visibility)
    if visibility.dtype != torch.bool:
        raise InvalidInputError(
            f"visibility must be bool; got {str(visibility.dtype).removeprefix('torch.')}. Choose a threshold, "
            "e.g. visibility > 0.5."
        )
    return visibility


def video_tokens(tensor: Any, name: str, layout: TokenLayout, checks: TokenChecks | None = None) -> torch.Tensor:
    """Query or key as (head, frame, cell, channel), checked against the layout; its values when ``checks`` are."""
    tensor = as_tensor(tensor)
    wanted = (layout.frames, layout.height, layout.width)
    if tensor.ndim != 5 or tuple(tensor.shape[1:4]) != wanted:
        raise InvalidInputError(
            f"{name} needs the shape (head, frame, y, x, channel) with (frame, y, x) = {wanted}; "
            f"got {tuple(tensor.shape)}."
        )
    if checks is None:
        check_finite(tensor, name)
    else:
        checks.finite(tensor, name)
    return tensor.flatten(2, 3)


def query_and_key(
    query: Any, key: Any, layout: TokenLayout, checks: TokenChecks | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Query and key as (head, frame, cell, channel) tensors of one shape.

    Their values are checked at once or, if ``checks`` is given, when it is fetched.
    """
    noted = TokenChecks() if checks is None else checks
    query, key = video_tokens(query, "query", layout, noted), video_tokens(key, "key", layout, noted)
    if query.shape != key.shape:
        raise InvalidInputError(
            f"query and key need the same shape; got {tuple(query.shape)} and {tuple(key.shape)} "
            f"as (head, frame, cell, channel)."
        )
    noted.products(compute_dtype(query, key), query.shape[-1])
    if checks is None:
        noted.finish()
    return query, key


def need_dims(name: str, values: xr.DataArray, dims: Sequence[str]) -> xr.DataArray:
    """Return the array with its dims in the given order, or raise an error that lists the dims that it has.

    Examples
    --------
    >>> need_dims("values", xr.DataArray([[1, 2]], dims=("layer", "step")), ("step", "layer")).shape
    (2, 1)
    """
    if not isinstance(values, xr.DataArray):
        raise InvalidInputError(f"{name} must be an xarray.DataArray; got {type(values).__name__}.")
    if values.dtype.kind not in "biuf":
        raise InvalidInputError(f"{name} must hold numbers; got {values.dtype}.")
    wanted, found = ", ".join(dims), ", ".join(map(str, values.dims))
    missing = [dim for dim in dims if dim not in values.dims]
    extra = [str(dim) for dim in values.dims if dim not in dims]
    if missing:
        raise InvalidInputError(f"{name} needs dims ({wanted}); got ({found}): {', '.join(missing)} missing.")
    if extra:
        choice = ", ".join(f"{dim}=..." for dim in extra)
        raise InvalidInputError(
            f"{name} needs dims ({wanted}); got ({found}). Choose one first, e.g. values.sel({choice})."
        )
    if not values.size:
        raise InvalidInputError(f"{name} is empty: {dict(values.sizes)}.")
    return values.transpose(*dims)


def as_images(images: Any) -> np.ndarray:
    """Checked images, uint8 (image, y, x, 3)."""
    array = as_array(images)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3 or not array.size:
        raise InvalidInputError(
            f"images must be uint8 (image, y, x, 3) with at least one image; got {array.dtype} {array.shape}."
        )
    return array


def cells_as_xy(cells: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
    """Row-major cell numbers as integer (x, y)."""
    return torch.stack([cells % layout.width, cells // layout.width], -1)


def need_text(text_key: Any, name: str = "text_key") -> None:
    """Raise for a capture whose attention has no text tokens.

    Raises
    ------
    InvalidInputError
        For None.
    """
    if text_key is None:
        raise InvalidInputError(
            f"{name} is None: text is attended to separately, so no text takes part in this attention. Take a backbone "
            "whose text and video share an attention."
        )


def text_tokens(
    text_key: Any, key: torch.Tensor, name: str = "text_key", checks: TokenChecks | None = None
) -> torch.Tensor:
    """Text keys as a checked (head, token, channel) tensor, which fits video keys (head, ..., channel).

    None raises, since there are then no text tokens in this attention. Values that are not finite raise at once, or
    with the given ``checks``.
    """
    need_text(text_key, name)
    text = as_tensor(text_key).to(key.device)
    if text.ndim != 3 or (text.shape[0], text.shape[2]) != (key.shape[0], key.shape[-1]):
        raise InvalidInputError(
            f"{name} needs the shape (head, token, channel) with {key.shape[0]} heads and {key.shape[-1]} channels; "
            f"got {tuple(text.shape)}."
        )
    if checks is None:
        check_finite(text, name)
    else:
        checks.finite(text, name)
    return text
