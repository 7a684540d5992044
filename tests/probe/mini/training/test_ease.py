"""Options of what a training step sees: easy scenes first, prompts that leave everything open, single images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from probe.mini import MiniConfig
from probe.mini.training.objective import Scenes
from probe.mini.training.schedule import TrainConfig
from store import make_scene
from store.scenes.prompt import parse_prompt
from store.scenes.scene import FIRST_TRAINING_SEED

SMALL = MiniConfig(images=3, height=16, width=24, layers=1, heads=2, channels=16)


def test_a_share_of_the_prompts_leaves_everything_open() -> None:
    config = TrainConfig(steps=40, batch=10, prompt_dropout=0.0, all_open=0.2)
    tiny = dataclasses.replace(SMALL, images=1, height=4, width=4)
    found = [parse_prompt(prompt).left_open for step in range(40) for prompt in Scenes(tiny, config)[step][1]]
    assert np.mean([{"motion", "shape", "pattern"} <= {*left} for left in found]) == pytest.approx(0.2, abs=0.07)
    assert all(not left or len(left) >= 3 for left in found)


def test_scenes_begin_single_and_alike_and_end_as_they_are() -> None:
    config = TrainConfig(steps=8, batch=6, small=0.0, medium=0.0, wide=0.0, prompt_dropout=0.0, ease_in=4)
    eased, usual = Scenes(SMALL, config), Scenes(SMALL, dataclasses.replace(config, ease_in=0))
    alike = Scenes(SMALL, dataclasses.replace(config, centred=2))
    first = [parse_prompt(prompt) for prompt in eased[0][1]]
    assert all(len(words.objects) == 1 and words.objects[0].texture is None for words in first)
    assert any(len(parse_prompt(prompt).objects) > 1 for prompt in usual[0][1])
    spread = float(np.random.default_rng([config.seed, 3, 4]).uniform(0, 0.75, 6)[0])
    single = make_scene(FIRST_TRAINING_SEED + 6 * 3, 3, 16, 24, single=True, spread=spread).images
    assert np.array_equal(eased[3][0][0], single)
    seed = FIRST_TRAINING_SEED + 6
    assert np.array_equal(alike[1][0][0], make_scene(seed, 3, 16, 24, single=True, spread=0.0).images)
    for step in (4, 7):
        assert torch.equal(eased[step][0], usual[step][0])
        assert eased[step][1] == usual[step][1]


def test_a_share_of_the_scenes_stays_easy() -> None:
    config = TrainConfig(steps=40, batch=10, prompt_dropout=0.0, easy=0.5)
    tiny = dataclasses.replace(SMALL, images=1, height=4, width=4)
    several = [len(parse_prompt(prompt).objects) > 1 for step in range(40) for prompt in Scenes(tiny, config)[step][1]]
    assert np.mean(several) == pytest.approx(0.25, abs=0.07)  # half of the scenes as they are have several


def test_single_images_have_an_exponent_of_their_own() -> None:
    config = TrainConfig(steps=10, small=0.0, medium=0.0, stills=0.5, exponent=1.5, still_exponent=0.5)
    uniform = torch.tensor([0.0, 0.04, 0.25])
    assert config.timesteps(0, uniform).tolist() == [0, 200, 500]
    assert config.timesteps(9, uniform).tolist() == [0, 7, 125]
