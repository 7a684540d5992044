"""The commands on pipelines of the user's own: saved folders with tokenizer and text encoder, tiny and random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from diffusers import CogVideoXPipeline, WanPipeline
from transformers import T5Config, T5EncoderModel, T5Tokenizer, UMT5Config, UMT5EncoderModel
from typer.testing import CliRunner

from analyses.layers.sweep import sweep
from analyses.layers.sweep_files import load_sweep
from ditprobe.cli.app import app
from ditprobe.report.examples import SweepSettings, make_examples
from probe import load_backbone
from store import Selection, make_scene, open_recording
from store.errors import InvalidInputError

WORDS = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -3.0) for letter in "▁abcdefghijklmnopqrstuvwxyz")]
TEXT: dict[str, Any] = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
SIZE = ("--size", "80x112", "--images", "9", "--steps", "3", "--at", "0,-1")


@pytest.fixture(scope="module", params=["cogvideox", "wan"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "pipeline"
    torch.manual_seed(0)
    tokenizer = T5Tokenizer(vocab=WORDS, extra_ids=0)
    if request.param == "cogvideox":
        parts = tiny.cogvideox().components
        pipeline = CogVideoXPipeline(
            **{**parts, "tokenizer": tokenizer, "text_encoder": T5EncoderModel(T5Config(**TEXT))}
        )
    else:
        parts = {name: part for name, part in tiny.wan().components.items() if part is not None}
        encoder = UMT5EncoderModel(UMT5Config(**TEXT))
        pipeline = WanPipeline(**{**parts, "tokenizer": tokenizer, "text_encoder": encoder})
    pipeline.save_pretrained(path)
    return path


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.output


def test_info_names_the_layers_of_a_folder(folder: Path) -> None:
    assert ".attn1" in run("info", folder)


def test_a_folder_is_swept_and_reported(folder: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "sweep.nc", tmp_path / "sweep.html"
    run("sweep", "-b", folder, "--scenes", "0:2", *SIZE, "--out", out, "--report", page)
    found = load_sweep(out)
    assert np.isfinite(found["accuracy"]).all()
    assert found.sizes["clip"] == 2
    joint = "cogvideox" in str(folder)
    assert np.isfinite(found["confidence"].sel(target="text")).all() == joint
    assert page.stat().st_size > 1_000_000


def test_a_prompt_is_recorded_while_a_folder_samples(folder: Path, tmp_path: Path) -> None:
    run("record", "-b", folder, "--prompt", "a red disc", "--layers", 1, *SIZE, "--out", tmp_path / "run.zarr")
    recording = open_recording(tmp_path / "run.zarr")
    query, _ = recording.read(step=-1, layer=1)
    assert query.shape[1:4] == (3, 5, 7)
    assert recording.provenance.model == str(folder)


def test_a_pipeline_without_text_encoder_is_swept_with_embeddings(tmp_path: Path) -> None:
    path = tmp_path / "sweep.nc"
    backbone = load_backbone(tiny.cogvideox())
    negative = {"negative_prompt_embeds": tiny.embeds(tiny.TEXT, 32, 3)}
    first, second = ({"prompt_embeds": tiny.embeds(tiny.TEXT, 32, seed), **negative} for seed in (1, 2))
    scene = make_scene(0, 9, 80, 112, cell=16)
    common: dict[str, Any] = {"steps": 3, "size": (80, 112), "images": 9}
    where = Selection(steps=[-1], layers=[0, 2])
    with pytest.raises(InvalidInputError, match="has no text encoder"):
        sweep(backbone, scene, where, **common)
    sources = {"scene": scene, "made": "a red disc"}
    found = sweep(backbone, sources, where, conditioning=first, save=path, **common)
    assert np.isfinite(found["accuracy"].sel(clip="scene")).all()
    assert np.isfinite(found["confidence"]).all()
    assert {name: len(text) for name, text in found.attrs["conditioning"].items()} == dict.fromkeys(first, 8)
    other = sweep(backbone, sources, where, conditioning=second, **common)
    assert (other["confidence"] != found["confidence"]).any(["step", "layer", "target"]).all()
    with pytest.raises(InvalidInputError, match="holds a sweep with other settings: conditioning was "):
        sweep(backbone, sources, where, conditioning=second, save=path, resume=True, **common)
    sweep(backbone, sources, where, conditioning=first, save=path, resume=True, **common)

    settings = SweepSettings.of_sweep(load_sweep(path).attrs, conditioning=first)
    assert len(make_examples(backbone, sources, layer=2, step=-1, settings=settings)) == 2
    for given, what in ((None, "negative_prompt_embeds, prompt_embeds were"), (second, "prompt_embeds was")):
        with pytest.raises(InvalidInputError) as error:
            SweepSettings.of_sweep(load_sweep(path).attrs, conditioning=given)
        assert str(error.value) == (
            f"{what} not given as for the sweep. Make the examples in Python with the sweep's own "
            "conditioning, or leave them out."
        )
