"""The index of a saved pipeline, checked here before any library acts on what it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.errors import UnsupportedBackboneError
from store.files.damaged import shown
from store.files.pipeline_json import read_json

_LIBRARIES = ("diffusers", "transformers")
_OWN = (("probe.mini.codec", "PixelCodec"), ("probe.mini.text", "SceneTokenizer"))
_SAFE = "model*.safetensors", "diffusion_pytorch_model*.safetensors"
_PICKLED = "pytorch_model*.bin", "diffusion_pytorch_model*.bin"


def read_model_index(path: Path) -> dict[str, Any]:
    """Parts that a ``model_index.json`` names, each rejected unless it is a class of a library that is known.

    Known are diffusers, transformers, and the codec and the tokenizer of the bundled backbones. A part that is left out
    is ``[None, None]``; other values than pairs are settings of the pipeline.

    Raises
    ------
    BackboneNotFoundError
        It is damaged.
    UnsupportedBackboneError
        It names code of its own, or a class of another library.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = Path(folder, "model_index.json")
    ...     _ = index.write_text('{"_class_name": "WanPipeline", "vae": ["os", "system"]}')
    ...     try:
    ...         read_model_index(index)
    ...     except UnsupportedBackboneError as error:
    ...         print(str(error).partition(" names ")[2])
    vae as system of os. Only classes of diffusers and transformers are loaded; load the pipeline yourself and pass it.
    """
    parts = read_json(path)
    if not isinstance(parts.get("_class_name"), str):
        raise UnsupportedBackboneError(
            f"{path} does not name a pipeline of diffusers as _class_name. Load the pipeline yourself and pass it."
        )
    for name, kind in parts.items():
        if not name.startswith("_") and isinstance(kind, list):
            _check_part(path, name, kind)
    return parts


def _check_part(path: Path, name: str, kind: list[Any]) -> None:
    if all(isinstance(part, int | float) for part in kind):
        return  # a setting
    library, called = kind if len(kind) == 2 else (None, None)
    known = library in _LIBRARIES and isinstance(called, str) and called.isidentifier()
    if kind != [None, None] and not known and (library, called) not in _OWN:
        what = (
            f"{shown(called)} of {shown(library)}"
            if isinstance(library, str) and isinstance(called, str)
            else "no class"
        )
        raise UnsupportedBackboneError(
            f"{path} names {shown(name)} as {what}. Only classes of diffusers and transformers are loaded; load the "
            "pipeline yourself and pass it."
        )


def check_safetensors(folder: Path) -> None:
    """Reject a folder with a part whose weights are pickles alone.

    Raises
    ------
    UnsupportedBackboneError
    """
    for part in sorted(child for child in folder.iterdir() if child.is_dir()):
        pickled = [file for pattern in _PICKLED for file in part.glob(pattern)]
        if pickled and not any(True for pattern in _SAFE for _ in part.glob(pattern)):
            raise UnsupportedBackboneError(
                f"{part} has its weights in {pickled[0].name}, a pickle, and not as safetensors. Save the pipeline "
                "again with safe_serialization=True, or pass use_safetensors=False if you trust where it comes from."
            )
