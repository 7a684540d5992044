"""ditprobe: probe and analyse the attention of video diffusion transformers.

>>> import ditprobe as dp
>>> dp.make_scene(0).images.shape
(6, 40, 40, 3)

The names below are loaded when they are first used, so that importing ditprobe costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "store": (
        "Clip",
        "Plan",
        "Provenance",
        "Recording",
        "RecordingWriter",
        "Selection",
        "TokenLayout",
        "make_scene",
        "open_recording",
        "read_clip",
        "write_clip",
    ),
    "store.clips.encoding": ("write_video",),
    "store.scenes.prompt": ("ScenePrompt", "parse_prompt"),
    "store.datasets.read_clips": ("read_clips", "read_difftrack", "read_mtbench"),
    "store.datasets.tapvid": ("read_tapvid", "write_tapvid"),
    "probe": ("Backbone", "Capture", "Probe", "load_backbone", "run_clip", "run_prompt"),
    "probe.run.windows": ("cut_windows",),
    "probe.recording.record": ("plan_recording", "record"),
    "analyses.accuracy": ("matching_accuracy",),
    "analyses.affinity": ("Affinity", "affinity"),
    "analyses.agreement": ("prompt_agreement",),
    "analyses.attention": ("attention_of_points",),
    "analyses.checkpoint": ("load_sweep", "save_sweep"),
    "analyses.components": ("principal_components",),
    "analyses.encoders": ("load_clip_encoder", "load_image_encoder"),
    "analyses.differences": ("difference",),
    "analyses.end_points": ("end_point_error",),
    "analyses.fidelity": ("motion_fidelity",),
    "analyses.fidelity_clips": ("clip_motion_fidelity",),
    "analyses.fidelity_hybrid": ("hybrid_motion_fidelity",),
    "analyses.frechet": ("discrete_frechet_distance",),
    "analyses.image_scores": ("edit_fidelity", "temporal_consistency"),
    "analyses.layer_selection": ("LayerSelection",),
    "analyses.matching": ("match_features", "match_points", "match_points_by_head"),
    "analyses.overlay": ("draw_tracks", "drawn_images", "overlay_strip"),
    "analyses.object_paths": ("motion_error", "object_motion"),
    "analyses.plots": (
        "plot_accuracy_per_threshold",
        "plot_attention",
        "plot_best_layers",
        "plot_clip_scores",
        "plot_error_over_time",
        "plot_flow",
        "plot_flow_arrows",
        "plot_heads",
        "plot_layer_step",
        "plot_pca",
        "plot_selection",
        "plot_tracks",
        "plot_transfer",
    ),
    "store.tracks.point_tracks": ("PointTracks",),
    "analyses.resampling": ("to_images",),
    "analyses.pseudo_tracks": ("with_pseudo_tracks", "with_tracks_of"),
    "analyses.selection": ("harmonic_mean", "select_layers"),
    "analyses.selection_files": ("load_selection", "save_selection"),
    "analyses.stability": ("stability",),
    "analyses.sweep": ("sweep", "sweep_recording"),
    "analyses.tables": ("tidy", "write_table"),
    "analyses.tapvid": ("mean_tapvid_metrics", "tapvid_metrics", "tapvid_queries"),
    "analyses.tapvid_evaluation": ("evaluate_tapvid", "tapvid_means"),
    "analyses.tapvid_evaluation_files": ("save_evaluation",),
    "store.tracks.files": ("load_tracks", "save_tracks"),
    "analyses.trackers": ("BackboneTracker", "CoTracker", "FlowTracker", "PatchTracker", "still_tracker"),
    "analyses.tracking": ("TrackingOptions", "track_points"),
    "analyses.tracking_errors": ("gather_errors", "tracking_errors"),
    "generators.amf": ("amf_loss", "attention_motion_flow", "labelled_flow"),
    "generators.cag": ("CrossAttentionGuidance",),
    "generators.ditflow": ("DiTFlow",),
    "generators.embedding": ("InjectMotion", "MotionEmbedding"),
    "generators.embedding_files": ("load_embedding", "save_embedding"),
    "generators.flow_files": ("load_flow", "save_flow"),
    "generators.guider": ("CrossAttentionGuider",),
    "generators.injection": ("Injection",),
    "generators.moft": ("MOFT",),
    "generators.motion_clone": ("MotionClone",),
    "generators.reference": ("reference_flow",),
    "generators.sampling": ("sample",),
    "generators.smm": ("SMM",),
    "generators.strategy": ("Strategy",),
    "generators.transfer": ("MotionTransfer", "transfer_motion"),
    "generators.transfer_method": ("PlainBackbone",),
    "ditprobe.examples": ("make_examples",),
    "ditprobe.figures": ("save_figure",),
    "ditprobe.report": ("Example", "write_report"),
    "ditprobe.report_trackers": ("TrackedClip", "compare_trackers", "usual_trackers"),
    "ditprobe.report_transfer": ("TransferredClip", "transferred_clip"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"ditprobe has no {name!r}. It has: {', '.join(__all__)}.")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
