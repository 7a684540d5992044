"""Captures, as a probe hands them to its sinks: the queries and keys of one layer, step, branch and sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from store.layout import TokenLayout


@dataclass(frozen=True, eq=False)
class Capture:
    """Queries and keys of one self-attention layer, post-norm and post-RoPE: exactly what the attention multiplied.

    The tensors are views of the model's own, on its device and in its dtype, and part of its autograd graph where
    gradients are enabled. A sink that keeps them keeps the layer's memory: copy or reduce what is kept.

    Parameters
    ----------
    step : int
        Index of the denoising step, 0 = most noise.
    timestep : float
        The scheduler's value at that step.
    layer : int
        0-based over all self-attention blocks in execution order.
    layer_name : str
        Module path within the transformer; ``transformer_2.`` before it where the second of two transformers ran.
    branch : "cond" or "uncond"
        Branch of classifier-free guidance.
    sample : int
        Which prompt of the batch.
    query, key : (head, frame, y, x, channel)
        Video tokens; only the selected heads and frames.
    text_query, text_key : (head, token, channel) or None
        Text tokens that take part in the same attention, padding removed where the family has a mask; None where
        text is attended separately.
    features : (frame, y, x, channel) or None
        Attention output of the video tokens before ``to_out``, all heads concatenated; None unless asked for.
    scale : float
        What the products are multiplied by before the softmax, normally ``1 / sqrt(channel)``.
    layout : TokenLayout
        Where the tokens lie in the clip; its ``frames`` are the captured ones, its ``text_tokens`` the actual number.

    value : (head, frame, y, x, channel) or None
        Values of the video tokens, with the heads of the keys.

    Examples
    --------
    >>> import torch
    >>> query = torch.zeros(2, 3, 5, 7, 4)
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> Capture(49, 19.0, 1, "blocks.1.attn1", "cond", 0, query, query, None, None, None, 0.5, layout)
    Capture(step 49, timestep 19, layer 1 blocks.1.attn1, cond, sample 0: query (2, 3, 5, 7, 4) float32, no text)
    """

    step: int
    timestep: float
    layer: int
    layer_name: str
    branch: str
    sample: int
    query: Tensor
    key: Tensor
    text_query: Tensor | None
    text_key: Tensor | None
    features: Tensor | None
    scale: float
    layout: TokenLayout
    value: Tensor | None = None

    def __repr__(self) -> str:
        text = "no text" if self.text_query is None else f"{self.text_query.shape[1]} text tokens"
        dtype = str(self.query.dtype).removeprefix("torch.")
        return (
            f"Capture(step {self.step}, timestep {self.timestep:g}, layer {self.layer} {self.layer_name}, "
            f"{self.branch}, sample {self.sample}: query {tuple(self.query.shape)} {dtype}, {text})"
        )


Sink = Callable[[Capture], object]
