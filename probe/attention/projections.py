"""Projections of an attention module under one set of names, whatever the model calls them."""

from __future__ import annotations

from typing import Any

from torch import nn

_NAMES = {
    "to_q": ("to_q", "to_query"),
    "to_k": ("to_k", "to_key"),
    "to_v": ("to_v", "to_value"),
    "to_out": ("to_out", "out_layer"),
}


def name_of_projection(attention: Any, name: str) -> str | None:
    """Return the path of a projection within an attention module; None if it has none.

    Parameters
    ----------
    attention : module
    name : "to_q", "to_k", "to_v", "to_out", or one of the model's own

    Examples
    --------
    >>> from diffusers.models.attention_processor import Attention
    >>> name_of_projection(Attention(query_dim=8, heads=2, dim_head=4), "to_out")
    'to_out.0'
    >>> from diffusers.models.transformers.transformer_kandinsky import Kandinsky5Attention
    >>> name_of_projection(Kandinsky5Attention(num_channels=8, head_dim=4), "to_q")
    'to_query'
    """
    for known in _NAMES.get(name, (name,)):
        found = getattr(attention, known, None)
        if isinstance(found, nn.ModuleList | nn.Sequential):
            return f"{known}.0"
        if found is not None:
            return known
    return None


def projection(attention: Any, name: str) -> Any:
    """Return a projection of an attention module; None if it has none.

    Parameters
    ----------
    attention : module
    name : "to_q", "to_k", "to_v" or "to_out"

    Examples
    --------
    >>> from diffusers.models.attention_processor import Attention
    >>> projection(Attention(query_dim=8, heads=2, dim_head=4), "to_out")
    Linear(in_features=8, out_features=8, bias=True)
    """
    path = name_of_projection(attention, name)
    return None if path is None else attention.get_submodule(path)


def input_channels(attention: Any) -> int:
    """Return the channels of the input of an attention module, whose projections may come from one together.

    Examples
    --------
    >>> from diffusers.models.attention_processor import Attention
    >>> input_channels(Attention(query_dim=8, heads=2, dim_head=5))
    8
    """
    found = (projection(attention, name) for name in ("to_q", "to_qkv", "wqkv"))
    return next(int(each.in_features) for each in found if each is not None)
