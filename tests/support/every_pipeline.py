"""Every tiny pipeline of the families' own tests, with the paths that a family cannot take and what the error says."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from contract import FamilyContract
from device_generators import encodes_images
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
_ADAPTED = (
    "DeT", "DeT, checkpointing", "DeT, bf16", "DreamBooth", "motion inversion", "Follow-Your-Motion",
    "Follow-Your-Motion, 2 of 3 frames", "adapter of a file, with CAG", "training resumed", "SpaceTimeKernel, trained",
    "LocalAttention, trained", "TokenMLP, trained",
)  # fmt: skip
_SPLIT = ("Follow-Your-Motion, 2 of 3 frames",)
_ALONE = ("Follow-Your-Motion", *_SPLIT)
_GROUPS = ("groups of heads",)


@cache
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


def _refused(name: str, backbone: dp.Backbone) -> Iterator[tuple[Collection[str], str]]:
    family, size = type(backbone), cases()[name].size
    yield from _OWN.get(name, ())  # before what holds of its kind
    if backbone.text_position is None:
        yield _TEXT, "text is attended to separately"
    if family.factorised:
        yield _EDITED, "edits of the attention need a self-attention over all video tokens"
        yield _ADAPTED, "adapters need a self-attention over all video tokens"
    if not replaces_positions(family):
        yield _POSITIONS, "cannot be replaced"
    if not encodes_images(backbone, (size["height"], size["width"])):
        yield _TRACKED, "an image alone cannot be encoded"


_OWN: dict[str, tuple[tuple[Collection[str], str], ...]] = {
    "TestCogVideoX": ((_SPLIT, "does not take a clip of 2 latent frames"),),
    "TestAdditivePositions": ((_SPLIT, "does not take a clip of 2 latent frames"),),
    "TestConsisID": ((_SPLIT, "does not take a clip of 2 latent frames"),),
    "TestFunControl": ((_SPLIT, "does not take a clip of 2 latent frames"),),
    "TestVideoToVideo": ((_SPLIT, "does not take a clip of 2 latent frames"),),
    "TestLatte": ((_SPLIT, "does not take a clip of 2 latent frames"),),
    "TestCosmos1": ((_GROUPS, "finds no spatial heads"),),
    "TestLTXVideo": ((_SPLIT, "the rates at which positions .* turn are not known"),),
    "TestLTXImageToVideo": ((_SPLIT, "the rates at which positions .* turn are not known"),),
    "TestMochi": ((_SPLIT, "the rates at which positions .* turn are not known"),),
    "TestLTX2": ((_SPLIT, "cannot be replaced"),),
    "TestLTX2ImageToVideo": ((_SPLIT, "cannot be replaced"),),
    "TestWanVACE": ((_SPLIT, "cannot be replaced"), (_GROUPS, "finds no temporal heads")),
    "TestForcing": ((_LATENTS, "latents cannot be edited between the steps"),),
    "TestForcingOfAnImage": (
        (_LATENTS, "latents cannot be edited between the steps"),
        (_ALONE, "makes no clip of 1 image"),
    ),
    "TestAllegro": ((_ALONE, "does not take .* and 1 image"),),
    "TestKandinsky5ImageToVideo": ((_ALONE, "does not take 1 images"),),
    "TestCosmos25FromAClip": ((_ALONE, "not of the size of this forward pass"),),
    "TestStepVideo": (
        (_SPLIT, "does not take a clip of 2 latent frames"),
        (_CHECKPOINTED, "does not support gradient checkpointing"),
        (("DreamBooth", "Follow-Your-Motion"), "has no projections of its own"),
        (("motion inversion",), "changes to_q, but"),
    ),
}
"""What depends on a pipeline, or on its random weights."""
