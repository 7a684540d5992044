"""What tracking needs of a backbone: the tokens of one layer, for chunks of images of a clip."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analyses.tracking.chunks import Chunk
from analyses.tracking.options import TrackingOptions
from analyses.tracking.propagate import ChunkTokens
from probe.backbones.backbone import Backbone
from probe.backbones.settings import RequestedSize, RunSettings
from probe.run.forward import ForwardPass
from probe.run.layers_of_clip import kept_layers
from probe.run.run import run_states
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.layout import TokenLayout


@dataclass(frozen=True, eq=False)
class TrackingRun:
    """How the model is run, and which layer, step and heads are looked at (numbers, resolved)."""

    prompt: str
    steps: int
    step: int
    layer: int
    heads: tuple[int, ...] | None
    seed: int


class LayerTokens:
    """The queries and keys of one layer of a backbone, for chosen images of a clip.

    ``seconds`` and ``chunks`` count what the model has cost so far.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: np.ndarray,
        size: tuple[int, int],
        options: TrackingOptions,
        run: TrackingRun,
        conditioning: Mapping[str, Any] | None = None,
    ) -> None:
        self.backbone, self.images, self.size, self.options, self.run = backbone, images, size, options, run
        self.conditioning = dict(conditioning or {})
        self.seconds, self.chunks = 0.0, 0
        self._channels = _channels(backbone, options.max_rotation)
        self._forwards: dict[tuple[int, int | None], ForwardPass] = {}
        self._anchor: tuple[int, torch.Tensor] | None = None

    def layout(self, frames: int) -> TokenLayout:
        """Where the tokens of at least so many latent frames lie."""
        stride = self.backbone.strides[0]
        return self.backbone.layout(*self.size, self._fitting((frames - 1) * stride + 1, stride))

    def _fitting(self, images: int, stride: int) -> int:
        """The next number of images that the backbone takes."""
        while self.backbone.nearest_size(*self.size, images).images != images:
            images += stride
        return images

    def _resized(self, numbers: tuple[int, ...]) -> Clip:
        return Clip(self.images[list(numbers)], fps=8.0).resized(*self.size)

    def _encoded(self, numbers: tuple[int, ...]) -> torch.Tensor:
        return self.backbone.encode(self._resized(numbers))

    def _latents(self, chunk: Chunk) -> tuple[torch.Tensor, int]:
        """Latents of a chunk, and images of a clip with as many; what is missing repeats the last image."""
        first, *others = chunk.images
        if self.options.encode == "clip":
            images = self._fitting(len(chunk.images), 1)
            return self._encoded((*chunk.images, *chunk.images[-1:] * (images - len(chunk.images)))), images
        if self._anchor is None or self._anchor[0] != first:
            self._anchor = (first, self._encoded((first,)))
        layout = self.layout(len(chunk.images))
        parts = [self._anchor[1], *(self._encoded((number,)) for number in others)]
        parts += parts[-1:] * (layout.frames - len(parts))
        return torch.cat(parts, self.backbone.frame_axis), layout.images

    def _forward(self, images: int, anchor: int) -> ForwardPass:
        """The model's calls for clips of so many images; of each anchor where the model also takes an image."""
        shown = self.backbone.conditioning_of(self._resized((anchor,)))
        key = images, anchor if shown else None
        if key not in self._forwards:
            height, width = self.size
            size = RequestedSize(height, width, images)
            settings = RunSettings(steps=self.run.steps, size=size, conditioning={**shown, **self.conditioning})
            self._forwards[key] = ForwardPass.of(self.backbone, self.run.prompt, settings)
        return self._forwards[key]

    @torch.no_grad()
    def tokens(self, chunk: Chunk) -> ChunkTokens:
        """Run the model on a chunk and return the queries and keys of the layer."""
        began = time.perf_counter()
        latents, images = self._latents(chunk)
        run = self.run
        forward = self._forward(images, chunk.images[0])

        denoiser = self.backbone.denoiser_at(forward.schedule.timesteps[run.step])
        with kept_layers(self.backbone, denoiser, [run.layer], run.step, steps=run.steps, heads=run.heads) as found:
            for _ in run_states(forward, latents, [run.step], noise=self.options.noise, seed=run.seed):
                pass
        capture = found.captures[run.layer]
        query, key = (part[..., self._channels].flatten(2, 3).clone() for part in (capture.query, capture.key))
        if query.device.type == "cuda":
            torch.cuda.synchronize(query.device)
        self.seconds += time.perf_counter() - began
        self.chunks += 1
        return ChunkTokens(query, key, capture.layout)


def _channels(backbone: Backbone, max_rotation: float) -> slice | list[int]:
    """The channels of a head that take part in the products."""
    if backbone.rotary is None or math.isinf(max_rotation):
        return slice(None)
    slow = list(backbone.rotary.slow_channels(max_rotation))
    if not slow:
        raise InvalidInputError(
            f"max_rotation={max_rotation} leaves no channel of {backbone.name}, whose slowest turn by "
            f"{backbone.rotary.turns().min():.2g} radians a token. Allow at least that."
        )
    return slow


def chunk_length(backbone: Backbone, options: TrackingOptions, size: tuple[int, int]) -> int:
    """Images of a chunk: those asked for, or as many as the backbone generates (latent frames, encoded one by one).

    Raises
    ------
    InvalidInputError
        When the backbone joins latent frames, so that an image alone has no token of its own.
    """
    if options.encode == "clip":
        return options.chunk_images or backbone.default_size.images
    if backbone.patch[0] > 1:
        raise InvalidInputError(
            f"{backbone.name} joins {backbone.patch[0]} latent frames in each token, so that an image alone has none "
            "of its own. Use TrackingOptions(encode='clip')."
        )
    return options.chunk_images or backbone.layout(*size, backbone.default_size.images).frames
