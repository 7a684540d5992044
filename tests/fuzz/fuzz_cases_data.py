"""Cases of the fuzz: clips, scenes, recordings, models and runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from fuzz_world import (
    CASES,
    FITTED,
    PROMPT,
    RUN,
    SHOWN,
    World,
    dropped,
    listed,
    plain,
    written,
)

import ditprobe as dp
import probe
import store

# store ---------------------------------------------------------------------------------------------------------------

plain(
    "Clip",
    dp.Clip,
    lambda w: {
        "images": w.images,
        "fps": 8.0,
        "tracks": w.tracks,
        "visibility": w.visible,
        "masks": np.zeros((9, 80, 112), bool),
        "prompt": PROMPT,
    },
)
CASES["Clip.window"] = lambda w: (w.tracked.window, {"start": 1, "stop": 4})
CASES["Clip.resized"] = lambda w: (w.tracked.resized, {"height": 40, "width": 56})
plain(
    "TokenLayout",
    dp.TokenLayout,
    lambda w: {
        "frames": 2,
        "height": 5,
        "width": 7,
        "pixel_height": 80,
        "pixel_width": 112,
        "images": 5,
        "text_tokens": 3,
        "spans": [range(1), range(1, 5)],
    },
)
for _name in ("to_cells", "to_pixels"):
    CASES[f"TokenLayout.{_name}"] = lambda w, name=_name: (
        getattr(w.layout, name),
        {("points" if name == "to_cells" else "cells"): w.points, "preset": "exact"},
    )
CASES["TokenLayout.cell_at"] = lambda w: (w.layout.cell_at, {"points": w.points})
CASES["TokenLayout.check_inside"] = lambda w: (w.layout.check_inside, {"points": w.points})
CASES["TokenLayout.frame_of"] = lambda w: (w.layout.frame_of, {"image": 3})
CASES["TokenLayout.images_of"] = lambda w: (w.layout.images_of, {"frame": 1})
plain(
    "Selection",
    dp.Selection,
    lambda w: {"steps": [0, -1], "layers": [0, 1], "branches": ("cond",), "heads": [0], "frames": [0, 2]},
)
CASES["Selection.resolve"] = lambda w: (
    w.selection.resolve,
    {"layer_count": 4, "steps": 9, "head_count": 2, "frame_count": 3},
)
CASES["Selection.plan"] = lambda w: (
    w.selection.plan,
    {"backbone": w.mini, "layout": w.layout, "steps": 9, "limit_bytes": 10**9, "features": True},
)
plain(
    "Plan",
    dp.Plan,
    lambda w: {
        "backbone": "tiny",
        "layout": w.layout,
        "steps": (0,),
        "layers": (1,),
        "branches": ("cond",),
        "heads": (0, 1),
        "frames": (0, 1, 2),
        "layer_names": ("blocks.1.attn1",),
        "run_steps": 3,
        "layer_count": 2,
        "head_count": 2,
        "channels": 4,
        "features": False,
    },
)
plain(
    "PlannedArray",
    lambda **a: store.PlannedArray(**a).nbytes,
    lambda w: {"name": "query", "dims": ("step",), "shape": (3,), "dtype": "float16"},
)
plain(
    "Provenance",
    lambda **a: dp.Provenance(**a).to_dict(),
    lambda w: {
        "model": "mini",
        "revision": "a",
        "config_hash": "b",
        "source": "prompt",
        "prompt": PROMPT,
        "negative_prompt": "",
        "seed": 3,
        "scheduler": "DDIM",
        "guidance_scale": 6.0,
        "noise": "clean",
        "window": 0,
        "softmax_scale": 0.5,
        "source_dtype": "float32",
        "stage": "post_norm_post_rope",
        "extra": {"mood": "good"},
    },
)
plain(
    "RecordingWriter",
    written,
    lambda w: {
        "path": w.new(".zarr"),
        "plan": w.plan,
        "provenance": {"model": "tiny"},
        "policy": "block",
        "queue_records": 4,
        "threads": 2,
        "resume": False,
        "overwrite": False,
        "sync": False,
    },
)
plain(
    "make_scene",
    dp.make_scene,
    lambda w: {
        "seed": 3,
        "images": 3,
        "height": 16,
        "width": 16,
        "prompt": PROMPT,
        "leave_open": ["motion"],
        "path": "straight",
        "cell": 4.0,
        "fps": 8.0,
    },
)
plain("open_recording", dp.open_recording, lambda w: {"path": w.recording.path, "memmap": None, "check": True})
CASES["Recording.read"] = lambda w: (
    w.recording.read,
    {"step": -1, "layer": 0, "branch": "cond", "heads": [0]},
)
plain("read_clip", dp.read_clip, lambda w: {"path": w.files["clip"]})
plain("read_clips", dp.read_clips, lambda w: {"path": w.files["clip"]})
plain("read_tapvid", dp.read_tapvid, lambda w: {"path": w.files["tapvid"], "size": (20, 20)})
plain("iter_tapvid", listed(store.iter_tapvid), lambda w: {"path": w.files["tapvid"], "size": (20, 20)})
for _name in ("read_difftrack", "read_mtbench", "tracks_without_video"):
    plain(_name, getattr(store, _name), lambda w: {"folder": str(w.folder)})
plain(
    "write_clip",
    dp.write_clip,
    lambda w: {"path": w.new(".mp4"), "clip": w.clip, "overwrite": False, "crf": 8},
)
plain(
    "write_video",
    dp.write_video,
    lambda w: {"path": w.new(".mp4"), "images": w.clip.images, "fps": 8.0, "overwrite": False, "crf": 8},
)
plain("write_tapvid", dp.write_tapvid, lambda w: {"path": w.new(".pkl"), "clips": {"a": w.clip}, "overwrite": False})
plain("parse_prompt", dp.parse_prompt, lambda w: {"text": PROMPT})
plain(
    "ScenePrompt",
    lambda **a: str(dp.ScenePrompt(**a)),
    lambda w: {
        "objects": dp.parse_prompt(PROMPT).objects,
        "background_colour": "blue",
        "background_pattern": "stripes",
        "camera": dp.parse_prompt(PROMPT).camera,
    },
)

# probe ---------------------------------------------------------------------------------------------------------------

CASES["Backbone.generate"] = lambda w: (w.mini.generate, {"prompt": PROMPT, **RUN})
CASES["Backbone.decode"] = lambda w: (w.mini.decode, {"latents": torch.zeros(1, 2, 12, 8, 8), "images": 2})
CASES["Backbone.encode"] = lambda w: (w.mini.encode, {"clip": w.clip})
CASES["Backbone.schedule"] = lambda w: (w.mini.schedule, {"steps": 3})
CASES["Backbone.nearest_size"] = lambda w: (w.mini.nearest_size, {"height": 16, "width": 16, "images": 2})
CASES["Backbone.layout"] = lambda w: (w.mini.layout, {"height": 16, "width": 16, "images": 2, "prompt": PROMPT})
plain(
    "Probe",
    lambda **a: dp.Probe(**a).__enter__().__exit__(None, None, None),
    lambda w: {"backbone": w.mini, "selection": w.selection, "sinks": len, "steps": 3, "features": False},
)
plain(
    "AttentionTap",
    lambda **a: probe.AttentionTap(**a).__enter__().__exit__(),
    lambda w: {"modules": {0: w.mini.modules[0][0][1]}, "observe": len, "root": w.mini.pipeline.transformer},
)
plain(
    "ForwardPass",
    probe.ForwardPass,
    lambda w: {
        "backbone": w.mini,
        "prompt": PROMPT,
        "branches": ("cond",),
        **dropped(RUN, "seed", "on_step"),
    },
)
CASES["ForwardPass.predict"] = lambda w: (
    torch.no_grad()(_forward(w).predict),
    {"latents": torch.zeros(1, 2, 12, 8, 8), "step": 0, "branches": ("cond",), "capture": True},
)
plain(
    "run_states",
    listed(probe.run_states),
    lambda w: {
        "forward": _forward(w),
        "latents": torch.zeros(1, 2, 12, 8, 8),
        "steps": [0],
        "noise": "clean",
        "seed": 0,
    },
)
plain("pass_count", probe.pass_count, lambda w: {"selection": w.selection, "noise": "clean", "steps": 3})


def _forward(world: World) -> Any:
    return probe.ForwardPass(world.mini, PROMPT, steps=2, height=16, width=16, images=2)


plain(
    "load_backbone",
    dp.load_backbone,
    lambda w: {
        "name_or_path_or_pipeline": w.mini.pipeline,
        "device": "cpu",
        "dtype": "auto",
        "revision": None,
        "local_files_only": True,
    },
)
plain(
    "run_clip",
    dp.run_clip,
    lambda w: {
        "backbone": w.mini,
        "clip": w.clip,
        "selection": w.selection,
        "sinks": lambda capture: None,
        **SHOWN,
        "features": False,
    },
)
plain(
    "run_prompt",
    dp.run_prompt,
    lambda w: {
        "backbone": w.mini,
        "prompt": PROMPT,
        "selection": w.selection,
        "sinks": lambda capture: None,
        **RUN,
        "features": False,
        "want_clip": False,
    },
)
plain("cut_windows", dp.cut_windows, lambda w: {"backbone": w.mini, "clip": w.clip, **FITTED})
plain(
    "plan_recording",
    dp.plan_recording,
    lambda w: {
        "backbone": w.mini,
        "source": w.clip,
        "selection": w.selection,
        "noise": "clean",
        "steps": 3,
        "window": 0,
        **FITTED,
        "conditioning": {},
        "features": False,
        "limit_bytes": 10**9,
    },
)
plain(
    "record",
    dp.record,
    lambda w: {
        "backbone": w.mini,
        "source": w.clip,
        "selection": w.selection,
        "path": w.new(".zarr"),
        **SHOWN,
        "window": 0,
        **FITTED,
        "features": False,
        "limit_bytes": 10**9,
        "overwrite": False,
        "resume": False,
        "save_clip": None,
    },
)
plain(
    "Schedule",
    lambda **a: len(probe.Schedule(**a)),
    lambda w: {"timesteps": (1.0,), "signal": (0.0, 1.0), "noise": (1.0, 0.0), "prediction": "flow"},
)
