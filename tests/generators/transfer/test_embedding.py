"""Motion embeddings: made, saved, loaded, injected without optimising, and rejected where they do not belong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guided import backbone_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES
from transfers import reference_of, transfer_of

import generators.transfer.optimised
from generators.sampling.sample import sample
from generators.transfer.ditflow import DiTFlow
from generators.transfer.embedding import InjectMotion, MotionEmbedding
from generators.transfer.embedding_files import load_embedding, save_embedding
from probe.attention.positions import AddedPositions, RotaryPositions
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from store.clips.digest import digest_of_clip
from store.errors import (
    CorruptRecordingError,
    FormatVersionError,
    InvalidInputError,
    OutputExistsError,
    RecordingError,
)

METHOD = DiTFlow(optimise="positions", layers=(1,), learning_rate=(0.05, 0.02), iterations=2, fraction=0.6)


def small(steps: int = 3, name: str = "mini") -> MotionEmbedding:
    table = torch.randn(3, 6, 8, 32, generator=torch.Generator().manual_seed(0))
    return MotionEmbedding(name, Size(24, 32, 3), steps, {0: AddedPositions(table)})


@pytest.mark.parametrize("name", ["mini", "mini-rope", "hunyuan"])
def test_injected_for_the_same_prompt_it_is_the_optimised_run_to_the_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, backbone = FAMILIES[name], backbone_of(name)
    transfer = transfer_of(name, METHOD, steps=3)
    found = transfer.run()
    assert found.embedding is not None
    loaded = load_embedding(save_embedding(found.embedding, tmp_path / "new" / "motion.safetensors"))
    alone = transfer.optimise()

    def optimised(*args: Any, **options: Any) -> None:
        raise AssertionError("something was optimised")

    monkeypatch.setattr(generators.transfer.optimised, "minimise", optimised)
    options = family.options(guided=True, steps=3)
    again = sample(backbone, family.prompt, InjectMotion(loaded), **options)
    plain = sample(backbone, family.prompt, **options)
    assert np.array_equal(again.images, found.clip.images)
    assert not np.array_equal(plain.images, found.clip.images)
    assert list(loaded.positions) == list(alone.positions) == [0, 1]
    for step, positions in found.embedding.positions.items():
        for kind, table in positions.tensors().items():
            assert torch.equal(loaded.positions[step].tensors()[kind], table)
            assert torch.equal(alone.positions[step].tensors()[kind], table)


def test_an_embedding_moves_another_prompt() -> None:
    family, backbone = FAMILIES["mini-rope"], backbone_of("mini-rope")
    embedding, options = transfer_of("mini-rope", METHOD, steps=3).optimise(), family.options(steps=3)
    prompt = "a green ring moves up over white dots"
    moved = sample(backbone, prompt, InjectMotion(embedding), **options)
    assert not np.array_equal(moved.images, backbone.generate(prompt, **options).images)


def test_optimising_alone_runs_the_optimised_steps_and_no_more() -> None:
    done: list[tuple[int, int]] = []
    embedding = transfer_of("mini", METHOD, steps=5).optimise(on_step=lambda *count: done.append(count))
    assert list(embedding.positions) == [0, 1, 2]
    assert done == [(1, 5), (2, 5), (3, 5)]


def test_the_file_says_where_it_came_from(tmp_path: Path) -> None:
    backbone = backbone_of("mini-rope")
    embedding = transfer_of("mini-rope", METHOD, steps=3).optimise()
    path = save_embedding(embedding, tmp_path / "motion.safetensors")
    assert sorted(load_file(path)) == [
        f"step.{step}.{kind}" for step in (0, 1) for kind in ("key_cos", "key_sin", "query_cos", "query_sin")
    ]
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["ditprobe_motion_embedding"])
    details = header["details"]
    assert {name: header[name] for name in ("version", "backbone", "size", "steps")} == {
        "version": 1,
        "backbone": "CogVideoXPipeline",
        "size": [24, 32, 3],
        "steps": 3,
    }
    assert details["method"] == {
        "name": "DiTFlow",
        "optimise": "positions",
        "layers": [1],
        "fraction": 0.6,
        "iterations": 2,
        "learning_rate": [0.05, 0.02],
        "inject": False,
        "preset": "exact",
        "static": False,
        "temperature": 2.0,
    }
    assert (details["layers"], details["learning_rates"]) == ([1], [0.05, 0.02])
    assert details["timesteps"] == list(backbone.timesteps(3)[:2])
    assert details["prompt"] == FAMILIES["mini-rope"].prompt
    assert details["reference"] == digest_of_clip(reference_of(FAMILIES["mini-rope"]))
    assert (details["seed"], details["config_hash"]) == (5, backbone.config_hash)
    assert "torch" in details["versions"]
    assert repr(load_embedding(path)) == (
        "MotionEmbedding('CogVideoXPipeline', 24 x 32 px and 3 images, 2 of 3 steps: RotaryPositions(query_cos, "
        "query_sin, key_cos, key_sin: 3 x 6 x 8 x 16))"
    )


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("embedding", "made", "run"),
    [
        (small(name="other"), "other at 24 x 32 px and 3 images in 3 steps", {}),
        (small(steps=50, name="CogVideoXPipeline"), "CogVideoXPipeline at 24 x 32 px and 3 images in 50 steps", {}),
        (small(name="CogVideoXPipeline"), "CogVideoXPipeline at 24 x 32 px and 3 images in 3 steps", {"height": 32}),
        (small(name="CogVideoXPipeline"), "CogVideoXPipeline at 24 x 32 px and 3 images in 3 steps", {"images": 4}),
    ],
)
def test_another_backbone_size_or_number_of_steps_is_refused(
    embedding: MotionEmbedding, made: str, run: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(Backbone, "call_pipeline", ran)
    options = {**FAMILIES["mini"].options(steps=3), **run}
    with pytest.raises(InvalidInputError) as caught:
        sample(backbone_of("mini"), FAMILIES["mini"].prompt, InjectMotion(embedding), **options)
    size = f"{options['height']} x 32 px and {options['images']} images"
    assert str(caught.value) == (
        f"this motion embedding was made for {made}; the run is of CogVideoXPipeline at {size} in 3 steps. Generate "
        "as it was made, or optimise another."
    )


def test_tables_of_another_kind_are_refused() -> None:
    table = torch.zeros(3, 6, 8, 16)
    positions = {0: RotaryPositions(table, table, table, table)}
    embedding = MotionEmbedding("CogVideoXPipeline", Size(24, 32, 3), 3, positions)
    with pytest.raises(InvalidInputError, match=r"CogVideoXPipeline takes AddedPositions\(table: 3 x 6 x 8 x 32\)"):
        sample(backbone_of("mini"), FAMILIES["mini"].prompt, InjectMotion(embedding), **FAMILIES["mini"].options())


def test_methods_without_positions_have_no_embedding() -> None:
    with pytest.raises(InvalidInputError) as caught:
        transfer_of("mini", DiTFlow(layers=(1,))).optimise()
    assert str(caught.value).endswith("optimises no positions. Choose DiTFlow(optimise='positions').")


def test_files_are_refused_in_full_sentences(tmp_path: Path) -> None:
    path = tmp_path / "motion.safetensors"
    save_embedding(small(), path)
    with pytest.raises(OutputExistsError) as caught:
        save_embedding(small(), path)
    assert str(caught.value) == (
        f"{path} exists already. Choose another path for the motion embedding, or pass overwrite=True to replace it."
    )
    save_embedding(small(steps=7), path, overwrite=True)
    assert load_embedding(path).steps == 7
    with pytest.raises(RecordingError, match=r"it is a folder\. Name a file, for example"):
        load_embedding(tmp_path)
    later = json.dumps({"version": 2})
    save_file(load_file(path), tmp_path / "later.safetensors", {"ditprobe_motion_embedding": later})
    with pytest.raises(FormatVersionError) as new:
        load_embedding(tmp_path / "later.safetensors")
    assert str(new.value) == (
        f"{tmp_path / 'later.safetensors'} is of version 2 of motion embeddings; this ditprobe reads up to 1. Upgrade "
        "it."
    )


@pytest.mark.parametrize("damage", ["no header", "truncated", "text", "other tables"])
def test_what_is_no_embedding_is_refused(tmp_path: Path, damage: str) -> None:
    path = save_embedding(small(), tmp_path / "motion.safetensors")
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    if damage == "no header":
        save_file(load_file(path), path)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "text":
        path.write_text("a red disc")
    else:
        save_file({"step.0.tables": torch.zeros(3)}, path, header)
    with pytest.raises(CorruptRecordingError) as caught:
        load_embedding(path)
    assert str(caught.value).startswith(f"{path} holds no motion embedding, or it is damaged: ")
    assert str(caught.value).endswith(". Make one with `ditprobe transfer --save-embedding`.")
