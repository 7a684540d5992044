"""The public surface: every name, argument and verb that was promised is there."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import typer

import ditprobe as dp
from ditprobe.cli.app import app

CONTRACT = {
    "TokenLayout": "frames height width pixel_height pixel_width images text_tokens spans",
    "Clip": "images fps tracks visibility masks prompt",
    "read_clip": "path",
    "write_clip": "path clip",
    "make_scene": "seed images height width",
    "read_difftrack": "folder",
    "read_tapvid": "",
    "read_mtbench": "folder",
    "Selection": "steps layers branches heads frames",
    "RecordingWriter": "path plan",
    "open_recording": "path",
    "load_backbone": "name_or_path_or_pipeline device dtype",
    "Probe": "backbone selection sinks",
    "Capture": "step timestep layer layer_name branch sample query key text_query text_key features scale layout",
    "record": "backbone source selection path noise seed steps window guidance_scale negative_prompt",
    "match_points": "query key points layout preset refine window",
    "match_features": "features points layout preset",
    "to_images": "tracks layout images preset",
    "matching_accuracy": "predicted tracks visibility threshold",
    "affinity": "query key points visibility layout text_key preset",
    "Affinity": "confidence attention_score",
    "classify_heads": "query key layout preset",
    "harmonic_mean": "accuracy confidence attention_score",
    "select_layers": "sweep count by",
    "LayerSelection": "layers",
    "sweep": "backbone clips_or_prompts selection noise seed steps threshold_cells",
    "sweep_recording": "recordings",
    "track_points": "images queries backbone layer step",
    "PointTracks": "tracks visibility confidence",
    "tapvid_metrics": "queries tracks visibility predicted predicted_visibility mode",
    "motion_fidelity": "a b preset tolerance",
    "hybrid_motion_fidelity": "a b size alpha preset",
    "edit_fidelity": "",
    "temporal_consistency": "",
    "attention_motion_flow": "query key layout temperature hard",
    "transfer_motion": "backbone reference prompt method seed steps",
    "CrossAttentionGuidance": "layers scale",
    "DiTFlow": "",
    "SMM": "",
    "MOFT": "",
    "MotionClone": "",
}
MEMBERS = {
    "TokenLayout": "cell_size to_cells to_pixels images_of frame_of",
    "Selection": "plan",
    "Recording": "dataset read",
    "Backbone": "layout generate encode decode",
    "PointTracks": "to_dataset",
}
VERBS = ("explore", "record", "sweep", "select", "track", "amf", "guide", "transfer", "report", "info")


@pytest.mark.parametrize("name", CONTRACT)
def test_what_was_promised_is_there_with_its_arguments(name: str) -> None:
    assert name in dp.__all__
    assert set(CONTRACT[name].split()) <= set(inspect.signature(getattr(dp, name)).parameters)


@pytest.mark.parametrize("name", MEMBERS)
def test_members_are_there(name: str) -> None:
    kind: Any = getattr(dp, name)
    assert [member for member in MEMBERS[name].split() if not hasattr(kind, member)] == []


def test_verbs_are_there() -> None:
    assert set(VERBS) <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
