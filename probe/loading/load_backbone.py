"""Finding a backbone: a pipeline object, a folder, a hub id, or a bundled mini."""

from __future__ import annotations

import hashlib
import os
import re
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from probe.attention.retarget import check_multiplies
from probe.backbones.backbone import Backbone
from probe.families import CogVideoX, family_of
from probe.loading.model_index import check_safetensors, read_json, read_model_index
from probe.loading.supported import check_index, check_pipeline, dtype_argument
from store.arguments import checked
from store.errors import BackboneNotFoundError, InvalidInputError, UnsupportedBackboneError
from store.files.damaged import reason

MINIS = ("mini", "mini-rope")
"""Names of the bundled backbones."""

_BUNDLED = f"{' or '.join(map(repr, MINIS))}, which are bundled"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
# Ends of names that are files or recordings, never hub ids, although owner/name.mp4 could be one.
_FILE_SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".zarr", ".nc", ".html", ".pth"}
_CODEC = "PixelCodec"
_NO_HOOKS = SimpleNamespace(hooks={})


@checked
def load_backbone(
    name_or_path_or_pipeline: Any,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    local_files_only: bool = False,
    use_safetensors: bool = True,
) -> Backbone:
    """A backbone, ready to generate, to look at clips and to be probed.

    Parameters
    ----------
    name_or_path_or_pipeline : str, path or diffusers pipeline
        ``"mini"`` or ``"mini-rope"`` (bundled, need no network), a folder that ``save_pretrained`` wrote, a hub id such
        as ``"THUDM/CogVideoX-2b"``, or a pipeline object.
    device : str or torch.device
        "auto" is the GPU where there is one; a pipeline object stays where it is, and one whose parts are offloaded
        is never moved.
    dtype : str or torch.dtype
        "auto" is bfloat16 on a GPU and float32 on a CPU; a pipeline object keeps its own. Else "float32", ...
    revision : str, optional
        Branch, tag or commit of a hub id.
    local_files_only : bool
        Do not ask the hub, use what was downloaded before.
    use_safetensors : bool
        Load no other weights than safetensors. False also takes ``.bin`` files, which are pickles: torch reads them
        without running what they hold, but diffusers and torch alone see to that.

    Returns
    -------
    Backbone

    Raises
    ------
    BackboneNotFoundError
        No such folder or hub id, or a folder that is no pipeline. The hub is asked only for names that can be a hub
        id, which is owner/name.
    InvalidInputError
        An unknown data type, or a device that is unknown or not there.
    UnsupportedBackboneError
        A pipeline of a family that cannot be probed, with parts of other libraries than diffusers and transformers,
        or without safetensors; known before its weights are loaded.

    Examples
    --------
    >>> from probe.mini import new_pipeline
    >>> load_backbone(new_pipeline())
    Mini('CogVideoXPipeline': 6 layers of 4 heads x 32 channels, 40 x 40 px and 6 images, float32 on cpu)
    """
    source, to_dtype = name_or_path_or_pipeline, _dtype(dtype)
    if not isinstance(source, str | Path):
        return _wrap(_placed(source, device, to_dtype), revision=revision)
    if isinstance(source, str):
        _check_name(source)
    target = resolve_device(device)
    to_dtype = planned_dtype(dtype, target)
    folder = _expanded(source)
    if is_bundled_kind(source):
        from probe.mini.model import BUNDLED, load_mini

        weights = BUNDLED[str(source)] if source in MINIS else folder
        pipeline: Any = load_mini(weights, dtype=to_dtype)
        return _wrap(pipeline.to(target), name=str(source), revision=_digest(weights / "transformer"))
    location, index, options = find_index(source, revision=revision, local_files_only=local_files_only)
    if use_safetensors and not options:  # a folder; of a hub id, diffusers fetches no others
        check_safetensors(folder)
    pipeline = _load(location, index, to_dtype, use_safetensors=use_safetensors, **options)
    return wrap_pipeline(pipeline.to(target), name=str(source), index=index, revision=revision)


def is_bundled_kind(source: str | Path) -> bool:
    """Whether this names a bundled backbone, or a folder that holds one like it."""
    if isinstance(source, str):
        _check_name(source)
    return source in MINIS or _is_mini(_expanded(source))


def planned_dtype(dtype: str | torch.dtype, device: str | torch.device) -> torch.dtype:
    """The data type that a backbone is loaded in; "auto" is bfloat16 on a GPU and float32 on a CPU."""
    return _dtype(dtype) or (torch.bfloat16 if resolve_device(device).type == "cuda" else torch.float32)


def find_index(
    source: str | Path, *, revision: str | None, local_files_only: bool, use_safetensors: bool = False
) -> tuple[str, Path, dict[str, Any]]:
    """Where a pipeline is, its model_index.json, and the options with which its parts are asked for.

    With ``use_safetensors`` a folder whose weights are pickles is refused.

    Raises
    ------
    BackboneNotFoundError, UnsupportedBackboneError
    """
    if _names_a_folder(source):
        folder = _expanded(source)
        _check_folder(folder)
        return str(folder), folder / "model_index.json", {}
    options = {"revision": revision, "local_files_only": local_files_only}
    return str(source), _fetch_index(str(source), options), options


def wrap_pipeline(pipeline: Any, *, name: str, index: Path, revision: str | None) -> Backbone:
    """The backbone of a pipeline whose model_index.json is known."""
    return _wrap(pipeline, name=name, revision=_commit(index) or revision)


def _fetch_index(name: str, options: dict[str, Any]) -> Path:
    """The model_index.json of a hub id: small, and enough to refuse what cannot be probed."""
    from huggingface_hub import hf_hub_download

    if not options["local_files_only"]:
        _check_reachable(name, options["revision"])
    try:
        index = Path(hf_hub_download(name, "model_index.json", **options))
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from error
    check_index(read_model_index(index))
    return index


def _check_reachable(name: str, revision: str | None) -> None:
    """Ask the hub once for what is in no cache: the download itself would ask six times, and print each."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "model_index.json", revision=revision), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "model_index.json", revision=revision))
    except Exception as error:  # what the hub's client raises without a network differs by its version
        raise _not_loaded(name, error) from error


def _load(location: str, index: Path, dtype: torch.dtype, **options: Any) -> Any:
    import diffusers

    # a pipeline saved without a part (its text encoder, say) loads only when told so
    parts = read_model_index(index)
    absent = {name: None for name, kind in parts.items() if kind == [None, None]}
    if parts.get("vae") == ["probe.mini.codec", _CODEC]:
        import_module("probe.mini")  # diffusers takes classes only from modules that are imported already
    try:
        return diffusers.DiffusionPipeline.from_pretrained(location, **{dtype_argument(): dtype}, **options, **absent)
    except (ImportError, torch.OutOfMemoryError):
        raise  # not the files' fault
    except Exception as error:  # damaged configurations and weights raise a dozen kinds
        raise _not_loaded(location, error) from error


def _not_loaded(location: str, error: Exception) -> BackboneNotFoundError:
    told = reason(error).rstrip(".")
    return BackboneNotFoundError(
        f"the pipeline {location!r} could not be loaded: {told}. Give a hub id that exists, the folder of a saved "
        f"pipeline, or {_BUNDLED}. Without a network, what was downloaded before loads with local_files_only=True."
    )


def _wrap(pipeline: Any, *, name: str | None = None, revision: str | None = None) -> Backbone:
    family = _family_of(pipeline)
    if family is None:
        _check_linear(pipeline)
        check_pipeline(pipeline)
        raise UnsupportedBackboneError(f"{type(pipeline).__name__} is not a pipeline of a supported family.")
    return family(pipeline, name=name, revision=revision)


def _family_of(pipeline: Any) -> type[Backbone] | None:
    """The family of a pipeline: that of the bundled backbones where it has their codec and reads their prompts."""
    family = family_of(pipeline)
    if family is not CogVideoX or type(pipeline.vae).__name__ != _CODEC:
        return family
    from probe.mini.family import Mini, reads_scenes

    return Mini if reads_scenes(pipeline) else family


def _check_linear(pipeline: Any) -> None:
    """A better reason for models whose self-attention has no queries times keys to look at."""
    transformer = getattr(pipeline, "transformer", None)
    named = transformer.named_modules() if isinstance(transformer, torch.nn.Module) else ()
    for name, module in named:
        if name.endswith(".attn1") and hasattr(module, "processor"):
            check_multiplies(module, f"{type(transformer).__name__} layer {name}")


def _placed(pipeline: Any, device: str | torch.device, dtype: torch.dtype | None) -> Any:
    if not hasattr(pipeline, "components"):
        check_pipeline(pipeline)
    if dtype is not None:
        pipeline.to(dtype)
    target = None if device == "auto" else resolve_device(device)
    if target is not None and not _is_offloaded(pipeline):
        pipeline.to(target)
    return pipeline


def _is_offloaded(pipeline: Any) -> bool:
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    modules = [module for part in parts for module in part.modules()]
    hooked = any(hasattr(module, "_hf_hook") for module in modules)  # accelerate's
    hooked |= any("group_offloading" in getattr(module, "_diffusers_hook", _NO_HOOKS).hooks for module in modules)
    return hooked or getattr(pipeline, "hf_device_map", None) is not None


def resolve_device(device: str | torch.device) -> torch.device:
    """A device that is there; "auto" is the GPU where there is one.

    Raises
    ------
    InvalidInputError
        For a device that is unknown or not available; names those that are.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(f"device {device!r} is unknown. Available here: {available}.") from error
    try:
        torch.empty(1, device=target)
    except (AssertionError, RuntimeError) as error:  # what torch raises differs by kind of device
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InvalidInputError(
            f"device {str(target)!r} cannot be used: {reason}. Available here: {available}."
        ) from error
    return target


def _dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    if dtype == "auto":
        return None
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InvalidInputError(f"dtype {dtype!r} is unknown. Use 'auto', 'float32', 'bfloat16' or 'float16'.")
    return found


def _check_name(name: str) -> None:
    """Refuse at once what can be neither a path that exists nor a hub id; the hub would be asked for long."""
    remedy = f"Give a folder that exists, {_BUNDLED}, or a hub id, which is owner/name."
    if not name.strip():
        raise BackboneNotFoundError(f"no backbone was named: the name is empty. {remedy}")
    if name in MINIS or _expanded(name).exists() or _is_explicit_path(name):
        return
    if not _HUB_ID.fullmatch(name) or Path(name).suffix.lower() in _FILE_SUFFIXES:
        raise BackboneNotFoundError(f"no file, folder or bundled backbone named {name!r}. {remedy}")


def _expanded(name: str | Path) -> Path:
    return Path(os.path.expanduser(name))  # a ~user that does not exist stays as it is, unlike in pathlib


def _is_explicit_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _names_a_folder(source: str | Path) -> bool:
    if isinstance(source, Path) or _expanded(source).exists():
        return True
    return _is_explicit_path(source)


def _is_mini(folder: Path) -> bool:
    """Whether a folder holds a mini backbone; others may have its codec, but not its tokenizer."""
    codec, index = folder / "vae" / "config.json", folder / "model_index.json"
    if not codec.is_file() or read_json(codec).get("_class_name") != _CODEC:
        return False
    parts = read_model_index(index) if index.is_file() else {}
    return not parts or parts.get("tokenizer") == ["probe.mini.text", "SceneTokenizer"]


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise BackboneNotFoundError(f"{folder} {what}. Pass the folder that a pipeline's save_pretrained wrote.")
    index = folder / "model_index.json"
    if not index.is_file():
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise BackboneNotFoundError(
            f"{folder} is no pipeline: it has no model_index.json. It holds: {held}. Pass the folder that a pipeline's "
            "save_pretrained wrote, with model_index.json and a folder for each component."
        )
    parts = read_model_index(index)
    check_index(parts, folder)
    named = [name for name, kind in parts.items() if isinstance(kind, list) and isinstance(next(iter(kind), None), str)]
    missing = [name for name in named if not (folder / name).is_dir()]
    if missing:
        raise BackboneNotFoundError(
            f"{folder} is an incomplete pipeline: its model_index.json names {', '.join(named)}, but there is no "
            f"folder {', '.join(missing)}. Save or copy the pipeline again."
        )


def _commit(path: Path) -> str | None:
    """The commit of a file or folder in the hub's cache, which keeps each under snapshots/<commit>."""
    found = re.search(r"snapshots/([0-9a-f]{40})", path.as_posix())
    return found.group(1) if found else None


def _digest(folder: Path) -> str:
    """Twelve hexadecimal digits of the weights themselves, for a backbone that has no commit."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
