"""A trained adapter on disk: a safetensors file, with what it was made for and how in its header."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from generators.adapters.adapter import MotionAdapter, check_origin
from generators.adapters.arms import LocalAttention, SpaceTimeKernel, TokenMLP
from generators.adapters.decoupled.lora import DecoupledLoRA
from generators.adapters.lora import LoRA
from generators.adapters.motion_inversion import MotionInversion
from generators.adapters.temporal_kernel import TemporalKernel
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from store.arguments import checked
from store.files.tensors import TensorFile

_FILE = TensorFile(
    "motion adapter",
    "motion.safetensors",
    remedy="Make one with `ditprobe adapt`.",
    key="ditprobe_motion_adapter",
    version=1,
    entry="parameter",
)
_ORIGIN = ("name", "transformer", "family", "layers", "heads", "channels")
KINDS: dict[str, type[MotionAdapter]] = {
    kind.kind: kind
    for kind in (TemporalKernel, LoRA, DecoupledLoRA, MotionInversion, SpaceTimeKernel, LocalAttention, TokenMLP)
}


@checked
def save_adapter(adapter: MotionAdapter, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write an adapter atomically.

    Parameters
    ----------
    adapter : MotionAdapter
    path : path ending in .safetensors
        Tensors are named ``denoisers.<transformer>.<layer>.<parameter>``. The header has the kind, the backbone with
        its configuration hash, layers, settings and details (the digest of the reference among them), and a digest of
        them and of the tensors, which :func:`load_adapter` checks.
    overwrite : replace a file that is there

    Returns
    -------
    Path of the file.

    Raises
    ------
    InvalidInputError, OutputExistsError, RecordingError
        As :func:`check_adapter_path`; RecordingError too when the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> from probe import load_backbone
    >>> backbone = load_backbone("mini")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_adapter(TemporalKernel(backbone, width=4, layers=[0]), f"{folder}/left.safetensors")
    ...     load_adapter(path, backbone).layers
    (0,)
    """
    arrays = {name: value.detach().cpu().float().contiguous().numpy() for name, value in adapter.state_dict().items()}
    header = {
        "kind": adapter.kind,
        "origin": adapter.origin,
        "layers": list(adapter.layers),
        "size": None if adapter.size is None else list(adapter.size),
        "settings": adapter.settings,
        "details": adapter.details,
    }
    return _FILE.save(header, arrays, path, overwrite=overwrite)


@checked
def load_adapter(path: str | os.PathLike[str], backbone: Backbone) -> MotionAdapter:
    """An adapter that :func:`save_adapter` wrote, on the device of a backbone.

    Parameters
    ----------
    path
    backbone : Backbone
        The one that it was trained on, or another of the same configuration.

    Raises
    ------
    RecordingError
        When nothing is at that path.
    CorruptRecordingError
        When it is not an adapter, or damaged.
    FormatVersionError
        When a later version of ditprobe wrote it.
    InvalidInputError
        For another backbone: the message says what differs.

    Examples
    --------
    >>> from probe import load_backbone
    >>> load_adapter("nowhere.safetensors", load_backbone("mini"))
    Traceback (most recent call last):
    ...
    store.errors.RecordingError: nowhere.safetensors holds no motion adapter: it does not exist.
    """
    path = Path(path)
    with _FILE.reading(path):
        header, arrays = _FILE.load(path)
        kind = KINDS[header["kind"]]
        origin = {name: header["origin"][name] for name in _ORIGIN}
    check_origin(kind.kind, origin, backbone)
    with _FILE.reading(path):
        of_size: dict[str, Any] = {"size": Size(*header["size"])} if kind.of_size else {}
        adapter = kind(backbone, layers=header["layers"], **of_size, **header["settings"])
        adapter.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    adapter.details = header["details"]
    adapter.requires_grad_(False)
    return adapter


@checked
def read_adapter_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Kind, origin, layers, size, settings and details of an adapter's file, without its tensors.

    Raises
    ------
    As :func:`load_adapter`.
    """
    path = Path(path)
    with _FILE.reading(path):
        return _FILE.load_header(path)


def check_adapter_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise if no adapter can be written to a path, before the work that would be lost.

    Raises
    ------
    InvalidInputError
        For another suffix.
    OutputExistsError
        When something is there and ``overwrite`` is False.
    RecordingError
        When the operating system does not allow it.

    Examples
    --------
    >>> check_adapter_path("left.pt")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: left.pt cannot hold the motion adapter: its suffix must be .safetensors. Name it left.safetensors.
    """  # noqa: E501
    _FILE.check(path, overwrite=overwrite)
