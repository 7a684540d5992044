"""Products of queries and keys, and attention with its log-sum-exp, by the fastest way that a device offers."""

from __future__ import annotations

from typing import Any

import torch

from probe.execution.autocast import outside_autocast

HALF = (torch.bfloat16, torch.float16)


def multiplies_half(*tensors: torch.Tensor) -> bool:
    """Tell whether half-precision numbers are multiplied without conversion, accumulated in float32 (CUDA)."""
    return all(tensor.device.type == "cuda" and tensor.dtype in HALF for tensor in tensors)


@outside_autocast()
def product(first: torch.Tensor, second: torch.Tensor, dtype: torch.dtype, scale: float) -> torch.Tensor:
    """Scaled product (..., row, column) of (..., row, channel) and (..., column, channel), in a data type.

    On CUDA, numbers of half precision are multiplied as they were captured and accumulated in float32: the result is
    that of their float32 copies except for the order of the sums.

    Examples
    --------
    >>> product(torch.ones(2, 3), torch.ones(4, 3), torch.float32, 0.5)[0]
    tensor([1.5000, 1.5000, 1.5000, 1.5000])
    """
    other = second.transpose(-1, -2)
    if dtype == torch.float32 and first.dtype == second.dtype and multiplies_half(first, second):
        multiply: Any = torch.mm if first.ndim == 2 else torch.bmm
        found: torch.Tensor = multiply(first, other, out_dtype=torch.float32)
        return found.mul_(scale)
    return (first.to(dtype) * scale) @ other.to(dtype)


def attention_with_lse(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Attention by torch's fused kernels, with the log-sum-exp of each query's logits.

    Parameters
    ----------
    query, key, value : (batch, head, token, channel)
    scale : of the products
    mask : bool or float, broadcast over (batch, head, query, key), optional

    Returns
    -------
    output : (batch, head, query, channel)
    lse : (batch, head, query) float32 or wider
        None where no kernel returns both: when gradients are needed, and for devices and data types without one.

    Examples
    --------
    >>> tokens = torch.zeros(1, 1, 4, 8)
    >>> output, lse = attention_with_lse(tokens, tokens, tokens, scale=1.0)
    >>> output.shape, lse.exp().round()
    (torch.Size([1, 1, 4, 8]), tensor([[[4., 4., 4., 4.]]]))
    """
    operands = (query, key, value)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in operands):
        return None
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
    aten, kind = torch.ops.aten, query.device.type
    try:
        if kind == "cpu":
            cpu = aten._scaled_dot_product_flash_attention_for_cpu
            output, lse = cpu(*operands, 0.0, False, attn_mask=mask, scale=scale)
        elif kind == "cuda" and mask is None and query.dtype in HALF:
            output, lse = aten._scaled_dot_product_flash_attention(*operands, 0.0, False, False, scale=scale)[:2]
        elif kind == "cuda" and query.dtype in (*HALF, torch.float32):
            if mask is not None:
                mask = _aligned(mask, query, key)
            efficient = aten._scaled_dot_product_efficient_attention
            output, lse = efficient(*operands, mask, True, 0.0, False, scale=scale)[:2]
        else:
            return None
    except (RuntimeError, AttributeError, TypeError):  # the head size, build or version has no such kernel
        return None
    return output, lse[..., : query.shape[2]]


def _aligned(mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The mask over all queries and keys, with rows aligned as the kernel requires."""
    keys = key.shape[2]
    room = mask.new_empty(*mask.shape[:-1], -(-keys // 16) * 16)
    room[..., :keys] = mask
    return room[..., :keys].expand(len(query), query.shape[1], query.shape[2], keys)


def log_sum_exp(query: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor | None:
    """Log-sum-exp of each query's logits, (batch, head, query); None as from :func:`attention_with_lse`."""
    found = attention_with_lse(query, key, key, scale=scale)
    return None if found is None else found[1]
