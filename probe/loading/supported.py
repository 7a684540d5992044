"""Support of a pipeline, by its class and that of its transformer, and the remedy if there is none."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version

from probe.families import families, family_of_transformer
from probe.loading.refused import REFUSED
from store.errors import UnsupportedBackboneError
from store.files.pipeline_json import read_json


def check_supported(kind: str, transformer: str | None = None, config: Mapping[str, Any] | None = None) -> None:
    """Reject a class of pipelines that cannot be probed.

    Parameters
    ----------
    kind : name of the pipeline's class
    transformer : name of its transformer's class, where that is known
    config : of the transformer, where that is known

    Raises
    ------
    UnsupportedBackboneError
        Says which family its transformer is of, if any, and how it can be probed all the same.

    Examples
    --------
    >>> check_supported("WanPipeline")
    >>> check_supported("LucyEditPipeline", "WanTransformer3DModel", {"in_channels": 16, "out_channels": 16})
    Traceback (most recent call last):
    ...
    store.errors.UnsupportedBackboneError: LucyEditPipeline is not called as ditprobe calls pipelines, though its transformer is of the Wan family. Use WanPipeline.from_pipe(pipeline, dtype=pipeline.dtype), which shares its weights.
    """  # noqa: E501
    if any(kind in family.pipelines for family in families()):
        return
    family, reason = family_of_transformer(transformer), REFUSED.get(kind)
    if family is None or reason is not None:
        reason = reason or REFUSED.get(transformer or "", "it is of no supported family.")
        supported = ", ".join(family.family for family in families())
        raise UnsupportedBackboneError(
            f"{kind} cannot be probed: {reason} Supported families: {supported} (docs/families.md lists their "
            "pipelines). Another one is added with register_family."
        )
    plain = family.pipelines[0]
    converted = f"{plain}.from_pipe(pipeline, {dtype_argument()}=pipeline.dtype)"  # which else becomes float32
    refusal = (
        f"{kind} is not called as ditprobe calls pipelines, though its transformer is of the {family.family} family."
    )
    if config is None:
        raise UnsupportedBackboneError(
            f"{refusal} Load it with diffusers and pass {converted}; that fits where the transformer takes nothing but "
            "latents and text."
        )
    condition = _condition(config)
    if condition:
        raise UnsupportedBackboneError(
            f"{refusal} {plain} cannot run it either: its transformer also takes {condition}. Supported are "
            f"{', '.join(family.pipelines)}."
        )
    raise UnsupportedBackboneError(f"{refusal} Use {converted}, which shares its weights.")


def dtype_argument() -> str:
    """Name that diffusers gives to the data type of weights; before 0.42 it was another."""
    return "dtype" if Version(version("diffusers")) >= Version("0.42") else "torch_dtype"


def check_index(parts: Mapping[str, Any], folder: Path | None = None) -> None:
    """:func:`check_supported` of a model_index.json, and of the transformer's configuration in its folder."""
    _check_no_unet(str(parts.get("_class_name")), parts.get("unet"))
    named = parts.get("transformer")
    transformer = named[1] if isinstance(named, list) and len(named) == 2 else None
    file = None if folder is None else folder / "transformer" / "config.json"
    config = read_json(file) if file is not None and file.is_file() else None
    check_supported(str(parts.get("_class_name")), transformer, config)


def check_pipeline(pipeline: Any) -> None:
    """:func:`check_supported` of a pipeline object; a bare transformer is distinguished from a pipeline."""
    kind = type(pipeline).__name__
    if hasattr(pipeline, "components"):
        transformer = getattr(pipeline, "transformer", None)
        _check_no_unet(kind, getattr(pipeline, "unet", None))
        check_supported(kind, _class_of(transformer), getattr(transformer, "config", None))
        return
    family = family_of_transformer(_class_of(pipeline))
    if family is not None:
        raise UnsupportedBackboneError(
            f"{kind} is a transformer alone; its VAE and scheduler are needed too. Pass the whole pipeline, such as "
            f"{family.pipelines[0]}(transformer=..., vae=..., scheduler=..., text_encoder=None, tokenizer=None)."
        )
    raise UnsupportedBackboneError(f"{kind} is neither a name, a path nor a diffusers pipeline. Pass one of these.")


def _check_no_unet(kind: str, unet: Any) -> None:
    if unet not in (None, [None, None]):
        raise UnsupportedBackboneError(
            f"{kind} cannot be probed: it denoises with a UNet, whose attention layers have several resolutions and "
            "attend over space or time alone, so its tokens do not form one grid of frames and cells."
        )


def _class_of(module: Any) -> str | None:
    """The class of a transformer; of a subclass the one that a family knows."""
    if not isinstance(module, torch.nn.Module):
        return None
    names = [kind.__name__ for kind in type(module).__mro__]
    return next((name for name in names if family_of_transformer(name)), names[0])


def _condition(config: Mapping[str, Any]) -> str:
    """Further inputs of a transformer in addition to latents and text; nothing for most."""
    taken, made = config.get("in_channels"), config.get("out_channels")
    if taken != made:
        return f"{taken} channels, where latents have {made}"
    return "an image" if config.get("image_condition_type") or config.get("image_dim") else ""
