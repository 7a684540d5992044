"""Tokens of one layer of a backbone, for chunks of images of a clip."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analyses.tracking.chunks import Chunk
from analyses.tracking.crops import CropWindows
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

_ENCODINGS = 64
"""Number of images whose latents are kept."""


@dataclass(frozen=True, eq=False)
class TrackingRun:
    """Settings of the run, and the layer, step and heads that are read, as resolved numbers."""

    prompt: str
    steps: int
    step: int
    layer: int
    heads: tuple[int, ...] | None
    seed: int


View = tuple[Chunk, CropWindows | None]
"""A chunk, and the crops in which its images are shown; None shows them whole."""


class LayerTokens:
    """The queries and keys of one layer of a backbone, for chosen images of a clip, whole or in crops.

    ``seconds`` and ``chunks`` count the time and passes of the model so far.
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
        self._forwards: dict[tuple[int, Any], ForwardPass] = {}
        self._encodings: dict[Any, torch.Tensor] = {}

    def layout(self, frames: int) -> TokenLayout:
        """Return the layout of the tokens of at least this many latent frames."""
        stride = self.backbone.strides[0]
        return self.backbone.layout(*self.size, self._fitting((frames - 1) * stride + 1))

    def _fitting(self, images: int) -> int:
        """Return the next number of images that the backbone takes."""
        while _refusal(self.backbone, self.size, images):
            images += 1
        return images

    def _clip(self, images: tuple[int, ...], windows: CropWindows | None, origins: np.ndarray | None) -> Clip:
        """Return the images as the model sees them."""
        if windows is None or origins is None:
            return Clip(self.images[list(images)], fps=8.0).resized(*self.size)
        shown = zip(images, origins, strict=True)
        return Clip(np.stack([windows.show(self.images, *each, self.size) for each in shown]), fps=8.0)

    def _encoded(
        self, images: tuple[int, ...], windows: CropWindows | None, origins: np.ndarray | None
    ) -> list[torch.Tensor]:
        """Return the latents of each image alone; recent ones are kept, since an image lies in several chunks."""
        keys = [_key(windows, image, None if origins is None else origins[n]) for n, image in enumerate(images)]
        found = {key: self._encodings.pop(key) for key in dict.fromkeys(keys) if key in self._encodings}
        missing = {key: place for place, key in enumerate(keys) if key not in found}
        if missing:
            places = list(missing.values())
            shown = self._clip(tuple(images[p] for p in places), windows, None if origins is None else origins[places])
            found |= dict(zip(missing, self.backbone.encode_images(shown), strict=True))
        self._encodings |= found
        while len(self._encodings) > _ENCODINGS:
            del self._encodings[next(iter(self._encodings))]
        return [found[key] for key in keys]

    def _latents(self, view: View) -> tuple[torch.Tensor, TokenLayout, np.ndarray | None]:
        """Return the latents of a chunk, the layout of its tokens, and the origins (frame, 2) of the views of its
        frames.

        Missing images repeat the last one.
        """
        chunk, windows = view
        if self.options.encode == "clip":
            count = self._fitting(len(chunk.images))
            images = (*chunk.images, *chunk.images[-1:] * (count - len(chunk.images)))
            layout = self.backbone.layout(*self.size, count)
            spans = [layout.images_of(frame) for frame in range(layout.frames)]
            origins = None if windows is None else windows.at(images, spans)
            latents = self.backbone.encode(self._clip(images, windows, origins))
            return latents, layout, None if origins is None else origins[[span[0] for span in spans]]
        layout = self.layout(len(chunk.images))
        images = (*chunk.images, *chunk.images[-1:] * (layout.frames - len(chunk.images)))
        origins = None if windows is None else windows.at(images)
        return torch.cat(self._encoded(images, windows, origins), self.backbone.frame_axis), layout, origins

    def _images_of_run(self, images: int, chunk: Chunk) -> tuple[int, ...]:
        """Return the image at each place of a run: those of a chunk, repeated over the span of their latent frame."""
        if self.options.encode == "clip":
            return (*chunk.images, *chunk.images[-1:] * (images - len(chunk.images)))
        layout, last = self.backbone.layout(*self.size, images), len(chunk.images) - 1
        spans = ((frame, len(layout.images_of(frame))) for frame in range(layout.frames))
        return tuple(chunk.images[min(frame, last)] for frame, count in spans for _ in range(count))

    def _forward(self, images: int, view: View) -> ForwardPass:
        """Return the calls of the model for clips of a number of images, one for each chunk if it also takes images."""
        chunk, windows = view
        seen = chunk.images[:1] if self.backbone.clip_argument is None else self._images_of_run(images, chunk)
        origins = None if windows is None else windows.at(seen)
        shown = self.backbone.conditioning_of(self._clip(seen, windows, origins))
        own = tuple(_key(windows, image, None if origins is None else origins[n]) for n, image in enumerate(seen))
        key = images, own if shown else None
        if key not in self._forwards:
            height, width = self.size
            size = RequestedSize(height, width, images)
            settings = RunSettings(steps=self.run.steps, size=size, conditioning={**shown, **self.conditioning})
            self._forwards[key] = ForwardPass.of(self.backbone, self.run.prompt, settings)
        return self._forwards[key]

    def tokens(self, chunk: Chunk, windows: CropWindows | None = None) -> ChunkTokens:
        """Run the model on a chunk and return the queries and keys of the layer.

        Parameters
        ----------
        chunk : Chunk
        windows : CropWindows, optional
            Views of the images that the model is shown; by default whole images.
        """
        return self.tokens_of([self.run.layer], chunk, windows)[self.run.layer]

    @torch.no_grad()
    def tokens_of(
        self, layers: Sequence[int], chunk: Chunk, windows: CropWindows | None = None
    ) -> dict[int, ChunkTokens]:
        """Run the model on a chunk once, up to the last of some layers, and return the queries and keys of each.

        Parameters
        ----------
        layers : sequence of int, not negative
        chunk, windows : as of :meth:`tokens`
        """
        began = time.perf_counter()
        view = chunk, windows
        latents, layout, origins = self._latents(view)
        run = self.run
        forward = self._forward(layout.images, view)
        denoiser = self.backbone.denoiser_at(forward.schedule.timesteps[run.step])
        with kept_layers(self.backbone, denoiser, layers, run.step, steps=run.steps, heads=run.heads) as kept:
            for _ in run_states(forward, latents, [run.step], noise=self.options.noise, seed=run.seed):
                pass
        found, device = {}, self.backbone.device  # costly to find
        for layer in layers:
            capture = kept.captures[layer]
            query, key = (  # of all layers on one device, that of the points
                part[..., self._channels].flatten(2, 3).to(device, copy=True) for part in (capture.query, capture.key)
            )
            offsets = _offsets(origins, windows, query.device)
            found[layer] = ChunkTokens(query, key, capture.layout, offsets)
        if query.device.type == "cuda":
            torch.cuda.synchronize(query.device)
        self.seconds += time.perf_counter() - began
        self.chunks += 1
        return found


def _key(windows: CropWindows | None, image: int, origin: np.ndarray | None) -> tuple[object, ...]:
    """Return a key of the view of an image."""
    return (image,) if windows is None or origin is None else windows.key(image, origin)


def _offsets(origins: np.ndarray | None, windows: CropWindows | None, device: torch.device) -> torch.Tensor | None:
    """Return (frame, 2), the displacement of each frame's crop from that of frame 0, in pixels of the model."""
    if origins is None or windows is None:
        return None
    return torch.as_tensor((origins - origins[0]) / windows.scale, dtype=torch.float32, device=device)


def _channels(backbone: Backbone, max_rotation: float) -> slice | list[int]:
    """The channels of a head that are used in the products."""
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
    """Return how many images a chunk has: as requested, or as many (latent frames, encoded singly) as the model makes.

    Raises
    ------
    InvalidInputError
        When the backbone joins latent frames, or encodes images only together, so that an image alone has no token.
    """
    if options.encode == "clip":
        return options.chunk_images or backbone.default_size.images
    if backbone.patch[0] > 1:
        raise InvalidInputError(
            f"{backbone.name} joins {backbone.patch[0]} latent frames in each token, so that an image alone has none "
            "of its own. Use TrackingOptions(encode='clip')."
        )
    frames = backbone.layout(*size, backbone.default_size.images).frames
    refusal = _refusal(backbone, size, 1)
    if refusal is not None:
        raise InvalidInputError(
            f"an image alone cannot be encoded: {refusal.message} Use TrackingOptions(encode='clip')."
        ) from refusal
    return options.chunk_images or frames


def _refusal(backbone: Backbone, size: tuple[int, int], images: int) -> InvalidInputError | None:
    """The error of a backbone that does not take a clip of this size."""
    try:
        backbone.check_size(*size, images)
    except InvalidInputError as error:
        return error
    return None
