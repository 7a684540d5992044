"""Attention rows of a few points of one frame over every frame; no other rows are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from analyses.arrays import as_points, need_text, query_and_key, text_tokens, video_tokens
from analyses.kernels.attention_weights import attention_weights
from probe.execution.autocast import outside_autocast
from store.arguments import Array, checked
from store.checks import finite, integer
from store.errors import InvalidInputError
from store.layout import TokenLayout


def _head_rows(
    rows: torch.Tensor, keys: torch.Tensor, text: torch.Tensor | None, scale: float | None, by_head: bool
) -> torch.Tensor:
    """(head, point, token) softmax rows, or their mean as (1, point, token), one head in memory at a time."""
    found: list[torch.Tensor] = []
    for head in range(keys.shape[0]):
        weights = attention_weights(rows[head], keys[head], None if text is None else text[head], scale=scale)
        if by_head or not found:
            found.append(weights)
        else:
            found[0] += weights
    return torch.stack(found) if by_head else (found[0] / keys.shape[0])[None]


@checked
@outside_autocast()
def attention_of_points(
    query: Array,
    key: Array,
    points: Array,
    layout: TokenLayout,
    *,
    text_key: Array | None = None,
    scale: float | None = None,
    frame: int = 0,
    by_head: bool = False,
) -> xr.DataArray:
    """The attention of each point of one frame over all cells of all frames.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel) torch or numpy, post-norm and post-RoPE; any float dtype
    points : (point, 2), (x, y) in pixels of the clip; each row is read at the point's own cell of ``frame``
    layout : TokenLayout
    text_key : (head, token, channel), optional. Text tokens that share the softmax (joint attention).
    scale : float, optional. Softmax scale; by default ``1 / sqrt(channel)``.
    frame : int
        The latent frame in which the points are.
    by_head : bool
        Keep each head's own row instead of the mean over heads.

    Returns
    -------
    DataArray (point, frame, y, x) float32, shares of the whole row; with ``by_head`` (head, point, frame, y, x).
        Coordinates ``point_x``, ``point_y`` (pixels), ``row``, ``column`` (the cell that was read) over ``point``,
        ``text`` (the share that text tokens hold; :func:`attention_to_text` has it token by token), ``image`` (the
        middle image of each frame's span) over ``frame``, and ``source_frame``.

    Raises
    ------
    InvalidInputError
        For a wrong shape, values that are not finite, points outside the image, or a frame that does not exist.

    Notes
    -----
    The rows of Nam et al. (DiffTrack, 2025): softmax over text and every frame, then the mean over heads.

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> zero = np.zeros((2, 3, 5, 7, 4))
    >>> rows = attention_of_points(zero, zero, [[8.0, 24.0]], layout)
    >>> rows.sizes["frame"], float(rows.sum())
    (3, 1.0)
    >>> attention_of_points(zero, zero, [[8.0, 24.0]], layout, frame=2, by_head=True).sizes["head"]
    2
    """
    attention, points, cells = _point_rows(query, key, text_key, points, layout, scale, frame, by_head)
    labelled = _labelled(attention, points, cells, layout).assign_coords(source_frame=frame)
    return labelled if by_head else labelled.isel(head=0, drop=True)


@checked
def attention_to_text(
    query: Array,
    key: Array,
    text_key: Array | None,
    points: Array,
    layout: TokenLayout,
    *,
    scale: float | None = None,
    frame: int = 0,
    by_head: bool = False,
) -> xr.DataArray:
    """The attention of each point of one frame on each text token, in the softmax that text and video share.

    Parameters
    ----------
    query, key, text_key, points, layout, scale, frame, by_head : as for :func:`attention_of_points`

    Returns
    -------
    DataArray (point, token) float32, shares of the whole row; with ``by_head`` (head, point, token)

    Raises
    ------
    InvalidInputError
        As :func:`attention_of_points`, and where there are no text tokens.

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> zero = np.zeros((2, 3, 5, 7, 4))
    >>> attention_to_text(zero, zero, np.zeros((2, 15, 4)), [[8.0, 24.0]], layout).sum().round(3).item()
    0.125
    """
    need_text(text_key)
    rows, points, _ = _point_rows(query, key, text_key, points, layout, scale, frame, by_head)
    text = xr.DataArray(
        rows[..., layout.video_tokens :],
        dims=("head", "point", "token"),
        coords={
            "point_x": ("point", points[:, 0], {"units": "px"}),
            "point_y": ("point", points[:, 1], {"units": "px"}),
            "source_frame": frame,
        },
        name="attention",
        attrs={"long_name": "attention on text", "units": "share of the row"},
    )
    return text if by_head else text.isel(head=0, drop=True)


@checked
def attention_of_text(
    text_query: Array | None,
    key: Array,
    text_key: Array | None,
    layout: TokenLayout,
    *,
    scale: float | None = None,
    by_head: bool = False,
) -> xr.DataArray:
    """The attention of each text token over all cells of all frames.

    Parameters
    ----------
    text_query, text_key : (head, token, channel), of the text tokens in the same attention
    key : (head, frame, y, x, channel)
    layout : TokenLayout
    scale, by_head : as for :func:`attention_of_points`

    Returns
    -------
    DataArray (token, frame, y, x) float32, shares of the whole row; with ``by_head`` (head, token, frame, y, x).
        Coordinates ``token`` (its position), ``text`` (the share that text tokens hold) over ``token`` and
        ``image`` over ``frame``.

    Raises
    ------
    InvalidInputError
        For a wrong shape, values that are not finite, or where there are no text tokens.

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> text = np.zeros((2, 15, 4))
    >>> attention_of_text(text, np.zeros((2, 3, 5, 7, 4)), text, layout).sizes
    Frozen({'token': 15, 'frame': 3, 'y': 5, 'x': 7})
    """
    if scale is not None:
        finite(scale, "scale")
    video = video_tokens(key, "key", layout)
    asked, text = text_tokens(text_query, video, "text_query"), text_tokens(text_key, video)
    rows = _head_rows(asked, video.flatten(1, 2), text, scale, by_head).cpu().numpy()
    found = xr.DataArray(
        rows[..., : layout.video_tokens].reshape(*rows.shape[:2], layout.frames, layout.height, layout.width),
        dims=("head", "token", "frame", "y", "x"),
        coords={
            "token": np.arange(rows.shape[1]),
            "text": (("head", "token"), rows[..., layout.video_tokens :].sum(-1)),
            "image": ("frame", np.floor(layout.frame_centres).astype(np.int64)),
        },
        name="attention",
        attrs={"long_name": "attention of text", "units": "share of the row"},
    )
    return found if by_head else found.isel(head=0, drop=True)


def _point_rows(
    query: Any,
    key: Any,
    text_key: Any,
    points: Any,
    layout: TokenLayout,
    scale: float | None,
    frame: int,
    by_head: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(head, point, token) rows, the checked points, and the cell (y, x) of each."""
    if scale is not None:
        finite(scale, "scale")
    query, key = query_and_key(query, key, layout)
    if not 0 <= integer(frame, "frame") < layout.frames:
        raise InvalidInputError(f"frame {frame} does not exist: the layout has frames 0 to {layout.frames - 1}.")
    points = np.asarray(as_points(points, layout, torch.device("cpu")), dtype=np.float64)
    if not len(points):
        raise InvalidInputError("points is empty. Pass at least one (x, y).")
    cells = layout.cell_at(points)
    text = None if text_key is None else text_tokens(text_key, query)
    rows = query[:, frame, cells[:, 0] * layout.width + cells[:, 1]]
    return _head_rows(rows, key.flatten(1, 2), text, scale, by_head).cpu().numpy(), points, cells


def _labelled(attention: np.ndarray, points: np.ndarray, cells: np.ndarray, layout: TokenLayout) -> xr.DataArray:
    """(head, point, token) rows with their coordinates."""
    video, text = attention[..., : layout.video_tokens], attention[..., layout.video_tokens :]
    return xr.DataArray(
        video.reshape(*video.shape[:2], layout.frames, layout.height, layout.width),
        dims=("head", "point", "frame", "y", "x"),
        coords={
            "point_x": ("point", points[:, 0], {"units": "px"}),
            "point_y": ("point", points[:, 1], {"units": "px"}),
            "row": ("point", cells[:, 0]),
            "column": ("point", cells[:, 1]),
            "text": (("head", "point"), text.sum(-1)),
            "image": ("frame", np.floor(layout.frame_centres).astype(np.int64)),
        },
        name="attention",
        attrs={"long_name": "attention", "units": "share of the row"},
    )
