"""Placement of the parts of a loaded pipeline: on the device, offloaded, or spread over devices."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from probe.loading.options import Loading
from probe.loading.vae_memory import decoding_bytes
from store.errors import InvalidInputError, UnsupportedBackboneError

_NO_HOOKS = SimpleNamespace(hooks={})


def place_pipeline(pipeline: Any, loading: Loading, device: torch.device) -> Any:
    """Move a pipeline to a device, or offload its parts, as the options say.

    A pipeline with a device map stays as it was loaded.

    Raises
    ------
    InvalidInputError
        For offloading a pipeline that is offloaded already, and for moving single modules from the CPU to itself.
    UnsupportedBackboneError
        When diffusers cannot offload it; the message says why.
    """
    if loading.offload == "sequential" and device.type == "cpu":  # accelerate fails at the first call there
        raise InvalidInputError(
            "offload='sequential' keeps weights in the memory of the CPU until a GPU needs them, and this model runs "
            "on the CPU. Leave it out."
        )
    if loading.offload is None:
        return pipeline if is_offloaded(pipeline) else _moved(pipeline, device)
    if is_offloaded(pipeline):
        raise InvalidInputError(
            f"offload={loading.offload!r} was asked for, but the pipeline's parts are offloaded or mapped to devices "
            "already. Leave it out, or pass the pipeline as it was loaded."
        )
    try:
        _OFFLOADS[loading.offload](pipeline, device)
    except (ImportError, RuntimeError, ValueError) as error:
        raise UnsupportedBackboneError(
            f"{type(pipeline).__name__} cannot be loaded with offload={loading.offload!r}: {error}"
        ) from error
    return pipeline


def _moved(pipeline: Any, device: torch.device) -> Any:
    """Move a pipeline, and a VAE that was put beside its parts (Step-Video's runs on a server)."""
    vae = getattr(pipeline, "vae", None)
    if isinstance(vae, nn.Module) and "vae" not in pipeline.components:
        vae.to(device)
    return pipeline.to(device)


def _offload_groups(pipeline: Any, device: torch.device) -> None:
    pipeline.enable_group_offload(device, offload_type="leaf_level", use_stream=device.type == "cuda")


_OFFLOADS: dict[str, Callable[[Any, torch.device], object]] = {
    "model": lambda pipeline, device: pipeline.enable_model_cpu_offload(device=device),
    "sequential": lambda pipeline, device: pipeline.enable_sequential_cpu_offload(device=device),
    "group": _offload_groups,
}


def is_offloaded(pipeline: Any) -> bool:
    """Tell whether parts of a pipeline are offloaded, or mapped to devices, so that it must not be moved."""
    parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    modules = [module for part in parts for module in part.modules()]
    hooked = any(hasattr(module, "_hf_hook") for module in modules)  # accelerate's
    hooked |= any("group_offloading" in getattr(module, "_diffusers_hook", _NO_HOOKS).hooks for module in modules)
    return hooked or getattr(pipeline, "hf_device_map", None) is not None


def cast_vae_inputs(vae: nn.Module) -> None:
    """Let a VAE take tensors of any data type: some pipelines pass it those of their transformer.

    Examples
    --------
    >>> from diffusers import AutoencoderKLWan
    >>> vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, attn_scales=[])
    >>> cast_vae_inputs(vae)
    >>> vae.decode(torch.zeros(1, 16, 1, 2, 2, dtype=torch.bfloat16)).sample.dtype
    torch.float32
    """
    for name in ("encode", "decode"):
        setattr(vae, name, _casting(getattr(vae, name), vae))


def _casting(method: Callable[..., Any], vae: Any) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(value: Tensor, *args: Any, **kwargs: Any) -> Any:
        return method(value.to(vae.dtype), *args, **kwargs)

    return call


def set_vae_tiling(backbone: Any, tiling: str | bool) -> bool:
    """Encode and decode in tiles, which needs less memory; return whether tiles are on.

    "auto" takes tiles on an accelerator on which decoding a clip of the default size in one piece would not fit in the
    memory that is free.

    Raises
    ------
    InvalidInputError
        For tiles of a VAE that has none, asked for or needed.
    """
    vae, device = backbone.pipeline.vae, backbone.device
    if tiling == "auto":
        if device.type != "cuda":
            return bool(getattr(vae, "use_tiling", False))
        tiling = _decoding_bytes(backbone) > torch.cuda.mem_get_info(device)[0]
    if not _switched(vae, "enable_tiling" if tiling else "disable_tiling") and tiling:
        raise InvalidInputError(
            f"vae_tiling=True was asked for, but {type(vae).__name__} has no tiles. Pass vae_tiling=False."
        )
    return bool(tiling)


def _switched(vae: Any, name: str) -> bool:
    """Call a method of a VAE without arguments; False where it does not have it."""
    if not hasattr(vae, name):
        return False
    try:
        getattr(vae, name)()
    except NotImplementedError:  # diffusers' own VAEs have the methods of tiles, but not all have tiles
        return False
    return True


def _decoding_bytes(backbone: Any) -> float:
    """Memory of decoding a clip of the default size; 0 where the model is too small for the default of its family.

    Infinite for a VAE that decodes in tiles only (Allegro's).
    """
    try:
        backbone.check_size(*backbone.default_size)
    except InvalidInputError:
        return 0
    try:
        return decoding_bytes(backbone, backbone.default_size)
    except NotImplementedError:
        return math.inf
