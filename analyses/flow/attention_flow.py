"""Attention motion flow: displacement from every cell to where its attention lies in every other frame (DiTFlow)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr

from analyses.arrays import as_tensor, compute_dtype, query_and_key, restore_kind
from analyses.kernels.expected_cells import ChosenRows, ExpectedCells, best_cells
from probe.execution.autocast import outside_autocast
from store.arguments import Array, checked
from store.arrays import as_array
from store.checks import finite
from store.errors import InvalidInputError
from store.layout import TokenLayout


@checked
@outside_autocast()
def attention_motion_flow(
    query: Array, key: Array, layout: TokenLayout, *, temperature: float = 2.0, hard: bool = False
) -> Any:
    """The displacement from every cell to where its attention lies, for every ordered pair of frames.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel) torch or numpy, post-norm and post-RoPE; any float dtype
    layout : TokenLayout
    temperature : float above 0
        Factor of the head-averaged logits before the softmax over the cells of the other frame. A hard flow does not
        depend on it.
    hard : bool
        The displacement to the cell of the largest logit, the first of equal ones, instead of the expected
        displacement. It has no gradient.

    Returns
    -------
    (frame, frame_to, y, x, 2) of the kind of ``query``, (dx, dy) in cells, y pointing down; from ``frame`` to
        ``frame_to``, pairs of a frame with itself included. float64 where an input is, else float32. The soft flow is
        differentiable once with respect to ``query`` and ``key``: there is no second derivative.

    Raises
    ------
    InvalidInputError
        For tensors that do not fit the layout or hold NaN, and for a temperature that is not above 0.

    Notes
    -----
    DiTFlow (Pondaven et al., CVPR 2025); docs/definitions.md, section 7.
    The attention is softmax(temperature mean_heads(q k^T) / sqrt(channel)).
    The mean over heads is one product of length heads x channel, and the soft flow is attention whose values are
    coordinates. Neither it nor its backward pass holds more of the attention than a tile of one pair of frames. Inputs
    in half precision are processed in float32, as are their summed gradients.

    Examples
    --------
    Every cell is found one column further right; those of the last column leave.

    >>> layout = TokenLayout(2, 3, 4, 48, 64, 5)
    >>> cells = 40 * torch.eye(12).reshape(1, 1, 3, 4, 12)
    >>> moving = torch.cat([cells, cells.roll(1, dims=3)], 1)
    >>> attention_motion_flow(moving, moving, layout, hard=True)[0, 1, 0]
    tensor([[ 1.,  0.],
            [ 1.,  0.],
            [ 1.,  0.],
            [-3.,  0.]])
    """
    check_temperature(temperature)
    query_and_key(query, key, layout)
    tokens = [_attached(tensor).flatten(2, 3) for tensor in (query, key)]
    cells = _cells_of(tokens, layout)
    if hard:
        with torch.no_grad():
            found = cells[best_cells(*tokens)]
    else:
        found = ExpectedCells.apply(*tokens, cells, _factor(tokens[0], temperature), None)
    return restore_kind(query)((found - cells).unflatten(2, (layout.height, layout.width)))


def _cells_of(tokens: list[torch.Tensor], layout: TokenLayout) -> torch.Tensor:
    return _coordinates(layout).to(tokens[0].device, compute_dtype(*tokens))


def _factor(query: torch.Tensor, temperature: float) -> float:
    heads, _, _, channels = query.shape
    return temperature / (heads * math.sqrt(channels))


class MovingFlowLoss:
    """:func:`amf_loss` of the soft flow against a reference, computed only where the reference moves.

    Cells and frame pairs that do not count (a frame with itself, and cells that do not move) are computed neither in
    the forward nor in the backward pass. The queries and keys are not checked again.

    Parameters
    ----------
    reference_flow : (frame, frame_to, y, x, 2) tensor, hard flow of the reference clip
    temperature : float above 0

    Raises
    ------
    InvalidInputError
        When nothing moves in the reference.

    Examples
    --------
    >>> layout = TokenLayout(2, 3, 4, 48, 64, 5)
    >>> reference = torch.zeros(2, 2, 3, 4, 2)
    >>> reference[0, 1, 0, 0] = torch.tensor([3.0, 0.0])
    >>> tokens = torch.randn(2, 2, 3, 4, 8)
    >>> flow = attention_motion_flow(tokens, tokens, layout)
    >>> torch.allclose(MovingFlowLoss(reference)(tokens, tokens, layout), amf_loss(reference, flow))
    True
    """

    def __init__(self, reference_flow: torch.Tensor, *, temperature: float = 2.0) -> None:
        check_temperature(temperature)
        flow, device = reference_flow.cpu(), reference_flow.device  # the one wait for the device
        moving = (flow != 0).any(-1).flatten(2)
        if not bool(moving.any()):
            raise InvalidInputError(_NOTHING_MOVES)
        self._wanted, self._temperature = flow.flatten(2, 3)[moving].to(device), temperature
        self._chosen = ChosenRows.of(moving, device)

    @outside_autocast()
    def __call__(self, query: torch.Tensor, key: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
        """The loss, in square cells, of queries and keys (head, frame, y, x, channel)."""
        tokens = [tensor.flatten(2, 3) for tensor in (query, key)]
        cells, chosen = _cells_of(tokens, layout), self._chosen
        found = ExpectedCells.apply(*tokens, cells, _factor(tokens[0], self._temperature), chosen)
        loss: torch.Tensor = (found - cells[chosen.cells] - self._wanted.to(found)).square().mean()
        return loss


_NOTHING_MOVES = (
    "nothing moves in the reference, so that no vector counts. Choose a clip with motion, or pass static=True."
)


@checked
def amf_loss(reference_flow: Array, flow: torch.Tensor, *, static: bool = False) -> torch.Tensor:
    """The mean squared difference between a flow and that of a reference.

    Parameters
    ----------
    reference_flow : (frame, frame_to, y, x, 2) torch, numpy or DataArray, (dx, dy) in cells
        The hard flow of the reference clip.
    flow : tensor of the same shape
        The soft flow of the sample.
    static : bool
        Whether vectors that do not move in the reference count as well. As published they do not.

    Returns
    -------
    Scalar tensor, in square cells: the mean over the vectors that count and both of their components.

    Raises
    ------
    InvalidInputError
        For flows of different shapes, a reference that is not finite, or one in which no vector counts.

    Notes
    -----
    DiTFlow (Pondaven et al., CVPR 2025); docs/definitions.md, section 7.

    Examples
    --------
    >>> reference = torch.zeros(1, 2, 1, 1, 2)
    >>> reference[0, 1, 0, 0] = torch.tensor([3.0, 0.0])
    >>> amf_loss(reference, torch.zeros(1, 2, 1, 1, 2)), amf_loss(reference, torch.zeros(1, 2, 1, 1, 2), static=True)
    (tensor(4.5000), tensor(2.2500))
    """
    if not flow.is_floating_point():
        raise InvalidInputError(f"flow must be floats; got {str(flow.dtype).removeprefix('torch.')}.")
    reference = as_tensor(reference_flow).to(flow)
    if reference.shape != flow.shape or flow.ndim != 5 or flow.shape[-1] != 2:
        raise InvalidInputError(
            "reference_flow and flow need one shape (frame, frame_to, y, x, 2); got "
            f"{tuple(reference.shape)} and {tuple(flow.shape)}."
        )
    counted = torch.ones_like(reference[..., 0], dtype=torch.bool) if static else (reference != 0).any(-1)
    finite, moves = torch.stack([torch.isfinite(reference).all(), counted.any()]).tolist()
    if not finite:
        raise InvalidInputError("reference_flow holds NaN or infinite values.")
    if not moves:
        raise InvalidInputError(_NOTHING_MOVES)
    return (flow - reference)[counted].square().mean()


@checked
def labelled_flow(flow: Array, layout: TokenLayout, *, details: Mapping[str, Any] | None = None) -> xr.DataArray:
    """A flow as a labelled array, for plots and files.

    Parameters
    ----------
    flow : (frame, frame_to, y, x, 2) torch or numpy, (dx, dy) in cells
    layout : TokenLayout
    details : mapping that JSON can hold, optional
        Origin of the flow, kept as text in the attribute ``details``.

    Returns
    -------
    DataArray (frame, frame_to, y, x, xy) with the coordinate ``image`` (the middle image of each frame's span)
        over ``frame``.

    Raises
    ------
    InvalidInputError
        For another shape.

    Examples
    --------
    >>> labelled_flow(np.zeros((3, 3, 5, 7, 2)), TokenLayout(3, 5, 7, 80, 112, 9)).image.values
    array([0, 2, 6])
    """
    values = as_array(flow)
    wanted = (layout.frames, layout.frames, layout.height, layout.width, 2)
    if values.shape != wanted:
        raise InvalidInputError(f"flow needs the shape (frame, frame_to, y, x, 2) = {wanted}; got {values.shape}.")
    try:
        as_json = json.dumps(dict(details or {}))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"details must be values that JSON can hold: {error}.") from error
    return xr.DataArray(
        values,
        {
            "xy": np.array(["x", "y"], object),  # Zarr has no specification for text of fixed length
            "image": ("frame", np.floor(layout.frame_centres).astype(np.int64)),
        },
        ("frame", "frame_to", "y", "x", "xy"),
        "flow",
        {"long_name": "displacement", "units": "cells", "details": as_json},
    )


def check_temperature(temperature: float) -> None:
    """Raise for a temperature that is not a finite number above 0."""
    if not finite(temperature, "temperature") > 0:
        raise InvalidInputError(f"temperature must be a finite number above 0; got {temperature}.")


def _attached(array: Any) -> torch.Tensor:
    """As a tensor that keeps its place in the autograd graph."""
    return array if isinstance(array, torch.Tensor) else as_tensor(array)


def _coordinates(layout: TokenLayout) -> torch.Tensor:
    """(cell, 2) the (x, y) of every cell, row after row."""
    cells = torch.arange(layout.height * layout.width)
    return torch.stack([cells % layout.width, cells // layout.width], -1)
