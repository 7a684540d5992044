"""Cases of the fuzz: pictures, generators and the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from fuzz_world import (
    METHOD,
    PROMPT,
    RUN,
    dropped,
    plain,
)

import ditprobe as dp
import generators
from ditprobe.report.examples import SweepSettings
from probe.attention.positions import AddedPositions
from probe.backbones.geometry import Size

# pictures ------------------------------------------------------------------------------------------------------------

plain(
    "plot_accuracy_per_threshold",
    dp.plot_accuracy_per_threshold,
    lambda w: {
        "within": xr.DataArray(np.ones((1, 4, 2)), {"threshold": [1, 2]}, ("tracker", "clip", "threshold"), "within"),
        "title": "a title",
    },
)
plain(
    "plot_attention",
    dp.plot_attention,
    lambda w: {"attention": w.attention, "images": w.images, "normalise": "frame", "title": "a title"},
)
plain(
    "plot_best_layers",
    dp.plot_best_layers,
    lambda w: {
        "values": w.sweep.accuracy,
        "layers": [2],
        "baseline": xr.DataArray([1.0, 2.0], dims="clip"),
        "title": "a title",
    },
)
plain("plot_clip_scores", dp.plot_clip_scores, lambda w: {"scores": w.scores, "title": "a title"})
plain(
    "plot_error_over_time",
    dp.plot_error_over_time,
    lambda w: {
        "errors": xr.DataArray(np.ones((2, 4, 9)), {"tracker": ["ours", "flow"]}, ("tracker", "clip", "lag"), "error"),
        "title": "a title",
    },
)
plain(
    "plot_flow",
    dp.plot_flow,
    lambda w: {"flow": w.flow, "frame": 0, "frame_to": -1, "largest": 2.0, "title": "a title"},
)
plain(
    "plot_flow_arrows",
    dp.plot_flow_arrows,
    lambda w: {
        "flow": w.flow,
        "images": w.images,
        "frame": 0,
        "frame_to": -1,
        "every": 2,
        "title": "a title",
    },
)
plain(
    "plot_heads",
    dp.plot_heads,
    lambda w: {
        "values": xr.DataArray([[10.0, 60.0]], dims=("layer", "head"), attrs={"units": "%"}, name="accuracy"),
        "selected": [0],
        "limits": (0.0, 100.0),
        "title": "a title",
    },
)
plain(
    "plot_layer_step",
    dp.plot_layer_step,
    lambda w: {"values": w.sweep.accuracy, "selected": [2], "limits": (0.0, 100.0), "title": "a title"},
)
plain(
    "plot_pca",
    dp.plot_pca,
    lambda w: {
        "query": dp.principal_components(w.tokens),
        "key": dp.principal_components(w.tokens),
        "title": "a title",
    },
)
plain(
    "plot_selection",
    dp.plot_selection,
    lambda w: {"selection": dp.select_layers(w.sweep, 2, samples=50), "max_layers": 3, "title": "a title"},
)
plain(
    "plot_tracks",
    dp.plot_tracks,
    lambda w: {
        "images": w.images,
        "predicted": w.tracks,
        "tracks": w.tracks,
        "visibility": w.visible,
        "predicted_visibility": w.visible,
        "max_images": 3,
        "max_points": 2,
        "title": "a title",
    },
)
plain(
    "plot_closer",
    dp.plot_closer,
    lambda w: {
        "images": w.images,
        "coarse": w.still,
        "closer": w.still,
        "tracks": w.still.tracks,
        "visibility": w.still.visibility,
        "max_points": 1,
        "title": "a title",
    },
)
plain(
    "plot_transfer",
    dp.plot_transfer,
    lambda w: {
        "reference": w.images,
        "clip": w.images,
        "reference_flow": w.flow,
        "flow": w.flow,
        "largest": 2.0,
        "max_images": 3,
        "images_per_second": 4.0,
        "title": "a title",
    },
)

# generators ----------------------------------------------------------------------------------------------------------

plain(
    "attention_motion_flow",
    dp.attention_motion_flow,
    lambda w: {"query": w.tokens, "key": w.tokens, "layout": w.layout, "temperature": 2.0, "hard": False},
)
plain(
    "amf_loss",
    dp.amf_loss,
    lambda w: {"reference_flow": torch.ones(3, 3, 5, 7, 2), "flow": torch.zeros(3, 3, 5, 7, 2), "static": False},
)
plain(
    "labelled_flow",
    dp.labelled_flow,
    lambda w: {"flow": np.ones((3, 3, 5, 7, 2)), "layout": w.layout, "details": {"backbone": "mini"}},
)
plain("save_flow", dp.save_flow, lambda w: {"flow": w.flow, "path": w.new(".npz"), "overwrite": False})
plain("load_flow", dp.load_flow, lambda w: {"path": w.files["flow"]})
plain(
    "reference_flow",
    dp.reference_flow,
    lambda w: {
        "backbone": w.mini,
        "clip": w.clip,
        "layer": 1,
        "step": 1,
        "prompt": PROMPT,
        "conditioning": {},
        "preset": "exact",
        "steps": 3,
        "hard": True,
        "temperature": 2.0,
    },
)
plain(
    "CrossAttentionGuidance",
    dp.CrossAttentionGuidance,
    lambda w: {"layers": [0], "scale": 1.0, "steps": [0, -1], "preset": "exact"},
)
plain(
    "CrossAttentionGuider",
    dp.CrossAttentionGuider,
    lambda w: {
        "layers": [0],
        "guidance_scale": 5.0,
        "cross_attention_scale": 1.0,
        "renormalise": False,
        "start": 0.0,
        "stop": 1.0,
        "enabled": True,
    },
)
plain("DiTFlow", dp.DiTFlow, lambda w: {**METHOD, "static": False, "temperature": 2.0})
plain("MOFT", dp.MOFT, lambda w: {**METHOD, "channels": 0.04})
plain("MotionClone", dp.MotionClone, lambda w: {**METHOD, "count": 1})
plain("SMM", dp.SMM, lambda w: dict(METHOD))
plain("make_method", dp.make_method, lambda w: {"name": "smm", "fraction": 0.2})
plain(
    "register_method",
    dp.register_method,
    lambda w: {"name": "fuzzed", "factory": dp.SMM, "replace": True},
)
plain("Injection", dp.Injection, lambda w: {"layer": 0, "fraction": 0.2})
plain("InjectMotion", dp.InjectMotion, lambda w: {"embedding": w.embedding})
plain(
    "MotionEmbedding",
    lambda **a: repr(dp.MotionEmbedding(**a)),
    lambda w: {
        "backbone": "mini",
        "size": Size(16, 16, 2),
        "steps": 3,
        "positions": {0: AddedPositions(torch.zeros(2, 4, 4, 128))},
        "details": {"prompt": PROMPT},
    },
)
plain(
    "save_embedding",
    dp.save_embedding,
    lambda w: {"embedding": w.embedding, "path": w.new(".safetensors"), "overwrite": False},
)
plain("load_embedding", dp.load_embedding, lambda w: {"path": w.files["embedding"]})
plain(
    "sample",
    dp.sample,
    lambda w: {
        "backbone": w.mini,
        "prompt": PROMPT,
        "strategies": [dp.CrossAttentionGuidance([0])],
        **RUN,
        "gradient_checkpointing": False,
    },
)
plain(
    "GuidedSampling",
    lambda **a: generators.GuidedSampling(**a).__enter__().__exit__(),
    lambda w: {
        "backbone": w.mini,
        "strategies": [dp.CrossAttentionGuidance([0])],
        "arguments": w.mini.arguments(PROMPT, steps=2),
        "gradient_checkpointing": False,
    },
)
_TRANSFER: dict[str, Any] = {"reference_conditioning": {}, "gradient_checkpointing": False}
plain(
    "transfer_motion",
    dp.transfer_motion,
    lambda w: {
        "backbone": w.mini,
        "reference": w.clip,
        "prompt": PROMPT,
        "method": dp.Injection(),
        **RUN,
        **_TRANSFER,
    },
)
plain(
    "MotionTransfer",
    lambda **a: dp.MotionTransfer(**a).run(),
    lambda w: {
        "backbone": w.mini,
        "reference": w.clip,
        "prompt": PROMPT,
        "method": dp.Injection(),
        **dropped(RUN, "on_step"),
        **_TRANSFER,
    },
)
plain("fit_reference", generators.fit_reference, lambda w: {"clip": w.scene, "size": Size(16, 16, 2)})
plain("guided_layers", generators.guided_layers, lambda w: {"backbone": w.bundled})
for _name in ("inject", "inject_video"):
    plain(
        _name,
        getattr(generators, _name),
        lambda w: {"key": torch.zeros(1, 2, 3, 4), "value": torch.zeros(1, 2, 3, 4)},
    )
plain(
    "moft_loss",
    generators.moft_loss,
    lambda w: {"features": w.tensors[0], "reference": w.tensors[0], "channels": torch.tensor([1])},
)
plain("motion_channels", generators.motion_channels, lambda w: {"features": w.tensors[0], "fraction": 0.5})
plain(
    "motion_clone_loss",
    generators.motion_clone_loss,
    lambda w: {"attention": torch.ones(2, 3, 3), "reference": torch.ones(2, 3, 3), "count": 1},
)
plain(
    "smm_loss",
    generators.smm_loss,
    lambda w: {"features": w.tensors[0], "reference": w.tensors[0], "preset": "exact"},
)
plain("temporal_attention", generators.temporal_attention, lambda w: {"query": w.tensors, "key": w.tensors})
plain(
    "layers_of_clip",
    generators.layers_of_clip,
    lambda w: {
        "backbone": w.mini,
        "clip": w.clip,
        "layers": [0],
        "step": 1,
        "steps": 3,
        "prompt": PROMPT,
        "conditioning": {},
        "latents": torch.zeros(1, 2, 12, 8, 8),
        "blocks": False,
    },
)
plain("within_frames", generators.within_frames, lambda w: {"renormalise": True, "chunk_bytes": 2**20})
plain(
    "Reference",
    lambda **a: generators.Reference(**a).latents,
    lambda w: {"backbone": w.mini, "clip": w.clip, "steps": 3, "prompt": PROMPT, "conditioning": {}},
)


class _Step(generators.Step):
    """A step that is part of no run, and finds everything finite."""

    def __init__(self) -> None: ...

    def check_finite(self, values: Any, what: str) -> None: ...


def _minimised(step: Any, values: Any, loss: Any, learning_rates: Any) -> Any:
    return generators.minimise(step, values, loss, learning_rates=learning_rates)


plain(
    "minimise",
    _minimised,
    lambda w: {
        "step": _Step(),
        "values": {"latents": torch.ones(2)},
        "loss": lambda values: values["latents"].square().sum(),
        "learning_rates": [0.1, 0.1],
    },
)

plain(
    "save_figure",
    dp.save_figure,
    lambda w: {
        "figure": dp.plot_clip_scores(w.scores),
        "path": w.new(".html"),
        "width_mm": 100.0,
        "height_mm": 80.0,
        "dpi": 100.0,
        "overwrite": False,
    },
)

# the report ----------------------------------------------------------------------------------------------------------

plain(
    "compare_trackers",
    dp.compare_trackers,
    lambda w: {"clips": {"goat": w.tracked}, "trackers": {"nothing moves": dp.StaticTracker()}, "progress": None},
)
plain("usual_trackers", dp.usual_trackers, lambda w: {"backbone": w.mini})
plain(
    "make_examples",
    dp.make_examples,
    lambda w: {
        "backbone": w.mini,
        "sources": {"scene": w.clip},
        "layer": 1,
        "step": -1,
        "settings": SweepSettings(steps=3),
        "count": 1,
        "points": 2,
        "progress": None,
    },
)
plain(
    "transferred_clip",
    dp.transferred_clip,
    lambda w: {
        "backbone": w.mini,
        "name": "a scene",
        "reference": w.clip,
        "clip": w.clip,
        "layer": 1,
        "step": 1,
        "steps": 3,
        "method": "DiTFlow",
        "plain": w.clip,
    },
)
plain(
    "closer_clip",
    dp.closer_clip,
    lambda w: {
        "backbone": w.mini,
        "name": "a scene",
        "clip": w.clip,
        "levels": (1, 2),
        "max_crops": 1,
        "layer": 1,
        "step": 1,
        "steps": 3,
        "grid": 2,
    },
)
plain(
    "make_head_examples",
    dp.make_head_examples,
    lambda w: {
        "backbone": w.mini,
        "clip": w.clip,
        "masses": w.head_masses,
        "points": 1,
        "noise": "forward",
        "seed": 0,
        "steps": 2,
        "prompt": PROMPT,
    },
)
plain(
    "write_report",
    dp.write_report,
    lambda w: {
        "path": w.new(".html"),
        "sweep": w.sweep,
        "selection": dp.select_layers(w.sweep, 2, samples=50),
        "examples": [dp.Example("scene", w.tracked, w.tracks, 1, 49, w.attention)],
        "tracking": None,
        "tracked": [dp.TrackedClip("goat", w.tracked, w.still)],
        "closer": [],
        "transfers": [],
        "head_masses": w.head_masses,
        "head_examples": [],
        "title": "a title",
        "overwrite": False,
    },
)
