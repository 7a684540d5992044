"""Recordings that keep a model in bfloat16 to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from analyses.layers.sweep import sweep
from analyses.layers.sweep_recording import sweep_recording
from probe import Capture, load_backbone, run_clip
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline
from probe.recording.record import record
from store import Selection, make_scene
from store.errors import InvalidInputError, RecordingError

SELECTION = Selection(steps=[0, -1], layers=[0, 1])


@pytest.fixture(scope="module")
def mini() -> Backbone:
    torch.manual_seed(0)
    return load_backbone(new_pipeline(MiniConfig(layers=2, heads=2, channels=16)), device="cpu", dtype="bfloat16")


def test_what_is_read_is_what_the_model_had_to_the_bit(mini: Backbone, tmp_path: Path) -> None:
    scene = make_scene(2)
    recording = record(
        mini, scene, SELECTION, tmp_path / "run.zarr", steps=3, features=True, values=True, stored_dtype="bfloat16"
    )
    found: list[Capture] = []
    run_clip(mini, scene, SELECTION, found.append, steps=3, features=True)
    assert len(found) == 4
    for capture in found:
        where = {"step": capture.step, "layer": capture.layer}
        query, key = recording.read(**where)
        text_query, text_key = recording.read_text(**where)
        read = {"query": query, "key": key, "text_query": text_query, "text_key": text_key}
        read |= {"features": recording.read_features(**where), "value": recording.read_values(**where)}
        for name, values in read.items():
            expected = getattr(capture, name)
            assert expected.dtype == torch.bfloat16
            assert torch.equal(
                torch.from_numpy(values).to(torch.bfloat16).view(torch.int16), expected.contiguous().view(torch.int16)
            )
    assert recording.inexact_casts == 0
    assert recording.provenance.source_dtype == recording.plan.stored_dtype == "bfloat16"
    with pytest.raises(RecordingError, match="stored_dtype is None, was 'bfloat16'"):
        record(mini, scene, SELECTION, tmp_path / "run.zarr", steps=3, features=True, values=True, resume=True)


def test_a_sweep_of_the_recording_has_the_numbers_of_the_live_one(mini: Backbone, tmp_path: Path) -> None:
    scene = make_scene(3)
    recording = record(mini, scene, SELECTION, tmp_path / "run.zarr", steps=3, noise="forward", stored_dtype="bfloat16")
    live = sweep(mini, {"scene": scene}, SELECTION, noise="forward", steps=3, features=False)
    stored = sweep_recording({"scene": recording}, {"scene": scene})
    assert live["accuracy"].equals(stored["accuracy"])
    assert stored.attrs["from"] == "recordings (bfloat16)"


def test_values_beyond_float16_can_be_kept(mini: Backbone, tmp_path: Path) -> None:
    weight = mini.pipeline.transformer.transformer_blocks[1].attn1.norm_k.weight
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.mul_(2.0**18)
        with pytest.raises(InvalidInputError, match=r"beyond float16 .* record with stored_dtype='bfloat16'"):
            record(mini, make_scene(2), SELECTION, tmp_path / "half.zarr", steps=3)
        recording = record(mini, make_scene(2), SELECTION, tmp_path / "run.zarr", steps=3, stored_dtype="bfloat16")
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert abs(recording.read(step=-1, layer=1)[1]).max() > 65504
