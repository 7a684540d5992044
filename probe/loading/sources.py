"""Sources of a pipeline: bundled weights, a folder, or a hub id, distinguished without loading anything."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from probe.loading.model_index import read_model_index
from probe.loading.options import Loading
from probe.loading.supported import check_index
from store.errors import BackboneNotFoundError
from store.files.damaged import reason
from store.files.digest import digest_of_bytes
from store.files.pipeline_json import read_json
from store.wording import Wording

MINIS = ("mini", "mini-rope")
"""Names of the bundled backbones."""

EARLIER_MINIS = ("mini@1", "mini-rope@1")
"""Names of bundled weights that others have replaced, kept so that results on them can be repeated."""

_BUNDLED = f"{' or '.join(map(repr, MINIS))}, which are bundled"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
# Ends of names that are files or recordings, never hub ids, although owner/name.mp4 could be one.
_FILE_SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".zarr", ".nc", ".html", ".pth"}
CODEC = "PixelCodec"
"""Class of the VAE of the bundled backbones."""


def is_bundled_kind(source: str | Path) -> bool:
    """Tell whether this names a bundled backbone, or a folder that holds one like it."""
    if isinstance(source, str):
        check_name(source)
    return source in (*MINIS, *EARLIER_MINIS) or _is_mini(expanded(source))


def find_index(source: str | Path, loading: Loading) -> tuple[str, Path, dict[str, Any]]:
    """Find a pipeline and its model_index.json, and the options with which its parts are asked for.

    Raises
    ------
    BackboneNotFoundError, UnsupportedBackboneError
    """
    if _names_a_folder(source):
        folder = expanded(source)
        _check_folder(folder, any_class=loading.family is not None)
        return str(folder), folder / "model_index.json", {}
    options = {"revision": loading.revision, "local_files_only": loading.local_files_only}
    return str(source), _fetch_index(str(source), options, any_class=loading.family is not None), options


def saved_transformers(
    location: str, index: Path, options: Mapping[str, Any]
) -> list[tuple[Collection[str], dict[str, Any]]]:
    """Return the class and configuration of each transformer of a saved pipeline; none where they cannot be read."""
    found: list[tuple[Collection[str], dict[str, Any]]] = []
    for name, kind in read_model_index(index).items():
        if name not in ("transformer", "transformer_2") or not isinstance(kind, list) or kind[0] is None:
            continue
        try:
            file = index.parent / name / "config.json" if not options else _fetch_file(location, name, options)
            found.append(((str(kind[1]),), read_json(file)))
        except (OSError, ValueError):  # loading reads it again and raises with a message
            return []
    return found


def _fetch_file(name: str, part: str, options: Mapping[str, Any]) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, f"{part}/config.json", **options))


def _fetch_index(name: str, options: dict[str, Any], *, any_class: bool = False) -> Path:
    """The model_index.json of a hub id: small, and enough to detect what cannot be probed."""
    from huggingface_hub import hf_hub_download

    if not options["local_files_only"]:
        _check_reachable(name, options["revision"])
    try:
        index = Path(hf_hub_download(name, "model_index.json", **options))
    except (OSError, ValueError) as error:
        raise not_loaded(name, error) from error
    parts = read_model_index(index)
    if not any_class:
        check_index(parts)
    return index


def _check_reachable(name: str, revision: str | None) -> None:
    """Ask the hub once for what is in no cache: the download itself would ask six times, and print each."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "model_index.json", revision=revision), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "model_index.json", revision=revision))
    except Exception as error:  # what the hub's client raises without a network differs by its version
        raise not_loaded(name, error) from error


def not_loaded(location: str, error: Exception) -> BackboneNotFoundError:
    cause = reason(error).rstrip(".")
    return BackboneNotFoundError(
        f"the pipeline {location!r} could not be loaded: {cause}.",
        remedy=Wording(
            "Give a hub id that exists, the folder of a saved pipeline, or {}. Without a network, what was downloaded "
            "before loads with {local_files_only}.",
            _BUNDLED,
            local_files_only=True,
        ),
    )


def check_name(name: str) -> None:
    """Reject at once what can be neither a path that exists nor a hub id; the hub would be asked for long."""
    remedy = f"Give a folder that exists, {_BUNDLED}, or a hub id, which is owner/name."
    if not name.strip():
        raise BackboneNotFoundError(f"no backbone was named: the name is empty. {remedy}")
    if name in (*MINIS, *EARLIER_MINIS) or expanded(name).exists() or _is_explicit_path(name):
        return
    if not _HUB_ID.fullmatch(name) or Path(name).suffix.lower() in _FILE_SUFFIXES:
        raise BackboneNotFoundError(f"no file, folder or bundled backbone named {name!r}. {remedy}")


def expanded(name: str | Path) -> Path:
    return Path(os.path.expanduser(name))  # a ~user that does not exist stays as it is, unlike in pathlib


def _is_explicit_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _names_a_folder(source: str | Path) -> bool:
    if isinstance(source, Path) or expanded(source).exists():
        return True
    return _is_explicit_path(source)


def _is_mini(folder: Path) -> bool:
    """Tell whether a folder holds a mini backbone; others may have its codec, but not its tokenizer."""
    codec, index = folder / "vae" / "config.json", folder / "model_index.json"
    if not codec.is_file() or read_json(codec).get("_class_name") != CODEC:
        return False
    parts = read_model_index(index) if index.is_file() else {}
    return not parts or parts.get("tokenizer") == ["probe.mini.text", "SceneTokenizer"]


def _check_folder(folder: Path, *, any_class: bool = False) -> None:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise BackboneNotFoundError(f"{folder} {what}. Pass the folder that a pipeline's save_pretrained wrote.")
    index = folder / "model_index.json"
    if not index.is_file():
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise BackboneNotFoundError(
            f"{folder} is not a pipeline: it has no model_index.json. It holds: {held}. Pass the folder that a "
            "pipeline's save_pretrained wrote, with model_index.json and a folder for each component."
        )
    parts = read_model_index(index)
    if not any_class:
        check_index(parts, folder)
    named = [name for name, kind in parts.items() if isinstance(kind, list) and isinstance(next(iter(kind), None), str)]
    missing = [name for name in named if not (folder / name).is_dir()]
    if missing:
        raise BackboneNotFoundError(
            f"{folder} is an incomplete pipeline: its model_index.json names {', '.join(named)}, but there is no "
            f"folder {', '.join(missing)}. Save or copy the pipeline again."
        )


def commit_of(path: Path) -> str | None:
    """The commit of a file or folder in the hub's cache, which keeps each under snapshots/<commit>."""
    found = re.search(r"snapshots/([0-9a-f]{40})", path.as_posix())
    return found.group(1) if found else None


def digest_of_weights(folder: Path) -> str:
    """Twelve hexadecimal digits of the weights themselves, for a backbone that has no commit."""
    return digest_of_bytes(path.read_bytes() for path in sorted(folder.glob("*.safetensors")))[:12]
