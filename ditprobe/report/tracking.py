"""The section of a report about tracking: a comparison of trackers, and tracks on clips."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from analyses.evaluation.compare import TrackedClip
from analyses.evaluation.files import METRICS, WITHIN, check_evaluation
from analyses.evaluation.tapvid import in_percent, tapvid_means
from analyses.plots.evaluation import plot_accuracy_per_threshold, plot_clip_scores, plot_error_over_time
from analyses.plots.theme import PALETTE
from analyses.statistics import bootstrap_mean, mean_over_clips
from ditprobe.report.sweep import NARROW, ReportFigure, ShownExample, embed
from ditprobe.report.tables import NOT_RECORDED, Table
from ditprobe.report.views import clip_data, view
from ditprobe.report.words import FEW_CLIPS
from store.datasets.tapvid_raster import RASTER, THRESHOLDS
from store.text import counted, listed

_POSITION = next(iter(METRICS))
_NOTES = (
    f"Position accuracy is the fraction of truly visible points within {listed(THRESHOLDS)} px of an image of "
    f"{RASTER} x {RASTER}, averaged over these thresholds; occlusion accuracy is the fraction of points correctly "
    "predicted as visible or hidden. Jaccard needs both to be right. These are TAP-Vid's metrics.",
    "A backbone was never trained to track: “nothing moves” and raw patches on its own grid are the baselines that its "
    "attention should beat. Optical flow and models trained to track give the scale. They use pixels where a backbone "
    "has cells, and drawn scenes, crisp and evenly lit, are an easy case for flow.",
)


@dataclass(frozen=True)
class ShownTracking:
    """The section as the page shows it."""

    headline: str
    details: tuple[str, ...]
    tables: tuple[Table, ...]
    figures: tuple[ReportFigure, ...]
    clips: tuple[ShownExample, ...]
    notes: tuple[str, ...]


def tracking_part(
    evaluation: xr.Dataset | None, tracked: Sequence[TrackedClip], names: Iterator[str]
) -> ShownTracking | None:
    """Section of the page; None if there is nothing about tracking."""
    clips = tuple(_show_clip(one, names) for one in tracked)
    if evaluation is None:
        return ShownTracking("", (), (), (), clips, ()) if clips else None
    check_evaluation(evaluation)
    evaluation = in_percent(evaluation)
    return ShownTracking(
        _headline(evaluation),
        (_asked_in_words(evaluation), *_differences(evaluation)),
        (_table(evaluation),),
        tuple(embed(figure, names, NARROW) for figure in _figures(evaluation)),
        clips,
        _notes(evaluation),
    )


def _headline(evaluation: xr.Dataset) -> str:
    means = tapvid_means(evaluation)[_POSITION]
    best = means.isel(tracker=_best(means))
    mean, low, high = (float(best.sel(bound=bound)) for bound in ("mean", "lower", "upper"))
    interval = "" if math.isnan(low) else f" (95 % interval {low:.1f} to {high:.1f})"
    return f"Highest position accuracy: {best['tracker'].item()}, {mean:.1f} %{interval} over {_clips(evaluation)}."


def _asked_in_words(evaluation: xr.Dataset) -> str:
    settings = json.loads(evaluation.attrs.get("settings", "{}"))
    asked = f"Queries: {counted(int(evaluation['queries'].sum()), 'point')}"
    if settings.get("mode") == "strided":
        return f"{asked} in every {settings['stride']}th image, followed forward and backward in time."
    if settings.get("first_image_only"):
        return f"{asked}, all visible in image 0."
    return f"{asked}, each in the first image in which it is visible."


def _differences(evaluation: xr.Dataset) -> list[str]:
    """Lead of the backbone over each other tracker, paired by clip."""
    kinds = json.loads(evaluation.attrs.get("settings", "{}")).get("trackers", {})
    trackers = [str(name) for name in evaluation["tracker"].values]
    ours = next((name for name in trackers if _is_backbone(kinds.get(name))), None)
    if ours is None:
        return []
    position = evaluation[_POSITION]
    lines = []
    for other in trackers:
        ahead = position.sel(tracker=ours, drop=True) - position.sel(tracker=other, drop=True)
        if other != ours and ahead.notnull().any():
            lines.append(_difference(ours, other, ahead))
    return lines


def _is_backbone(settings: object) -> bool:
    return isinstance(settings, dict) and settings.get("kind") == "BackboneTracker"


def _difference(ours: str, other: str, ahead: xr.DataArray) -> str:
    mean, low, high = (float(value) for value in (mean_over_clips(ahead), *bootstrap_mean(ahead)))
    if math.isnan(low):
        return f"{ours} minus {other}: {mean:+.1f} percentage points of position accuracy on one clip."
    interval = f"by {abs(mean):.1f} percentage points of position accuracy"
    ends = sorted((abs(low), abs(high)))
    if low > 0 or high < 0:
        side = "ahead of" if low > 0 else "behind"
        return f"{ours} is {side} {other} {interval} (95 % interval {ends[0]:.1f} to {ends[1]:.1f}), paired by clip."
    return (
        f"{ours} and {other} are not distinguished by these clips: {mean:+.1f} percentage points of position accuracy "
        f"(95 % interval {low:+.1f} to {high:+.1f}), paired by clip."
    )


def _table(evaluation: xr.Dataset) -> Table:
    means = tapvid_means(evaluation)
    rows = [
        (str(name), *(_with_interval(means[metric].sel(tracker=name)) for metric in METRICS))
        for name in evaluation["tracker"].values
    ]
    caption = f"Trackers, means over {_clips(evaluation)} with 95 % intervals over clips; bold: the highest."
    header = ("tracker", *(f"{name} [%]" for name in METRICS.values()))
    highest = [means[metric].sel(bound="mean") for metric in METRICS]
    best = tuple(
        (int(row), column) for column, mean in enumerate(highest, 1) for row in np.flatnonzero(mean == mean.max())
    )
    return Table("table-trackers", caption, header, tuple(rows), strong_cells=best)


def _best(position: xr.DataArray) -> int:
    """Index of the tracker with the highest mean."""
    return int(np.argmax(position.sel(bound="mean").fillna(-1).values))


def _figures(evaluation: xr.Dataset) -> list[go.Figure]:
    shown = evaluation.isel(tracker=slice(len(PALETTE)))
    dim = xr.Variable("threshold", list(THRESHOLDS), {"units": f"px of a {RASTER} x {RASTER} image"})
    within = xr.concat([shown[name] for name in WITHIN], dim, combine_attrs="drop")
    within = within.assign_attrs(long_name="points within the threshold", units="%")
    position = shown[_POSITION].assign_attrs(long_name=METRICS[_POSITION], units="%")
    figures = [plot_accuracy_per_threshold(within), plot_clip_scores(position, title="Position accuracy, every clip")]
    if "error" in shown and "lag" in shown["error"].dims:
        figures.append(plot_error_over_time(shown["error"]))
    return figures


def _show_clip(one: TrackedClip, names: Iterator[str]) -> ShownExample:
    clip, tracks = one.clip, one.tracks
    shown = view("clip", clip_data(clip, tracks), names)
    hidden = 100 * (1 - tracks.visibility.mean()) if tracks.visibility.size else 0.0
    size = f"{len(clip)} images of {clip.height} x {clip.width} px (height x width)"
    points = counted(tracks.visibility.shape[1], "point")
    who = tracks.details.get("backbone") or tracks.details.get("tracker")
    followed = f"{size}; {points} followed" + (f" by {who}" if who else "")
    words = f"{followed}, {hidden:.0f} % of all positions predicted as hidden."
    return ShownExample(one.name, clip.prompt or "", words, (shown,))


def _notes(evaluation: xr.Dataset) -> tuple[str, ...]:
    notes = list(_NOTES)
    clips, trackers = evaluation.sizes["clip"], evaluation.sizes["tracker"]
    if clips < FEW_CLIPS:
        notes.insert(0, f"{counted(clips, 'clip').capitalize()}: too few to trust the intervals much.")
    if trackers > len(PALETTE):
        notes.insert(0, f"Drawn are the first {len(PALETTE)} of {trackers} trackers.")
    skipped = json.loads(evaluation.attrs.get("skipped", "[]"))
    if skipped:
        notes.insert(0, f"Left out, without a query: {listed(skipped)}.")
    return tuple(notes)


def _clips(evaluation: xr.Dataset) -> str:
    return counted(evaluation.sizes["clip"], "clip")


def _with_interval(values: xr.DataArray) -> str:
    """A mean and its interval (bound), in percent."""
    mean, low, high = (float(values.sel(bound=bound)) for bound in ("mean", "lower", "upper"))
    if math.isnan(mean):
        return NOT_RECORDED
    return f"{mean:.1f}" if math.isnan(low) else f"{mean:.1f} ({low:.1f} to {high:.1f})"
