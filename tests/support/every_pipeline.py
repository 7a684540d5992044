"""Every tiny pipeline of the families' own tests, with the paths that a family cannot take and what the error says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from contract import FamilyContract
from tiny_families import Family

import ditprobe as dp
from probe.families.matrix import replaces_positions

FOLDER = Path(__file__).parents[1] / "probe" / "families"
CONDITIONING: dict[str, dict[str, Any]] = {
    # the pipelines' own rescaling of the guided prediction is refused together with what changes that prediction
    name: {"guidance_rescale": 0.0, "audio_guidance_rescale": 0.0}
    for name in ("TestLTX2", "TestLTX2ImageToVideo")
}
"""What the paths need besides the text."""

_TEXT = ("points to text", "cells to text", "text to cells")
_POSITIONS = ("DiTFlow, positions", "SMM, positions", "motion embedding")
_TRACKED = ("track", "track, cell by cell", "track, closer", "sweep, closer")
_EDITED = ("DiTFlow with injection", "injection", "MTBench", "CAG", "CAG, guided", "CAG, renormalised")
_LATENTS = ("DiTFlow", "DiTFlow with injection", "SMM", "MOFT", "MotionClone", "DMT", "transfer, checkpointing")
_CHECKPOINTED = ("transfer, checkpointing", "DeT, checkpointing")
_PROJECTED = ("DreamBooth", "motion inversion", "Follow-Your-Motion", "Follow-Your-Motion, 2 of 3 frames")
_ADAPTED = (
    "DeT", "DeT, checkpointing", "DeT, bf16", "DreamBooth", "motion inversion", "Follow-Your-Motion",
    "Follow-Your-Motion, 2 of 3 frames", "adapter of a file, with CAG", "training resumed", "SpaceTimeKernel, trained",
    "LocalAttention, trained", "TokenMLP, trained",
)  # fmt: skip
_SPLIT = "Follow-Your-Motion, 2 of 3 frames"


def cases() -> dict[str, type[FamilyContract]]:
    """The contracts of all families by name: each makes a tiny pipeline and says what its call takes."""
    found = {}
    for path in sorted(FOLDER.rglob("test_*.py")):
        module = import_module(".".join(("tests", *path.relative_to(FOLDER.parents[1]).with_suffix("").parts)))
        found |= {
            name: kind
            for name, kind in vars(module).items()
            if inspect.isclass(kind) and issubclass(kind, FamilyContract) and name.startswith("Test")
            if kind.__module__ == module.__name__
        }
    return found


def family_of_case(name: str) -> Family:
    """The pipeline of a contract with the arguments of its calls."""
    kind = cases()[name]
    conditioning = kind.conditioning() | CONDITIONING.get(name, {})
    return Family(kind.make_pipeline, conditioning, kind.channels, kind.guided, kind.unguided, kind.size)


def reason_of(name: str, backbone: dp.Backbone, path: str) -> str | None:
    """What the error says where a pipeline cannot take a path, None where it can."""
    return next((reason for paths, reason in _refused(name, backbone) if path in paths), None)


def _refused(name: str, backbone: dp.Backbone) -> Iterator[tuple[tuple[str, ...], str]]:
    family = type(backbone)
    if backbone.text_position is None:
        yield _TEXT, "text is attended to separately"
    if family.factorised:
        yield _EDITED, "edits of the attention need a self-attention over all video tokens"
        yield _ADAPTED, "adapters need a self-attention over all video tokens"
    if not replaces_positions(family):
        yield _POSITIONS, "positions cannot be replaced|cannot be replaced"
    if backbone.nearest_images(1) != 1:
        yield _TRACKED, "an image alone cannot be encoded"
    if name in _OWN:
        yield from _OWN[name]


_OWN: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {}
"""What depends on a pipeline, or on its random weights."""
