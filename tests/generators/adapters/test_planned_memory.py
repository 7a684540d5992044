"""Memory that a plan of a training states, beside what is counted at a tenth of the tokens and width of a CogVideoX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_cogvideox import HEIGHT, IMAGES, WIDTH, small_cogvideox

from generators.adapters.det import DeT, DreamBooth, InvertedMotion
from generators.adapters.fitted import TrainedMethod
from generators.adapters.motion_tracks import MotionTracks
from generators.adapters.training.plan import plan_training
from generators.adapters.training.settings import Training
from generators.adapters.training.train import train_adapter
from probe.loading.vae_memory import peak_bytes

LOOSE = 1.5

pytestmark = pytest.mark.filterwarnings("ignore")


METHODS: dict[str, Callable[[Training], TrainedMethod]] = {
    "kernel": lambda training: DeT(width=16, training=training),
    "LoRA": lambda training: DreamBooth(rank=8, training=training),
    "embeddings": lambda training: InvertedMotion(training=training),
}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_training_takes_what_its_plan_says(name: str, checkpointing: bool) -> None:
    backbone, clip, text = small_cogvideox()
    training = Training(steps=2, gradient_checkpointing=checkpointing)
    method = METHODS[name](training)
    size = backbone.default_size._replace(height=HEIGHT, width=WIDTH, images=IMAGES)
    plan = plan_training(method, backbone, size)
    start = np.random.default_rng(1).uniform((60, 60), (300, 180), (20, 2))
    tracks = start + np.arange(IMAGES)[:, None, None] * [1.0, 0.5]
    followed = MotionTracks(tracks, np.ones(tracks.shape[:2], bool), "given")
    given: dict[str, Any] = {"tracks": followed, "conditioning": {"prompt_embeds": text}}

    def trained() -> None:
        adapter = method.new_adapter(backbone, size)
        train_adapter(adapter, backbone, clip, method.resolve_training(backbone), **given)

    found = peak_bytes(trained, simulate_fused=False)
    planned = plan.adapter + (plan.checkpointed if checkpointing else plan.activations)
    assert planned / LOOSE <= found <= planned
    assert plan.memory == planned + plan.weights
