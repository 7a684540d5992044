"""A backbone without its weights: enough to say what a run would do, from configuration files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from probe.backbones.backbone import Backbone
from probe.loading.load_backbone import find_index, is_bundled_kind, load_backbone, planned_dtype, wrap_pipeline
from probe.loading.model_index import read_model_index
from store.errors import BackboneNotFoundError

_READ = ("transformer", "transformer_2", "vae", "scheduler")


class NotLoaded:
    """What stands for a text encoder or a tokenizer that a plan does not need."""


def plan_backbone(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    local_files_only: bool = False,
) -> Backbone:
    """A backbone that can be asked for its layers, sizes and plans, and that cannot run.

    Parameters
    ----------
    name_or_path, device, dtype, revision, local_files_only
        As in :func:`probe.loading.load_backbone.load_backbone`. Of a hub id only the small configuration files are
        fetched. A mini backbone is small, and loaded whole.

    Returns
    -------
    Backbone
        With its modules on the meta device.

    Raises
    ------
    BackboneNotFoundError, InvalidInputError, UnsupportedBackboneError

    Examples
    --------
    >>> plan_backbone("mini").layers[0].channels
    32
    """
    common: dict[str, Any] = {"device": device, "dtype": dtype}
    if is_bundled_kind(name_or_path):
        return load_backbone(name_or_path, **common)
    location, index, options = find_index(name_or_path, revision=revision, local_files_only=local_files_only)
    to_dtype = planned_dtype(dtype, device)
    try:
        pipeline = _pipeline(location, read_model_index(index), to_dtype, options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BackboneNotFoundError(
            f"the configuration of the pipeline {location!r} could not be read: {reason} Save or download it again."
        ) from error
    return wrap_pipeline(pipeline, name=str(name_or_path), index=index, revision=revision)


def _pipeline(location: str, index: dict[str, Any], dtype: torch.dtype, options: dict[str, Any]) -> Any:
    import diffusers

    parts: dict[str, Any] = {}
    for name, value in index.items():
        if name.startswith("_"):
            continue
        if not isinstance(value, list):
            parts[name] = value  # such as Wan's boundary_ratio
        elif value[0] is None:
            parts[name] = None
        elif name in _READ:
            kind = getattr(diffusers, value[1])
            config = kind.load_config(location, subfolder=name, **options)
            with torch.device("cpu" if name == "scheduler" else "meta"):
                part = kind.from_config(config)
            if isinstance(part, torch.nn.Module):
                torch.nn.Module.to(part, dtype)  # diffusers' own warns of weights, of which there are none
            parts[name] = part
        else:
            parts[name] = NotLoaded()
    return getattr(diffusers, index["_class_name"])(**parts)
