"""Every picture, each a pure function of labelled arrays that returns a ``plotly.graph_objects.Figure``."""

from analyses.plots_flow import plot_flow, plot_flow_arrows
from analyses.plots_layers import plot_best_layers, plot_heads, plot_layer_step
from analyses.plots_selection import plot_selection
from analyses.plots_tracking import plot_accuracy_per_threshold, plot_clip_scores, plot_error_over_time
from analyses.plots_tracks import plot_tracks
from analyses.plots_transfer import plot_transfer
from analyses.plots_video import plot_attention, plot_pca

__all__ = [
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
]
