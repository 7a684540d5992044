"""Floor 3: pure functions on labelled arrays; ``analyses.sweep`` and ``analyses.tracking`` alone drive a probe.

The public functions are here by name, loaded when first used. ``analyses.sweep`` and ``analyses.affinity`` are modules
that hold a function of the same name; ``import ditprobe as dp`` has those as ``dp.sweep`` and ``dp.affinity``.

Examples
--------
>>> from analyses import harmonic_mean, match_points
>>> match_points.__module__
'analyses.matching'
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "analyses.accuracy": ("matching_accuracy",),
    "analyses.affinity": ("Affinity",),
    "analyses.agreement": ("PromptAgreement", "agreement_dataset", "prompt_agreement"),
    "analyses.attention": ("attention_of_points",),
    "analyses.baselines": ("match_patches",),
    "analyses.checkpoint": ("load_sweep", "save_sweep"),
    "analyses.components": ("principal_components",),
    "analyses.differences": ("difference",),
    "analyses.encoders": ("load_clip_encoder", "load_image_encoder"),
    "analyses.end_points": (
        "EndPointError",
        "end_point_error",
    ),
    "analyses.fidelity": ("motion_fidelity",),
    "analyses.fidelity_clips": ("clip_motion_fidelity",),
    "analyses.fidelity_hybrid": ("hybrid_motion_fidelity",),
    "analyses.frechet": ("discrete_frechet_distance",),
    "analyses.image_scores": ("edit_fidelity", "temporal_consistency"),
    "analyses.layer_selection": ("LayerSelection",),
    "analyses.matching": ("match_features", "match_points", "match_points_by_head"),
    "analyses.object_paths": ("ObjectMotion", "motion_error", "object_motion"),
    "analyses.recorded": ("sweep_recording",),
    "analyses.resampling": ("to_images",),
    "store.tracks.point_tracks": ("PointTracks",),
    "analyses.pseudo_tracks": ("with_pseudo_tracks", "with_tracks_of"),
    "analyses.selection": ("harmonic_mean", "select_layers"),
    "analyses.selection_files": ("load_selection", "save_selection"),
    "analyses.tables": ("tidy", "write_table"),
    "analyses.verdict": ("against_baselines",),
    "analyses.tapvid": ("mean_tapvid_metrics", "tapvid_metrics", "tapvid_queries"),
    "analyses.tapvid_evaluation": ("evaluate_tapvid", "tapvid_means"),
    "analyses.tapvid_evaluation_files": ("save_evaluation",),
    "store.tracks.files": ("load_tracks", "save_tracks"),
    "analyses.tracking": ("TrackingOptions", "track_points"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'analyses' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
