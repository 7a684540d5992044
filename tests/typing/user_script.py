"""A user's script: checked with ``mypy --strict``, never run."""

from __future__ import annotations

from typing import assert_type

import numpy as np

import ditprobe as dp
from analyses import match_points, sweep
from generators import Strategy, TransferMethod
from probe import Backbone
from store import Clip

clip = dp.make_scene(0)
assert_type(clip, dp.Clip)
assert_type(clip, Clip)

backbone = dp.load_backbone("mini")
assert_type(backbone, Backbone)

part = dp.Selection(layers=(2, 3), steps=(4,))
print(dp.plan_recording(backbone, clip, part).plan)

accuracy = sweep(backbone, [clip], part)
chosen = dp.select_layers(accuracy)
assert_type(chosen, dp.LayerSelection)
dp.save_selection(chosen, "selection.json")

tracks = dp.track_points(clip.images, np.array([[0.0, 12.0, 20.0]]), backbone, layer=chosen)
assert_type(tracks, dp.PointTracks)
dp.save_tracks(tracks, "tracks.npz")

strategies: list[Strategy] = [dp.CrossAttentionGuidance()]
methods: list[TransferMethod] = [dp.DiTFlow(), dp.SMM(), dp.PlainBackbone()]
for method in methods:
    result = dp.transfer_motion(backbone, clip, "a red disc moves right", method=method, seed=0)
    assert_type(result, dp.Clip)
    dp.write_clip("result.mp4", result)
print(strategies, match_points)
