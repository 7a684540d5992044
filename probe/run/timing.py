"""Time of a call of the transformer at a size at which it is too large to try.

A block of width d takes 24 n d^2 operations for its matrix products over n tokens and 4 n^2 d for its attention, which
is n (6 d + n) in units of 4 d: a part linear in the tokens and a quadratic one. Two small calls give the rate, and
what a call costs whatever its size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.backbones.settings import RequestedSize, RunSettings
from probe.loading.load_backbone import resolve_device
from probe.run.forward import ForwardPass
from store.clips.clip import Clip
from store.layout import TokenLayout

TRIED_TOKENS = (300, 1200)
"""Video tokens of the calls that are measured; a smaller clip is measured as it is."""

_ENOUGH = 5.0  # seconds, after which no second call is timed
_PRODUCTS = {"cuda": (4096, 8192), "cpu": (256, 1024)}  # tokens of the matrix product and of the attention measured


@dataclass(frozen=True)
class CallTime:
    """Seconds of a call of the transformer over n tokens: ``fixed + linear * n + quadratic * n ** 2``.

    Parameters
    ----------
    fixed, linear, quadratic : seconds
    how : what was measured, in words

    Examples
    --------
    >>> CallTime(0.5, 0.001, 1e-6, "").seconds(1000)
    2.5
    """

    fixed: float
    linear: float
    quadratic: float
    how: str

    def seconds(self, tokens: int) -> float:
        """Seconds of a call over ``tokens`` tokens, those of the text included."""
        return self.fixed + self.linear * tokens + self.quadratic * tokens**2


def all_tokens(layout: TokenLayout) -> int:
    """Tokens that attend to one another: those of the video and of the text."""
    return layout.video_tokens + layout.text_tokens


def time_call(
    backbone: Backbone,
    size: Size,
    prompt: str | None = None,
    *,
    steps: int = 50,
    conditioning: Mapping[str, Any] | None = None,
) -> CallTime:
    """Time small calls of a backbone's transformer, never one at full size.

    A backbone whose weights are not loaded (:func:`probe.loading.planning.plan_backbone`), or that takes one size
    only, is not called: a matrix product and an attention of its width are timed instead, and the rest of a call is
    left out.

    Parameters
    ----------
    backbone : Backbone
    size : of the clip whose calls are to be estimated
    prompt, conditioning : as in :meth:`Backbone.generate`
    steps : denoising steps of the run

    Examples
    --------
    >>> from probe.loading.load_backbone import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> mini = load_backbone(new_pipeline(MiniConfig(layers=1)))
    >>> time_call(mini, Size(480, 720, 6), "").seconds(64_800) > 0
    True
    """
    first = backbone.layers[0]
    width = first.heads * first.channels
    config = backbone.denoisers[0].config
    if backbone.device.type == "meta" or getattr(config, "use_learned_positional_embeddings", False):
        return _from_products(backbone, width)
    points: list[tuple[int, float]] = []
    for tokens in TRIED_TOKENS:
        tried = smaller_size(backbone, size, tokens)
        layout = backbone.layout(*tried)
        if points and all_tokens(layout) <= points[-1][0]:
            break
        points.append((all_tokens(layout), _seconds_of(backbone, tried, prompt, steps, conditioning)))
        if points[-1][1] > _ENOUGH or tried == size:
            break
    return _fitted(points, width)


def smaller_size(backbone: Backbone, size: Size, tokens: int) -> Size:
    """A size of about the same aspect with about the given video tokens, or ``size`` where that has no more.

    Examples
    --------
    >>> from probe.loading.load_backbone import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> smaller_size(load_backbone(new_pipeline(MiniConfig(layers=1))), Size(480, 720, 6), 300)
    Size(height=40, width=64, images=2)
    """
    if backbone.layout(*size).video_tokens <= tokens:
        return size
    step = backbone.image_step
    images = min(size.images, 1 + step)
    least = backbone.layout(size.height, size.width, images).video_tokens
    if least <= tokens:  # whole images, as many as there is room for
        while images + step < size.images:
            if backbone.layout(size.height, size.width, images + step).video_tokens > tokens:
                break
            images += step
        return Size(size.height, size.width, images)
    shrink, tried = math.sqrt(tokens / least), size
    while True:  # one row or column is the least, which leaves long ones with too much at first
        found = backbone.nearest_size(round(size.height * shrink), round(size.width * shrink), images)
        if backbone.layout(*found).video_tokens <= 1.5 * tokens or found == tried:
            return found
        shrink, tried = shrink / 2, found


def _seconds_of(
    backbone: Backbone, size: Size, prompt: str | None, steps: int, conditioning: Mapping[str, Any] | None
) -> float:
    """Of the second call; the first one warms up."""
    height, width, images = size
    blank = Clip(np.zeros((images, height, width, 3), np.uint8), fps=backbone.fps)
    settings = RunSettings(steps=steps, size=RequestedSize(*size), conditioning=conditioning)
    forward = ForwardPass.of(backbone, prompt, settings.with_conditioning(backbone.conditioning_of(blank)))
    latents = backbone.encode(blank)

    def call() -> None:
        with torch.no_grad():
            forward.predict(latents, -1, capture=False)

    return _timed(call, latents.device)


def _timed(call: Callable[[], object], device: torch.device) -> float:
    took = 0.0
    for _ in range(2):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = time.perf_counter() - began
    return took


def _fitted(points: list[tuple[int, float]], width: int) -> CallTime:
    """Through the measured points; a fixed part below zero is measurement noise, and left out."""
    work = [n * (6 * width + n) for n, _ in points]
    fixed = 0.0
    if len(points) > 1:
        (_, first), (_, last) = points
        fixed = max(0.0, first - max(0.0, last - first) / (work[1] - work[0]) * work[0])
    rate = max(0.0, points[-1][1] - fixed) / work[-1]
    how = f"measured at {' and '.join(str(n) for n, _ in points)} tokens, scaled as n (6 x {width} + n)"
    return CallTime(fixed, 6 * width * rate, rate, how)


def _from_products(backbone: Backbone, width: int) -> CallTime:
    """From the speed of a matrix product and an attention of the model's width, on the device that it would run on."""
    device = resolve_device("auto") if backbone.device.type == "meta" else backbone.device
    heads, channels, layers = backbone.layers[0].heads, backbone.layers[0].channels, len(backbone.layers)
    linear, attended = _PRODUCTS["cuda" if device.type == "cuda" else "cpu"]
    tokens, weights = (
        torch.ones(rows, columns, device=device, dtype=backbone.dtype)
        for rows, columns in ((linear, width), (width, 4 * width))
    )
    queries = torch.ones(1, heads, attended, channels, device=device, dtype=backbone.dtype)
    attention = torch.nn.functional.scaled_dot_product_attention
    with torch.no_grad():
        of_product = _timed(lambda: tokens @ weights, device) / (8 * linear * width**2)
        of_attention = _timed(lambda: attention(queries, queries, queries), device) / (4 * attended**2 * width)
    how = f"from a matrix product and an attention of its width on {device}: linear and quadratic in the tokens"
    return CallTime(0.0, 24 * width**2 * layers * of_product, 4 * width * layers * of_attention, how)
