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
    "analyses.metrics.accuracy": ("matching_accuracy",),
    "analyses.attention.affinity": ("Affinity", "affinity"),
    "analyses.scenes.prompt_agreement": ("prompt_agreement",),
    "analyses.attention.rows": ("attention_of_points",),
    "analyses.layers.sweep_files": ("load_sweep", "save_sweep"),
    "analyses.attention.pca": ("principal_components",),
    "analyses.metrics.encoders": ("load_clip_encoder", "load_image_encoder"),
    "analyses.layers.differences": ("difference",),
    "analyses.metrics.end_point": ("end_point_error",),
    "analyses.metrics.motion_fidelity": ("motion_fidelity",),
    "analyses.metrics.clip_fidelity": ("clip_motion_fidelity",),
    "analyses.metrics.hybrid_fidelity": ("hybrid_motion_fidelity",),
    "analyses.metrics.frechet": ("discrete_frechet_distance",),
    "analyses.metrics.appearance": ("edit_fidelity", "temporal_consistency"),
    "analyses.selection.layer_selection": ("LayerSelection",),
    "analyses.correspondence.matching": ("match_features", "match_points", "match_points_by_head"),
    "analyses.plots.overlay": ("draw_tracks", "drawn_images", "overlay_strip"),
    "analyses.scenes.object_motion": ("motion_error", "object_motion"),
    "analyses.plots.attention": (
        "plot_attention",
        "plot_pca",
    ),
    "analyses.plots.evaluation": (
        "plot_accuracy_per_threshold",
        "plot_clip_scores",
        "plot_error_over_time",
    ),
    "analyses.plots.flow": (
        "plot_flow",
        "plot_flow_arrows",
    ),
    "analyses.plots.layers": (
        "plot_best_layers",
        "plot_heads",
        "plot_layer_step",
    ),
    "analyses.plots.selection": ("plot_selection",),
    "analyses.plots.tracks": ("plot_tracks",),
    "analyses.plots.transfer": ("plot_transfer",),
    "store.tracks.point_tracks": ("PointTracks",),
    "analyses.correspondence.resampling": ("to_images",),
    "analyses.trackers.pseudo_tracks": ("with_pseudo_tracks", "with_tracks_of"),
    "analyses.selection.select": ("harmonic_mean", "select_layers"),
    "analyses.selection.files": ("load_selection", "save_selection"),
    "analyses.selection.stability": ("stability",),
    "analyses.layers.sweep": ("sweep", "sweep_recording"),
    "analyses.evaluation.tables": ("tidy", "write_table"),
    "analyses.metrics.tapvid": ("mean_tapvid_metrics", "tapvid_metrics", "tapvid_queries"),
    "analyses.evaluation.tapvid": ("evaluate_tapvid", "tapvid_means"),
    "analyses.evaluation.files": ("save_evaluation",),
    "store.tracks.files": ("load_tracks", "save_tracks"),
    "analyses.trackers.static": ("BackboneTracker", "CoTracker", "FlowTracker", "PatchTracker", "still_tracker"),
    "analyses.tracking.track": ("TrackingOptions", "track_points"),
    "analyses.metrics.track_errors": ("gather_errors", "tracking_errors"),
    "analyses.flow.attention_flow": ("amf_loss", "attention_motion_flow", "labelled_flow"),
    "generators.guidance.cross_attention": ("CrossAttentionGuidance",),
    "generators.transfer.ditflow": ("DiTFlow",),
    "generators.transfer.embedding": ("InjectMotion", "MotionEmbedding"),
    "generators.transfer.embedding_files": ("load_embedding", "save_embedding"),
    "analyses.flow.files": ("load_flow", "save_flow"),
    "generators.guidance.diffusers_guider": ("CrossAttentionGuider",),
    "generators.transfer.injection": ("Injection",),
    "generators.transfer.moft": ("MOFT",),
    "generators.transfer.motion_clone": ("MotionClone",),
    "analyses.flow.reference_flow": ("reference_flow",),
    "generators.sampling.sample": ("sample",),
    "generators.transfer.smm": ("SMM",),
    "generators.sampling.strategy": ("Strategy",),
    "generators.transfer.motion_transfer": ("MotionTransfer", "transfer_motion"),
    "generators.transfer.method": ("PlainBackbone",),
    "ditprobe.report.examples": ("make_examples",),
    "ditprobe.report.figures": ("save_figure",),
    "ditprobe.report.report": ("Example", "write_report"),
    "analyses.evaluation.compare": ("TrackedClip", "compare_trackers", "usual_trackers"),
    "ditprobe.report.transfer": ("TransferredClip", "transferred_clip"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"ditprobe has no {name!r}. It has: {', '.join(__all__)}.")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
