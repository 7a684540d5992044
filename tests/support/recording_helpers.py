"""Shared by the tests of reader."""

from types import SimpleNamespace

import numpy as np
import pytest

from store import Provenance, RecordingWriter, Selection, TokenLayout, open_recording

LAYOUT = TokenLayout(3, 5, 7, 80, 84, 9)


TEXT_LAYOUT = TokenLayout(3, 5, 7, 80, 84, 9, text_tokens=6)


PROVENANCE = Provenance(model="tiny", revision="abc", prompt="a red ball", seed=3, extra={"mood": "good"})


SELECTION = Selection([2, -1], [1, 3, 4], ("cond", "uncond"))


def tiny(layers=6):
    made = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=2, channels=4) for i in range(layers)]
    return SimpleNamespace(name="tiny", layers=made)


def plan_for(selection=SELECTION, layout=LAYOUT, **options):
    return selection.plan(tiny(), layout, 10, **options)


def tensors(plan, step, layer, branch="cond"):
    """One record's arrays, different for every record."""
    rng = np.random.default_rng([step, layer, branch == "cond"])
    return {array.name: rng.normal(size=array.record_shape).astype(np.float16) for array in plan.arrays}


def record_all(path, plan, **options):
    with RecordingWriter(path, plan, provenance=PROVENANCE, **options) as writer:
        for step in plan.steps:
            for layer in plan.layers:
                for branch in plan.branches:
                    given = tensors(plan, step, layer, branch)
                    writer.write(step=step, layer=layer, branch=branch, timestep=100.0 + step, **given)
    return open_recording(path)


@pytest.fixture
def recorded(tmp_path):
    return record_all(tmp_path / "run.zarr", plan_for())


def shard(recording, name="query", position=(0, 0, 0)):
    from pathlib import Path

    return Path(recording.path) / name / ".".join(["c", *map(str, position), "0", "0", "0", "0", "0"])
