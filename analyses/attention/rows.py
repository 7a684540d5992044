"""Where given points look: the attention rows of a few points over every frame, and only those rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from analyses.arrays import as_points, as_tensor, check_finite, query_and_key
from store.arguments import Array, checked
from store.checks import finite
from store.errors import InvalidInputError
from store.layout import TokenLayout


def _as_text(text_key: Any, query: torch.Tensor) -> torch.Tensor:
    text = as_tensor(text_key)
    if text.ndim != 3 or text.shape[0] != query.shape[0] or text.shape[2] != query.shape[3]:
        raise InvalidInputError(
            f"text_key needs the shape (head, token, channel) with {query.shape[0]} heads and {query.shape[3]} "
            f"channels; got {tuple(text.shape)}."
        )
    check_finite(text, "text_key")
    return text.to(query.device)


def _head_mean_rows(rows: torch.Tensor, keys: torch.Tensor, text: torch.Tensor | None, scale: float) -> torch.Tensor:
    """(point, token) softmax rows averaged over heads, one head in memory at a time; video tokens come first."""
    total = torch.zeros(())
    for head in range(keys.shape[0]):
        key = keys[head].float() if text is None else torch.cat([keys[head].float(), text[head].float()])
        total = total.to(key.device) + torch.softmax(rows[head].float() @ key.T * scale, dim=-1)
    return total / keys.shape[0]


@checked
def attention_of_points(
    query: Array,
    key: Array,
    points: Array,
    layout: TokenLayout,
    *,
    text_key: Array | None = None,
    scale: float | None = None,
) -> xr.DataArray:
    """The attention of each point of frame 0 over all cells of all frames, averaged over heads.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel) torch or numpy, post-norm and post-RoPE; any float dtype
    points : (point, 2), (x, y) in pixels of the clip; each row is read at the point's own cell of frame 0
    layout : TokenLayout
    text_key : (head, token, channel), optional. Text tokens that share the softmax (joint attention).
    scale : float, optional. Softmax scale; by default ``1 / sqrt(channel)``.

    Returns
    -------
    DataArray (point, frame, y, x) float32, shares of the whole row. Coordinates ``point_x``, ``point_y`` (pixels),
    ``row``, ``column`` (the cell that was read), ``text`` (the share that text tokens hold) over ``point``, and
    ``image`` (the middle image of each frame's span) over ``frame``.

    Raises
    ------
    InvalidInputError
        For a wrong shape, values that are not finite, or points outside the image.

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
    """
    if scale is not None:
        finite(scale, "scale")
    query, key = query_and_key(query, key, layout)
    points = np.asarray(as_points(points, layout, torch.device("cpu")), dtype=np.float64)
    if not len(points):
        raise InvalidInputError("points holds no point. Pass one (x, y) at least.")
    cells = layout.cell_at(points)
    text = None if text_key is None else _as_text(text_key, query)
    rows = query[:, 0, cells[:, 0] * layout.width + cells[:, 1]]
    attention = _head_mean_rows(rows, key.flatten(1, 2), text, query.shape[3] ** -0.5 if scale is None else scale)
    return _labelled(attention.cpu().numpy(), points, cells, layout)


def _labelled(attention: np.ndarray, points: np.ndarray, cells: np.ndarray, layout: TokenLayout) -> xr.DataArray:
    video, text = attention[:, : layout.video_tokens], attention[:, layout.video_tokens :]
    return xr.DataArray(
        video.reshape(len(points), layout.frames, layout.height, layout.width),
        dims=("point", "frame", "y", "x"),
        coords={
            "point_x": ("point", points[:, 0], {"units": "px"}),
            "point_y": ("point", points[:, 1], {"units": "px"}),
            "row": ("point", cells[:, 0]),
            "column": ("point", cells[:, 1]),
            "text": ("point", text.sum(-1)),
            "image": ("frame", np.floor(layout.frame_centres).astype(np.int64)),
        },
        name="attention",
        attrs={"long_name": "attention", "units": "share of the row"},
    )
