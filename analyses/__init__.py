"""Floor 3: pure functions on labelled arrays; ``analyses.layers.sweep`` and ``analyses.tracking.track`` alone drive a
probe.

The public functions are here by name, loaded when first used. ``analyses.layers.sweep`` and
``analyses.attention.affinity`` are modules that hold a function of the same name; ``import ditprobe as dp`` has those
as ``dp.sweep`` and ``dp.affinity``.

Examples
--------
>>> from analyses import harmonic_mean, match_points
>>> match_points.__module__
'analyses.correspondence.matching'
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "analyses.metrics.accuracy": ("matching_accuracy",),
    "analyses.attention.affinity": ("Affinity",),
    "analyses.scenes.prompt_agreement": ("PromptAgreement", "agreement_dataset", "prompt_agreement"),
    "analyses.attention.rows": ("attention_of_points",),
    "analyses.correspondence.baselines": ("match_patches",),
    "analyses.layers.sweep_files": ("load_sweep", "save_sweep"),
    "analyses.attention.pca": ("principal_components",),
    "analyses.layers.differences": ("difference",),
    "analyses.metrics.encoders": ("load_clip_encoder", "load_image_encoder"),
    "analyses.metrics.end_point": (
        "EndPointError",
        "end_point_error",
    ),
    "analyses.metrics.motion_fidelity": ("motion_fidelity",),
    "analyses.metrics.clip_fidelity": ("clip_motion_fidelity",),
    "analyses.metrics.hybrid_fidelity": ("hybrid_motion_fidelity",),
    "analyses.metrics.frechet": ("discrete_frechet_distance",),
    "analyses.metrics.appearance": ("edit_fidelity", "temporal_consistency"),
    "analyses.selection.layer_selection": ("LayerSelection",),
    "analyses.correspondence.matching": ("match_features", "match_points", "match_points_by_head"),
    "analyses.scenes.object_motion": ("ObjectMotion", "motion_error", "object_motion"),
    "analyses.layers.sweep_recording": ("sweep_recording",),
    "analyses.correspondence.resampling": ("to_images",),
    "store.tracks.point_tracks": ("PointTracks",),
    "analyses.trackers.pseudo_tracks": ("with_pseudo_tracks", "with_tracks_of"),
    "analyses.selection.select": ("harmonic_mean", "select_layers"),
    "analyses.selection.files": ("load_selection", "save_selection"),
    "analyses.evaluation.tables": ("tidy", "write_table"),
    "analyses.selection.verdict": ("against_baselines",),
    "analyses.metrics.tapvid": ("mean_tapvid_metrics", "tapvid_metrics", "tapvid_queries"),
    "analyses.evaluation.tapvid": ("evaluate_tapvid", "tapvid_means"),
    "analyses.evaluation.files": ("save_evaluation",),
    "store.tracks.files": ("load_tracks", "save_tracks"),
    "analyses.tracking.track": ("TrackingOptions", "track_points"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'analyses' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
