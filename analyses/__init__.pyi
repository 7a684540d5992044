"""Public names of analyses."""

# Attention maps
from analyses.attention.affinity import (
    Affinity as Affinity,
    affinity as affinity,
)
from analyses.attention.rows import attention_of_points as attention_of_points
from analyses.attention.rows import attention_of_text as attention_of_text
from analyses.attention.rows import attention_to_text as attention_to_text
from analyses.attention.text_maps import map_attention_to_text as map_attention_to_text
from analyses.attention.pca import principal_components as principal_components

# Point correspondence
from analyses.correspondence.matching import (
    match_points as match_points,
    match_points_by_head as match_points_by_head,
    match_features as match_features,
)
from analyses.correspondence.patches import match_patches as match_patches
from analyses.correspondence.resampling import (
    to_image_rate as to_image_rate,
    to_images as to_images,
)

# Layer sweeps
from analyses.layers.sweep import sweep as sweep
from analyses.layers.sweep_recording import sweep_recording as sweep_recording
from analyses.layers.sweep_files import (
    save_sweep as save_sweep,
    load_sweep as load_sweep,
)
from analyses.layers.sweep_closer import sweep_closer as sweep_closer
from analyses.layers.closer_ranks import closer_ranks as closer_ranks
from analyses.layers.differences import difference as difference
from analyses.layers.compare import compare as compare
from analyses.layers.sweep_draws import by_seed as by_seed

# Heads
from analyses.heads.classify import classify_heads as classify_heads
from analyses.heads.of_clip import classify_clip_heads as classify_clip_heads
from analyses.heads.decide import (
    decide_heads as decide_heads,
    head_log_ratio as head_log_ratio,
    head_rank_correlation as head_rank_correlation,
    head_stability as head_stability,
)
from analyses.heads.files import (
    load_heads as load_heads,
    save_heads as save_heads,
)
from analyses.heads.masses import head_masses as head_masses
from analyses.heads.sweep import sweep_heads as sweep_heads

# Layer selection
from analyses.selection.select import select_layers as select_layers
from analyses.selection.select_heads import (
    HeadSelection as HeadSelection,
    select_heads as select_heads,
)
from analyses.selection.summary import (
    SweepSummary as SweepSummary,
    summarise_sweep as summarise_sweep,
)
from analyses.statistics import harmonic_mean as harmonic_mean
from analyses.selection.layer_selection import LayerSelection as LayerSelection
from analyses.selection.files import (
    save_selection as save_selection,
    load_selection as load_selection,
)
from analyses.selection.stability import stability as stability
from analyses.selection.verdict import against_baselines as against_baselines

# Point tracking
from analyses.tracking.track import track_points as track_points
from analyses.tracking.options import TrackingOptions as TrackingOptions
from store.tracks.point_tracks import PointTracks as PointTracks
from store.tracks.files import (
    save_tracks as save_tracks,
    load_tracks as load_tracks,
)
from analyses.trackers.backbone import BackboneTracker as BackboneTracker
from analyses.trackers.patches import PatchTracker as PatchTracker
from analyses.trackers.optical_flow import FlowTracker as FlowTracker
from analyses.trackers.cotracker import CoTracker as CoTracker
from analyses.trackers.refined import LucasKanadeRefinement as LucasKanadeRefinement
from analyses.trackers.static import (
    StaticTracker as StaticTracker,
    still_tracker as still_tracker,
)
from analyses.trackers.registry import (
    TRACKERS as TRACKERS,
    register_tracker as register_tracker,
    make_tracker as make_tracker,
)
from analyses.trackers.pseudo_tracks import (
    with_pseudo_tracks as with_pseudo_tracks,
    with_tracks_of as with_tracks_of,
)

# Evaluation of tracking
from analyses.evaluation.tapvid import (
    evaluate_tapvid as evaluate_tapvid,
    tapvid_means as tapvid_means,
)
from analyses.evaluation.files import (
    save_evaluation as save_evaluation,
    load_evaluation as load_evaluation,
)
from analyses.metrics.tapvid import (
    tapvid_queries as tapvid_queries,
    tapvid_metrics as tapvid_metrics,
    mean_tapvid_metrics as mean_tapvid_metrics,
)
from analyses.evaluation.compare import (
    compare_trackers as compare_trackers,
    usual_trackers as usual_trackers,
    TrackedClip as TrackedClip,
)
from analyses.metrics.track_errors import (
    tracking_errors as tracking_errors,
    gather_errors as gather_errors,
)
from analyses.metrics.registry import (
    TRACKING_METRICS as TRACKING_METRICS,
    TrackingMetric as TrackingMetric,
    register_metric as register_metric,
)
from analyses.evaluation.tables import (
    tidy as tidy,
    evaluation_table as evaluation_table,
    latex_table as latex_table,
    write_table as write_table,
)

# Attention motion flow
from analyses.flow.attention_flow import (
    attention_motion_flow as attention_motion_flow,
    amf_loss as amf_loss,
    labelled_flow as labelled_flow,
)
from analyses.flow.reference_flow import reference_flow as reference_flow
from analyses.flow.files import (
    save_flow as save_flow,
    load_flow as load_flow,
)

# Metrics
from analyses.metrics.accuracy import matching_accuracy as matching_accuracy
from analyses.metrics.end_point import (
    EndPointError as EndPointError,
    end_point_error as end_point_error,
)
from analyses.metrics.motion_fidelity import motion_fidelity as motion_fidelity
from analyses.metrics.clip_fidelity import clip_motion_fidelity as clip_motion_fidelity
from analyses.metrics.hybrid_fidelity import (
    hybrid_motion_fidelity as hybrid_motion_fidelity,
    discrete_frechet_distance as discrete_frechet_distance,
)
from analyses.metrics.appearance import (
    edit_fidelity as edit_fidelity,
    temporal_consistency as temporal_consistency,
)
from analyses.metrics.encoders import (
    load_clip_model as load_clip_model,
    load_clip_encoder as load_clip_encoder,
    load_image_encoder as load_image_encoder,
)

# Object motion
from analyses.scenes.object_motion import (
    ObjectMotion as ObjectMotion,
    object_motion as object_motion,
    motion_error as motion_error,
)
from analyses.scenes.colour_leak import colour_leak as colour_leak
from analyses.scenes.coherence import (
    ObjectCoherence as ObjectCoherence,
    object_coherence as object_coherence,
)
from analyses.scenes.prompt_agreement import (
    PromptAgreement as PromptAgreement,
    prompt_agreement as prompt_agreement,
    agreement_dataset as agreement_dataset,
)

# Figures and overlays
from analyses.plots.attention import (
    plot_attention as plot_attention,
    plot_pca as plot_pca,
)
from analyses.plots.layers import (
    plot_layer_step as plot_layer_step,
    plot_heads as plot_heads,
    plot_best_layers as plot_best_layers,
)
from analyses.plots.heads import plot_head_classes as plot_head_classes
from analyses.plots.comparison import plot_comparison as plot_comparison
from analyses.plots.images import plot_images as plot_images
from analyses.plots.selection import plot_selection as plot_selection
from analyses.plots.tracks import plot_tracks as plot_tracks
from analyses.plots.closer import plot_closer as plot_closer
from analyses.plots.evaluation import (
    plot_accuracy_per_threshold as plot_accuracy_per_threshold,
    plot_clip_scores as plot_clip_scores,
    plot_error_over_time as plot_error_over_time,
)
from analyses.plots.flow import (
    plot_flow as plot_flow,
    plot_flow_arrows as plot_flow_arrows,
)
from analyses.plots.transfer import plot_transfer as plot_transfer
from analyses.plots.overlay import (
    draw_tracks as draw_tracks,
    drawn_images as drawn_images,
    overlay_strip as overlay_strip,
)

# MTBench
from analyses.evaluation.motionbench import (
    motion_scene_entries as motion_scene_entries,
    motionbench_table as motionbench_table,
    read_motionbench_entries as read_motionbench_entries,
)
from analyses.evaluation.mtbench import (
    Measures as Measures,
    evaluate_mtbench as evaluate_mtbench,
    mtbench_means as mtbench_means,
)
from analyses.evaluation.mtbench_entries import (
    Entry as Entry,
    read_mtbench_entries as read_mtbench_entries,
    scene_entries as scene_entries,
)
from analyses.evaluation.mtbench_difficulty import (
    Difficulty as Difficulty,
    motion_difficulty as motion_difficulty,
)
from analyses.evaluation.mtbench_tables import (
    mtbench_table as mtbench_table,
    published_mtbench as published_mtbench,
)
