"""The memory that a VAE needs to decode a clip, counted by running it on the meta device, without any data."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_KEPT: dict[tuple[Any, ...], int] = {}


class _Peak(TorchDispatchMode):
    """Adds up the bytes of all tensors that are alive, and keeps the largest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for value in tree_iter((args, kwargs)):
            if isinstance(value, Tensor):  # of before, or it would be known: a view of it takes nothing
                self._count(value.untyped_storage(), 0)
        made = function(*args, **(kwargs or {}))
        for value in tree_iter(made):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                self._count(storage, storage.nbytes())
        return made

    def _count(self, storage: torch.UntypedStorage, size: int) -> None:
        number = storage._cdata
        if number in self._alive:
            return
        self._alive.add(number)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._free, number, size)

    def _free(self, number: int, size: int) -> None:
        self._alive.discard(number)
        self._now -= size


class _FusedAttention(TorchFunctionMode):
    """Attention without its matrix of weights, as fused kernels compute it."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is nn.functional.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return function(*args, **(kwargs or {}))


def peak_bytes(function: Callable[[], object], *, simulate_fused: bool = True) -> int:
    """Return the most bytes that the tensors made by a function take at one time.

    Parameters
    ----------
    function : callable without arguments
        What it computes on the meta device takes no memory. Tensors that exist before are not counted.
    simulate_fused : bool
        Count attention as fused kernels compute it, with nothing in its output; False runs it, so that it can be
        differentiated.

    Examples
    --------
    >>> values = torch.empty(1000, device="meta")
    >>> peak_bytes(lambda: (values + 1) * 2)
    8000
    """
    counter = _Peak()
    with counter, _FusedAttention() if simulate_fused else nullcontext():
        function()
    return counter.peak


def decoding_bytes(backbone: Any, size: tuple[int, int, int]) -> int:
    """Return the memory of the activations while a clip is decoded in one piece, its images included.

    The weights, and what convolution kernels use on the side, come on top. Counted once for each VAE and size; it
    takes seconds.

    Parameters
    ----------
    backbone : Backbone
    size : height and width in pixels, and images

    Raises
    ------
    InvalidInputError
        For a size that the backbone does not take.
    """
    height, width, images = size
    backbone.check_size(height, width, images)
    stride, spatial = backbone.strides
    vae = backbone.pipeline.vae
    channels = int(getattr(vae.config, "z_dim", None) or vae.config.latent_channels)
    cells = (height // spatial, width // spatial)
    if backbone.images_at_once is not None:
        count = min(images, backbone.images_at_once)
        decoded = (images - count) * 3 * height * width * vae.dtype.itemsize
        return decoded + decoder_bytes(type(vae), vae.config, (count, channels, *cells), vae.dtype)
    shape = (1, channels, (images - 1) // stride + 1, *cells)
    return decoder_bytes(type(vae), vae.config, shape, vae.dtype)


def decoder_bytes(kind: type, config: Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Return the memory of the activations of a VAE of a class and configuration that decodes latents.

    Parameters
    ----------
    kind : class of the VAE, of diffusers
    config : mapping
    shape : of the latents, (batch, channel, frame, y, x), or (image, channel, y, x) of a VAE of images
    dtype : torch.dtype
    """
    public = {name: value for name, value in dict(config).items() if not name.startswith("_")}
    key = (kind, repr(sorted(public.items())), shape, dtype)
    if key not in _KEPT:
        with torch.device("meta"):
            vae: Any = kind.from_config(public)  # type: ignore[attr-defined]
            latents = torch.empty(shape, dtype=dtype)
        nn.Module.to(vae, dtype)
        if hasattr(vae, "disable_tiling"):
            vae.disable_tiling()
        with torch.no_grad():
            _KEPT[key] = peak_bytes(lambda: vae.eval().decode(latents, return_dict=False))
    return _KEPT[key]
