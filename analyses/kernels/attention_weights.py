"""Attention weights of queried rows: one softmax over all tokens, video first and text last."""

from __future__ import annotations

import math

import torch

from analyses.kernels.products import product


def attention_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    text_key: torch.Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of the given queries on all tokens; only these rows are computed.

    Parameters
    ----------
    query : (..., row, channel)
    key : (..., token, channel), of the video
    text_key : (..., text token, channel), optional. Text tokens that share the softmax.
    dtype : data type of the products
    scale : of the products, by default ``1 / sqrt(channel)``

    Returns
    -------
    (..., row, token) in ``dtype``, video tokens first, then text; each row sums to one

    Examples
    --------
    >>> attention_weights(torch.zeros(2, 1, 4), torch.zeros(2, 6, 4), torch.zeros(2, 2, 4))[0]
    tensor([[0.1250, 0.1250, 0.1250, 0.1250, 0.1250, 0.1250, 0.1250, 0.1250]])
    """
    keys = key if text_key is None else torch.cat([key, text_key], -2)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    return torch.softmax(product(query, keys, dtype, factor), -1)
