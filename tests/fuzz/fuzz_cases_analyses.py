"""Cases of the fuzz: analyses."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from fuzz_world import (
    FITTED,
    PROMPT,
    SHOWN,
    Encoder,
    dropped,
    listed,
    plain,
)

import analyses
import ditprobe as dp

# analyses ------------------------------------------------------------------------------------------------------------

plain(
    "Affinity",
    lambda **a: repr(dp.Affinity(**a)),
    lambda w: {
        name: xr.DataArray([0.1, 0.2, 0.3], {"target": ["self", "cross", "text"]}, ("target",)) for name in _SHARES
    },
)
_SHARES = ("confidence", "attention_score")
plain(
    "affinity",
    dp.affinity,
    lambda w: {
        "query": w.tokens,
        "key": w.tokens,
        "points": w.points,
        "visibility": w.visible,
        "layout": w.layout,
        "text_key": np.ones((2, 3, 4), np.float32),
        "preset": "exact",
        "budget_bytes": 2**20,
    },
)
plain(
    "head_masses",
    dp.head_masses,
    lambda w: {
        "query": w.tokens,
        "key": w.tokens,
        "layout": w.layout,
        "text_key": np.ones((2, 3, 4), np.float32),
        "tracks": w.tracks,
        "visibility": w.visible,
        "radius": 1,
        "budget_bytes": 2**20,
    },
)
plain(
    "classify_heads",
    dp.classify_heads,
    lambda w: {
        "query": w.tokens,
        "key": w.tokens,
        "layout": w.layout,
        "text_key": None,
        "preset": "exact",
        "margin": 1.5,
        "radius": 1,
        "budget_bytes": 2**20,
    },
)
plain(
    "classify_clip_heads",
    dp.classify_clip_heads,
    lambda w: {
        "backbone": w.mini,
        "clip": w.clip,
        "preset": "exact",
        "margin": 1.5,
        "radius": 1,
        "step": -1,
        "steps": 2,
        "noise": "forward",
        "seed": 0,
        "prompt": PROMPT,
    },
)
plain(
    "sweep_heads",
    dp.sweep_heads,
    lambda w: {
        "backbone": w.mini,
        "clips": {"a": w.clip},
        "selection": dp.Selection([-1], [0]),
        "noise": "forward",
        "seed": 0,
        "draws": 1,
        "steps": 2,
        "radius": 1,
        "prompt": PROMPT,
        "progress": False,
    },
)
plain("save_heads", dp.save_heads, lambda w: {"masses": w.head_masses, "path": w.new(".nc"), "overwrite": False})
plain("load_heads", dp.load_heads, lambda w: {"path": str(dp.save_heads(w.head_masses, w.new(".nc")))})
plain("head_log_ratio", dp.head_log_ratio, lambda w: {"masses": w.head_masses})
plain("decide_heads", dp.decide_heads, lambda w: {"masses": w.head_masses, "step": 1, "margin": 1.25})
plain("head_stability", dp.head_stability, lambda w: {"masses": w.head_masses, "margin": 1.25})
plain(
    "head_rank_correlation",
    dp.head_rank_correlation,
    lambda w: {
        "a": dp.head_log_ratio(w.head_masses).isel(step=0),
        "b": dp.head_log_ratio(w.head_masses).isel(step=-1),
        "resamples": 20,
        "seed": 0,
    },
)
plain(
    "plot_head_classes",
    dp.plot_head_classes,
    lambda w: {"decided": dp.decide_heads(w.head_masses), "title": "a title"},
)
plain(
    "attention_of_points",
    dp.attention_of_points,
    lambda w: {
        "query": w.tokens,
        "key": w.tokens,
        "points": w.points,
        "layout": w.layout,
        "text_key": np.ones((2, 3, 4), np.float32),
        "scale": 0.5,
        "frame": 0,
        "by_head": False,
    },
)
plain(
    "attention_to_text",
    dp.attention_to_text,
    lambda w: {
        "query": w.tokens,
        "key": w.tokens,
        "text_key": np.ones((2, 3, 4), np.float32),
        "points": w.points,
        "layout": w.layout,
        "scale": 0.5,
        "frame": 1,
        "by_head": True,
    },
)
plain(
    "attention_of_text",
    dp.attention_of_text,
    lambda w: {
        "text_query": np.ones((2, 3, 4), np.float32),
        "key": w.tokens,
        "text_key": np.ones((2, 3, 4), np.float32),
        "layout": w.layout,
        "scale": 0.5,
        "by_head": True,
    },
)
plain(
    "map_attention_to_text",
    dp.map_attention_to_text,
    lambda w: {
        "query": w.tokens,
        "key": w.tokens,
        "text_key": np.ones((2, 3, 4), np.float32),
        "layout": w.layout,
        "tokens": [0, 2],
        "scale": 0.5,
        "by_head": True,
    },
)
for _name in ("match_points", "match_points_by_head"):
    plain(
        _name,
        getattr(dp, _name),
        lambda w: {
            "query": w.tokens,
            "key": w.tokens,
            "points": w.points,
            "layout": w.layout,
            "preset": "exact",
            "refine": "soft",
            "window": 1,
            "frame": 0,
            "budget_bytes": 2**20,
        },
    )
plain(
    "match_features",
    dp.match_features,
    lambda w: {
        "features": w.tokens[0],
        "points": w.points,
        "layout": w.layout,
        "preset": "exact",
        "budget_bytes": 2**20,
    },
)
plain(
    "match_patches",
    analyses.match_patches,
    lambda w: {"images": w.images, "points": w.points, "layout": w.layout},
)
plain(
    "matching_accuracy",
    dp.matching_accuracy,
    lambda w: {
        "predicted": w.tracks,
        "tracks": w.tracks,
        "visibility": w.visible,
        "threshold": 8.0,
    },
)
plain("principal_components", dp.principal_components, lambda w: {"tensor": w.tokens, "count": 3})
plain(
    "to_image_rate",
    dp.to_image_rate,
    lambda w: {"tracks": w.tracks[:3], "layout": w.layout, "images": 9, "preset": "exact"},
)
for _name in ("discrete_frechet_distance",):
    plain(_name, getattr(dp, _name), lambda w: {"a": w.tracks, "b": w.tracks + 1})
plain(
    "motion_fidelity",
    dp.motion_fidelity,
    lambda w: {"a": w.tracks, "b": w.tracks, "preset": "exact", "tolerance": 0.1},
)
plain(
    "hybrid_motion_fidelity",
    dp.hybrid_motion_fidelity,
    lambda w: {
        "a": w.tracks,
        "b": w.tracks,
        "size": (80, 112),
        "alpha": 0.5,
        "preset": "exact",
        "tolerance": 0.1,
    },
)
plain(
    "clip_motion_fidelity",
    dp.clip_motion_fidelity,
    lambda w: {
        "generated": w.scene,
        "reference": w.scene,
        "tracker": dp.StaticTracker(),
        "grid": 4,
        "mask": np.ones((40, 40), bool),
        "preset": "exact",
        "tolerance": 0.1,
    },
)
plain(
    "end_point_error",
    dp.end_point_error,
    lambda w: {"predicted": w.tracks, "truth": w.tracks, "visibility": w.visible},
)
plain(
    "edit_fidelity",
    dp.edit_fidelity,
    lambda w: {
        "clip": w.scene,
        "prompt": PROMPT,
        "model": Encoder("stand-in", None, None, None),
        "device": "cpu",
        "revision": None,
        "local_files_only": True,
        "batch": 2,
    },
)
plain(
    "temporal_consistency",
    dp.temporal_consistency,
    lambda w: {
        "clip": w.scene,
        "model": Encoder("stand-in", None, None, None),
        "preset": "exact",
        "device": "cpu",
        "revision": None,
        "local_files_only": True,
        "batch": 2,
    },
)
for _name in ("load_clip_model", "load_image_encoder"):
    plain(
        _name,
        getattr(dp, _name),
        lambda w: {"name": "nowhere/model", "device": "cpu", "revision": None, "local_files_only": True},
    )
plain("prompt_agreement", dp.prompt_agreement, lambda w: {"images": w.scene.images, "prompt": w.scene.prompt})
plain(
    "agreement_dataset",
    analyses.agreement_dataset,
    lambda w: {"agreements": [dp.prompt_agreement(w.scene.images, w.scene.prompt)]},
)
plain("object_motion", dp.object_motion, lambda w: {"clip": w.scene, "colour": "red"})
plain("object_coherence", analyses.object_coherence, lambda w: {"clip": w.scene})
plain("motion_error", dp.motion_error, lambda w: {"generated": w.scene, "reference": w.scene})
_OVERLAY: dict[str, Any] = {"trail": 3, "jump": 0.125, "radius": 2.0, "scale": 1}
plain("draw_tracks", dp.draw_tracks, lambda w: {"images": w.images, "tracks": w.still, **_OVERLAY})
plain("drawn_images", listed(dp.drawn_images), lambda w: {"images": w.images, "tracks": w.still, **_OVERLAY})
plain("overlay_strip", dp.overlay_strip, lambda w: {"images": w.images, "tracks": w.still, "count": 2, **_OVERLAY})
plain(
    "harmonic_mean",
    dp.harmonic_mean,
    lambda w: {
        "accuracy": np.array([[0.0, 100.0]]),
        "confidence": np.array([[0.1, 0.2]]),
        "attention_score": np.array([[0.3, 0.5]]),
    },
)
plain(
    "select_layers",
    dp.select_layers,
    lambda w: {
        "sweep": w.sweep,
        "count": 2,
        "by": "last",
        "criterion": "harmonic",
        "accuracy": "all",
        "samples": 50,
        "seed": 0,
    },
)
plain("save_sweep", dp.save_sweep, lambda w: {"dataset": w.sweep, "path": w.new(".nc")})
plain("load_sweep", dp.load_sweep, lambda w: {"path": w.files["sweep"]})
_MEASURED: dict[str, Any] = {
    "threshold_cells": 0.5,
    "preset": "exact",
    "per_head": False,
    "min_points": 4,
    "budget_bytes": 2**20,
    "progress": None,
}
plain(
    "sweep",
    dp.sweep,
    lambda w: {
        "backbone": w.mini,
        "clips_or_prompts": {"scene": w.clip},
        "selection": w.selection,
        **dropped(SHOWN, "on_step", "prompt"),
        "prompt": PROMPT,
        "draws": 1,
        **_MEASURED,
        "features": True,
        "truth": None,
        **FITTED,
        "save": None,
        "resume": False,
        "overwrite": False,
    },
)
plain(
    "sweep_recording",
    dp.sweep_recording,
    lambda w: {"recordings": {"scene": w.recording}, "clips": {"scene": w.clip}, "branch": "cond", **_MEASURED},
)
_CLOSER = xr.Dataset(
    {name: (("clip", "layer"), [[40.0, 50.0]]) for name in ("accuracy", "closer_accuracy")}
    | {"coarse_accuracy": ("clip", [45.0])},
    {"clip": ["scene"], "layer": [0, 1]},
)
plain("closer_ranks", dp.closer_ranks, lambda w: {"found": _CLOSER})
plain(
    "sweep_closer",
    dp.sweep_closer,
    lambda w: {
        "backbone": w.mini,
        "clips": {"scene": w.clip},
        "layers": [1],
        "step": -1,
        "follow": 1,
        "level": 2,
        "max_crops": 1,
        "per_head": False,
        "options": dp.TrackingOptions(),
        "prompt": PROMPT,
        "steps": 2,
        "seed": 0,
        "size": None,
        "stride": 1,
        "min_points": 1,
        "conditioning": None,
        "budget_bytes": 2**20,
        "progress": False,
    },
)
plain(
    "PointTracks",
    dp.PointTracks,
    lambda w: {
        "queries": w.still.queries,
        "tracks": w.still.tracks,
        "visibility": w.still.visibility,
        "confidence": w.still.confidence,
        "details": {"tracker": "none"},
    },
)
plain("PointTracks.still", dp.PointTracks.still, lambda w: {"queries": w.still.queries, "images": 9})
plain("PointTracks.from_dataset", dp.PointTracks.from_dataset, lambda w: {"dataset": w.still.to_dataset()})
plain("save_tracks", dp.save_tracks, lambda w: {"tracks": w.still, "path": w.new(".npz"), "overwrite": False})
plain("load_tracks", dp.load_tracks, lambda w: {"path": w.files["tracks"]})
plain(
    "tapvid_metrics",
    dp.tapvid_metrics,
    lambda w: {
        "queries": np.array([[0, 24.0, 8.0], [0, 60.0, 50.0]]),
        "tracks": w.tracks,
        "visibility": w.visible,
        "predicted": w.tracks,
        "predicted_visibility": w.visible,
        "mode": "first",
    },
)
plain("mean_tapvid_metrics", dp.mean_tapvid_metrics, lambda w: {"clips": [{"jaccard_1": 0.25}, {"jaccard_1": 0.75}]})
plain(
    "tapvid_queries",
    dp.tapvid_queries,
    lambda w: {"tracks": w.tracks, "visibility": w.visible, "mode": "strided", "stride": 5},
)
plain(
    "evaluate_tapvid",
    dp.evaluate_tapvid,
    lambda w: {
        "clips": {"goat": w.tracked},
        "trackers": {"nothing moves": dp.StaticTracker()},
        "mode": "first",
        "stride": 5,
        "first_image_only": False,
        "data": "a test",
        "checkpoint": w.new(".jsonl"),
        "resume": False,
        "overwrite": False,
        "progress": None,
    },
)
plain("tapvid_means", dp.tapvid_means, lambda w: {"evaluation": w.evaluation})
plain(
    "save_evaluation",
    dp.save_evaluation,
    lambda w: {"evaluation": w.evaluation, "path": w.new(".nc"), "overwrite": False},
)
plain("load_evaluation", dp.load_evaluation, lambda w: {"path": dp.save_evaluation(w.evaluation, w.new(".nc"))})
plain(
    "tracking_errors",
    dp.tracking_errors,
    lambda w: {
        "tracks": w.still,
        "truth": w.tracks,
        "visibility": w.visible,
        "size": (80, 112),
        "thresholds": (1, 2),
    },
)
plain("gather_errors", dp.gather_errors, lambda w: {"errors": {"nothing moves": {"a": w.errors, "b": w.errors}}})
plain("still_tracker", dp.still_tracker, lambda w: {"images": w.images, "queries": w.still.queries})
plain(
    "TrackingOptions",
    dp.TrackingOptions,
    lambda w: {
        "geometry": "exact",
        "scale": "heads",
        "max_rotation": 0.5,
        "encode": "images",
        "chunk_images": 2,
        "interleaved": True,
        "anchored": True,
        "average": True,
        "noise": "clean",
        "support": 1.0,
        "refine": True,
        "sharpness": 1.5,
        "window": 1,
        "candidates": 5,
        "smoothness": 0.3,
        "max_cycle_error": 0.5,
        "min_confidence": 0.0,
        "visibility": "calibrated",
        "levels": (1, 2),
        "crop_margin": 1.0,
        "trusted_cycle_error": 1.0,
        "max_correction": 1.0,
        "max_crop_cycle_error": 1.0,
    },
)
