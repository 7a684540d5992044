"""Weights that a training begins with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from probe.mini import MiniConfig, new_pipeline, save_mini
from probe.mini.training.schedule import TrainConfig
from probe.mini.training.state import TrainingState

SMALL = MiniConfig(images=3, height=16, width=24, layers=1, heads=2, channels=16)


def test_rotary_positions_can_begin_with_the_weights_of_added_ones(tmp_path: Path) -> None:
    before = new_pipeline(SMALL)
    save_mini(before, tmp_path)
    state = TrainingState.new(dataclasses.replace(SMALL, rotary=True), TrainConfig(seed=3), torch.device("cpu"))
    state.start_from(str(tmp_path))
    assert state.pipeline.transformer.config.use_rotary_positional_embeddings
    found, expected = (pipeline.transformer.state_dict() for pipeline in (state.pipeline, before))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
