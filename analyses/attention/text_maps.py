"""Maps of the attention of every cell to each text token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from analyses.arrays import as_tensor, query_and_key, text_tokens
from probe.execution.autocast import outside_autocast
from store.arguments import Array, checked
from store.checks import finite, integer
from store.errors import InvalidInputError
from store.layout import TokenLayout

OF_EACH_CELL = "share of the cell's row"
"""Units of a map whose values do not add up to one row."""
_AT_ONCE = 2**22
"""Products of queries and keys that are held in memory at once: 16 MB."""


@checked
def map_attention_to_text(
    query: Array,
    key: Array,
    text_key: Array | None,
    layout: TokenLayout,
    *,
    tokens: Sequence[int] | None = None,
    scale: float | None = None,
    by_head: bool = False,
) -> xr.DataArray:
    """The attention of every cell of every frame on each text token: where in the video a word is attended to.

    The other direction, what the tokens themselves look at, is :func:`attention_of_text`.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel)
    text_key : (head, token, channel), of the text tokens in the same attention
    layout : TokenLayout
    tokens : positions of text tokens, optional
        All by default.
    scale : float, optional
        Scale of the products, by default ``1 / sqrt(channel)``.
    by_head : bool
        Keep each head's own map instead of the mean over heads.

    Returns
    -------
    DataArray (token, frame, y, x) float32, shares of the row of each cell; with ``by_head`` (head, token, frame, y, x).
        Coordinates ``token`` (its position) and ``image`` over ``frame``.

    Raises
    ------
    InvalidInputError
        For a wrong shape, values that are not finite, a text token that does not exist, or where there are none.

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> video, text = np.zeros((2, 3, 5, 7, 4)), np.zeros((2, 15, 4))
    >>> maps = map_attention_to_text(video, video, text, layout, tokens=[2])
    >>> maps.sizes, round(float(maps.max()), 4)  # every token of 120 gets the same share
    (Frozen({'token': 1, 'frame': 3, 'y': 5, 'x': 7}), 0.0083)
    """
    if scale is not None:
        finite(scale, "scale")
    video, keys = query_and_key(query, key, layout)
    text = text_tokens(text_key, keys)
    chosen = (
        list(range(text.shape[1])) if tokens is None else [integer(token, "tokens", min_value=0) for token in tokens]
    )
    for token in chosen:
        if token >= text.shape[1]:
            raise InvalidInputError(f"text token {token} does not exist: there are {text.shape[1]}.")
    if not chosen:
        raise InvalidInputError("tokens is empty. Pass at least one, or leave it out for all.")
    normalisers = row_normalisers(video, keys, text, scale=scale)
    assert normalisers is not None  # nothing stops them
    maps = text_shares(video, text[:, chosen], normalisers, scale=scale).swapaxes(1, 2)
    found = xr.DataArray(
        (maps if by_head else maps.mean(0, keepdims=True)).reshape(
            -1, len(chosen), layout.frames, layout.height, layout.width
        ),
        dims=("head", "token", "frame", "y", "x"),
        coords={"token": chosen, "image": ("frame", np.floor(layout.frame_centres).astype(np.int64))},
        name="attention",
        attrs={"long_name": "attention to text", "units": OF_EACH_CELL},
    )
    return found if by_head else found.isel(head=0, drop=True)


@outside_autocast()
def row_normalisers(
    query: Any,
    key: Any,
    text_key: Any,
    *,
    scale: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> np.ndarray | None:
    """Return the softmax normaliser of every video token, the same for all tokens that it attends to.

    Parameters
    ----------
    query, key : (head, ..., channel), the video tokens
    text_key : (head, token, channel)
    scale : of the products, by default ``1 / sqrt(channel)``
    stopped : called before each block of rows; a true result ends the work

    Returns
    -------
    (head, video token) float32, the log of the sum of the exponentials of a row; None if stopped.

    Examples
    --------
    >>> zero = np.zeros((2, 3, 5, 7, 4), np.float16)
    >>> bool(np.allclose(row_normalisers(zero, zero, np.zeros((2, 15, 4))), np.log(120)))
    True
    """
    queries, keys = (as_tensor(tokens).flatten(1, -2) for tokens in (query, key))
    text = as_tensor(text_key)
    factor = queries.shape[-1] ** -0.5 if scale is None else scale
    total = keys.shape[1] + text.shape[1]
    rows = max(1, _AT_ONCE // total)
    found = torch.empty(queries.shape[:2])
    for head in range(len(queries)):
        both = torch.cat([keys[head].float(), text[head].float()]) * factor
        for start in range(0, queries.shape[1], rows):
            if stopped():
                return None
            products = queries[head, start : start + rows].float() @ both.T
            found[head, start : start + rows] = torch.logsumexp(products, -1).cpu()
    return found.numpy()


@outside_autocast()
def text_shares(query: Any, text_key: Any, normalisers: np.ndarray, *, scale: float | None = None) -> np.ndarray:
    """The share of every video token's row that each text token gets.

    Parameters
    ----------
    query : (head, ..., channel)
    text_key : (head, token, channel)
    normalisers : (head, video token), made by :func:`row_normalisers`
    scale : of the products, by default ``1 / sqrt(channel)``

    Returns
    -------
    (head, video token, text token) float32

    Examples
    --------
    >>> zero = np.zeros((1, 3, 5, 7, 4), np.float16)
    >>> text_shares(zero, np.zeros((1, 15, 4)), np.full((1, 105), np.log(120))).shape
    (1, 105, 15)
    """
    queries, text = as_tensor(query).flatten(1, -2), as_tensor(text_key)
    factor = queries.shape[-1] ** -0.5 if scale is None else scale
    found = torch.empty(len(queries), queries.shape[1], text.shape[1])
    for head in range(len(queries)):
        products = (queries[head].float() @ text[head].float().T * factor).cpu()
        found[head] = torch.exp(products - as_tensor(normalisers[head])[:, None])
    return found.numpy()
