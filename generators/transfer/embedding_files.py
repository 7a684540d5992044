"""Motion embeddings on disk: safetensors files whose header records how they were made."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generators.transfer.embedding import MotionEmbedding
from probe.attention.positions import AddedPositions, Positions, RotaryPositions
from probe.backbones.geometry import Size
from store.arguments import checked
from store.files.tensors import TensorFile

_FILE = TensorFile(
    "motion embedding",
    "motion.safetensors",
    remedy="Make one with `ditprobe transfer --save-embedding`.",
    key="ditprobe_motion_embedding",
    version=1,
    entry="table",
)
_KINDS = {tuple(sorted(f.name for f in dataclasses.fields(kind))): kind for kind in (AddedPositions, RotaryPositions)}


@checked
def save_embedding(embedding: MotionEmbedding, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a motion embedding to a file, atomically.

    Parameters
    ----------
    embedding : MotionEmbedding
    path : path ending in .safetensors
        Tensors are named ``step.<step>.<table>``, (frame, y, x, channel) float32. The header has a digest of the
        tensors and of itself, which :func:`load_embedding` checks.
    overwrite : replace a file that is there

    Returns
    -------
    Path of the file.

    Raises
    ------
    InvalidInputError, OutputExistsError, RecordingError
        As :func:`check_embedding_path`.

    Examples
    --------
    >>> import tempfile, torch
    >>> embedding = MotionEmbedding("mini", Size(40, 40, 6), 50, {0: AddedPositions(torch.zeros(6, 10, 10, 128))})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_embedding(save_embedding(embedding, f"{folder}/left.safetensors"))
    MotionEmbedding('mini', 40 x 40 px and 6 images, 1 of 50 steps: AddedPositions(table: 6 x 10 x 10 x 128))
    """
    arrays = {
        f"step.{step}.{name}": table.detach().cpu().float().contiguous().numpy()
        for step, positions in embedding.positions.items()
        for name, table in positions.tensors().items()
    }
    header = {name: getattr(embedding, name) for name in ("backbone", "size", "steps", "details")}
    return _FILE.save(header, arrays, path, overwrite=overwrite)


@checked
def load_embedding(path: str | os.PathLike[str]) -> MotionEmbedding:
    """Read a motion embedding written by :func:`save_embedding`.

    Raises
    ------
    RecordingError
        When there is nothing at that path.
    CorruptRecordingError
        When it is not a motion embedding, or damaged.
    FormatVersionError
        When a later version of ditprobe wrote it.

    Examples
    --------
    >>> load_embedding("nowhere.safetensors")
    Traceback (most recent call last):
    ...
    store.errors.RecordingError: nowhere.safetensors holds no motion embedding: it does not exist.
    """
    path = Path(path)
    with _FILE.reading(path):
        header, arrays = _FILE.load(path)
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        return MotionEmbedding(
            header["backbone"], Size(*header["size"]), header["steps"], _positions(tensors), header["details"]
        )


def check_embedding_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Validate a path for a motion embedding, before any work that would be lost.

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
    >>> check_embedding_path("left.pt")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: left.pt cannot hold the motion embedding: its suffix must be .safetensors. Name it left.safetensors.
    """  # noqa: E501
    _FILE.check(path, overwrite=overwrite)


def _positions(tensors: Mapping[str, Tensor]) -> dict[int, Positions]:
    steps: dict[int, dict[str, Tensor]] = {}
    for name, table in tensors.items():
        _, step, kind = name.split(".")
        steps.setdefault(int(step), {})[kind] = table
    return {step: _of_tables(steps[step]) for step in sorted(steps)}


def _of_tables(tables: Mapping[str, Any]) -> Positions:
    positions: Positions = _KINDS[tuple(sorted(tables))](**tables)
    return positions
