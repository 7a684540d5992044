"""A small recording with text, its clip with true tracks, and an explorer of it: no model is run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ditprobe.explorer.controller import Explorer
from ditprobe.explorer.opened import OpenedRecording
from store import Clip, Provenance, Recording, RecordingWriter, Selection, TokenLayout, open_recording

LAYOUT = TokenLayout(4, 5, 7, 40, 56, 13, text_tokens=6)
WORDS = ["a", "red", "disc", "moves", "<pad>", "<pad>"]
STEPS, LAYERS, HEADS, CHANNELS = (3, 9), (1, 2, 4), 3, 8


def write_recording(
    path: Path, *, seed: int = 0, layout: TokenLayout = LAYOUT, values: bool = False, done: int = 12
) -> Path:
    """Two steps, three layers and both branches; sharp enough that matches are far apart.

    Fewer records than all twelve leave it unfinished.
    """
    made = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=HEADS, channels=CHANNELS) for i in range(6)]
    selection = Selection(STEPS, LAYERS, ("cond", "uncond"))
    plan = selection.plan(SimpleNamespace(name="tiny", layers=made), layout, 10, values=values)
    given = Provenance(model="tiny", prompt="a red disc moves", seed=seed, extra={"text_tokens": {"cond": WORDS}})
    rng = np.random.default_rng(seed)
    places = [(step, layer, branch) for step in plan.steps for layer in plan.layers for branch in plan.branches]
    with RecordingWriter(path, plan, provenance=given, sync=False) as writer:
        for step, layer, branch in places[:done]:
            arrays = {
                array.name: 1.5 * rng.standard_normal(array.record_shape).astype(np.float16) for array in plan.arrays
            }
            writer.write(step=step, layer=layer, branch=branch, timestep=900.0 - step, **arrays)
    return path


def moving_clip(layout: TokenLayout = LAYOUT) -> Clip:
    """A texture that moves to the right by a pixel an image, with the tracks of two of its points."""
    images, height, width = layout.images, layout.pixel_height, layout.pixel_width
    texture = np.random.default_rng(5).integers(0, 255, (height, width, 3), dtype=np.uint8)
    moved = np.stack([np.roll(texture, image, axis=1) for image in range(images)])
    tracks = np.array([[4.0, 12.0], [20.0, 28.0]]) + np.arange(images)[:, None, None] * [1.0, 0.0]
    return Clip(moved, 8, tracks, prompt="a red disc moves")


def explorer_of(*recordings: Path | Recording, clip: bool = True) -> Explorer:
    """An explorer of recordings, each with the moving clip."""
    found = [each if isinstance(each, Recording) else open_recording(each) for each in recordings]
    return Explorer([OpenedRecording(each, moving_clip(each.layout) if clip else None) for each in found])
