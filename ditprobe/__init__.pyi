"""Public names of ditprobe, grouped by task."""

# Clips, scenes and data sets
from store.clips.clip import Clip as Clip
from store.scenes.scene import make_scene as make_scene
from store.clips.video import (
    read_clip as read_clip,
    write_clip as write_clip,
)
from store.scenes.prompt import (
    ScenePrompt as ScenePrompt,
    parse_prompt as parse_prompt,
)
from store.clips.encoding import write_video as write_video
from probe.run.windows import cut_windows as cut_windows
from store.datasets.difftrack import read_difftrack as read_difftrack
from store.datasets.mtbench import read_mtbench as read_mtbench
from store.datasets.read_clips import read_clips as read_clips
from store.datasets.tapvid import read_tapvid as read_tapvid
from store.datasets.tapvid_writing import write_tapvid as write_tapvid

# Models
from probe.backbones.backbone import Backbone as Backbone
from probe.loading.load_backbone import load_backbone as load_backbone
from ditprobe.planning.model_plan import (
    ModelPlan as ModelPlan,
    plan_model as plan_model,
)
from probe.families.registry import register_family as register_family

# Runs and captures
from probe.run.run import (
    run_clip as run_clip,
    run_prompt as run_prompt,
)
from probe.capture.capture import Capture as Capture
from probe.capture.probe import Probe as Probe
from store.selection import Selection as Selection
from store.layout import TokenLayout as TokenLayout
from store.plan import Plan as Plan

# Recordings
from probe.recording.record import record as record
from probe.recording.plan import plan_recording as plan_recording
from store.recordings.reader import (
    open_recording as open_recording,
    Recording as Recording,
)
from store.recordings.writer import RecordingWriter as RecordingWriter
from store.recordings.provenance import Provenance as Provenance

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
from analyses.metrics.accuracy import matching_accuracy as matching_accuracy
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
from analyses.metrics.end_point import end_point_error as end_point_error
from analyses.flow.files import (
    save_flow as save_flow,
    load_flow as load_flow,
)

# Sampling and guidance
from generators.sampling.sample import sample as sample
from generators.sampling.strategy import Strategy as Strategy
from generators.guidance.cross_attention import CrossAttentionGuidance as CrossAttentionGuidance
from generators.guidance.diffusers_guider import CrossAttentionGuider as CrossAttentionGuider

# Motion transfer
from generators.transfer.motion_transfer import (
    transfer_motion as transfer_motion,
    MotionTransfer as MotionTransfer,
)
from generators.transfer.methods import (
    make_method as make_method,
    register_method as register_method,
)
from generators.transfer.ditflow import DiTFlow as DiTFlow
from generators.transfer.smm import SMM as SMM
from generators.transfer.moft import MOFT as MOFT
from generators.transfer.motion_clone import MotionClone as MotionClone
from generators.transfer.injection import Injection as Injection
from generators.transfer.embedding import (
    InjectMotion as InjectMotion,
    MotionEmbedding as MotionEmbedding,
)
from generators.transfer.method import PlainBackbone as PlainBackbone
from generators.adapters.det import (
    DeT as DeT,
    DreamBooth as DreamBooth,
    InvertedMotion as InvertedMotion,
)
from generators.adapters.decoupled.follow_your_motion import FollowYourMotion as FollowYourMotion
from generators.adapters.training.settings import Training as Training
from generators.adapters.training.train import train_adapter as train_adapter
from generators.adapters.fitted import FittedMotion as FittedMotion
from generators.adapters.files import (
    save_adapter as save_adapter,
    load_adapter as load_adapter,
)
from generators.transfer.embedding_files import (
    save_embedding as save_embedding,
    load_embedding as load_embedding,
)

# Metrics of generated videos
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
from analyses.scenes.object_motion import (
    object_motion as object_motion,
    motion_error as motion_error,
)
from analyses.scenes.colour_leak import colour_leak as colour_leak
from analyses.scenes.prompt_agreement import prompt_agreement as prompt_agreement
from analyses.evaluation.motionbench import (
    motion_scene_entries as motion_scene_entries,
    motionbench_table as motionbench_table,
    read_motionbench_entries as read_motionbench_entries,
)
from analyses.evaluation.mtbench import (
    evaluate_mtbench as evaluate_mtbench,
    Measures as Measures,
)
from analyses.evaluation.mtbench_entries import (
    read_mtbench_entries as read_mtbench_entries,
    scene_entries as scene_entries,
)
from analyses.evaluation.mtbench_tables import mtbench_table as mtbench_table

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
from ditprobe.report.figures import save_figure as save_figure

# Reports
from ditprobe.report.report import write_report as write_report
from ditprobe.report.sweep import Example as Example
from ditprobe.report.examples import make_examples as make_examples
from ditprobe.report.heads import (
    HeadExample as HeadExample,
    make_head_examples as make_head_examples,
)
from ditprobe.report.closer import (
    CloserClip as CloserClip,
    closer_clip as closer_clip,
)
from ditprobe.report.transfer import (
    transferred_clip as transferred_clip,
    TransferredClip as TransferredClip,
)

# Exploring
from ditprobe.explorer.explore import explore as explore
