"""A backbone without its weights: enough to say what a run would do, from configuration files alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from probe.backbones.backbone import Backbone
from probe.families.published import find_card
from probe.loading.load_backbone import load_backbone, resolve_device, wrap_pipeline
from probe.loading.model_index import read_model_index
from probe.loading.options import Loading, parse_family
from probe.loading.precision import Precision, choose_precision
from probe.loading.sources import find_index, is_bundled_kind, saved_transformers
from store.errors import BackboneNotFoundError

_READ = ("transformer", "transformer_2", "vae", "scheduler")


class NotLoaded:
    """Stand-in for a text encoder or a tokenizer that a plan does not need."""


def plan_backbone(name_or_path: str | Path, **options: Any) -> Backbone:
    """A backbone that can be asked for its layers, sizes and plans, and that cannot run.

    Parameters
    ----------
    name_or_path : str or path
        Of a hub id only the small configuration files are fetched. A mini backbone is small, and loaded whole.
    options
        As in :func:`probe.loading.load_backbone.load_backbone`.

    Returns
    -------
    Backbone
        With its modules on the meta device, in the data types that it would be loaded in.

    Raises
    ------
    BackboneNotFoundError, InvalidInputError, UnsupportedBackboneError

    Examples
    --------
    >>> plan_backbone("mini").layers[0].channels
    32
    """
    loading = Loading(**options)
    if is_bundled_kind(name_or_path):
        return load_backbone(name_or_path, **options)
    location, index, where = find_index(name_or_path, loading)
    card = find_card(str(name_or_path), saved_transformers(location, index, where))
    precision = choose_precision(loading, resolve_device(loading.device), card)
    try:
        pipeline = _pipeline(location, read_model_index(index), precision, where)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BackboneNotFoundError(
            f"the configuration of the pipeline {location!r} could not be read: {reason} Save or download it again."
        ) from error
    family = parse_family(loading.family)
    return wrap_pipeline(pipeline, name=str(name_or_path), index=index, revision=loading.revision, family=family)


def _pipeline(location: str, index: dict[str, Any], precision: Precision, options: dict[str, Any]) -> Any:
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
            parts[name] = on_meta(kind, config, precision.vae if name == "vae" else precision.model)
        else:
            parts[name] = NotLoaded()
    return getattr(diffusers, index["_class_name"])(**parts)


def on_meta(kind: Any, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """Return a part of a pipeline of a class and configuration: a module on the meta device, a scheduler as it is."""
    is_module = issubclass(kind, torch.nn.Module)
    with torch.device("meta" if is_module else "cpu"):
        part = kind.from_config(config)
    return (
        torch.nn.Module.to(part, dtype) if is_module else part
    )  # diffusers' own warns of weights, of which there are none
