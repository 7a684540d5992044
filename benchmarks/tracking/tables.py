"""Measurements of trackers as Markdown, with 95 % bootstrap intervals over clips."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr

from analyses.statistics import bootstrap_mean
from benchmarks.mini_quality.accuracy import interval
from store.datasets.tapvid_raster import THRESHOLDS

MAIN = {
    "average_pts_within_thresh": "position accuracy",
    "average_jaccard": "average Jaccard",
    "occlusion_accuracy": "occlusion accuracy",
    "within_cell": "within one cell",
}

FEW = 5
"""Clips below which a bootstrap interval means little: it is not printed."""


def main_table(found: xr.DataArray) -> str:
    """The averages by tracker."""
    lines = ["| tracker, % | " + " | ".join(MAIN.values()) + " |", "|---|" + "---:|" * len(MAIN)]
    for tracker in found["tracker"].values:
        cells = [interval(found.sel(tracker=tracker, metric=metric)) for metric in MAIN]
        lines.append(f"| {tracker} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def threshold_table(found: xr.DataArray) -> str:
    """Position accuracy / Jaccard at each threshold by tracker, means over clips."""
    titles = [f"{threshold} px" for threshold in THRESHOLDS]
    lines = ["| position accuracy / Jaccard, % | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    means = found.mean("clip")
    for tracker in found["tracker"].values:
        here = means.sel(tracker=tracker)
        cells = [
            f"{float(here.sel(metric=f'pts_within_{t}')):.1f} / {float(here.sel(metric=f'jaccard_{t}')):.1f}"
            for t in THRESHOLDS
        ]
        lines.append(f"| {tracker} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference_table(found: xr.DataArray, first: str, others: Iterable[str]) -> str:
    """Advantage of ``first`` over each of the others on the same clips, in points.

    With an interval over clips; of fewer than :data:`FEW` clips, which allow none, the difference on each.
    """
    few = found.sizes["clip"] < FEW
    how = f"mean ({', '.join(found['clip'].values)})" if few else "paired by clip"
    lines = [f"| points, {how} | " + " | ".join(MAIN.values()) + " |", "|---|" + "---:|" * len(MAIN)]
    for other in others:
        cells = []
        for metric in MAIN:
            ahead = found.sel(tracker=first, metric=metric) - found.sel(tracker=other, metric=metric)
            if few:
                beside = ", ".join(f"{value:+.1f}" for value in ahead.values)
            else:
                low, high = bootstrap_mean(ahead)
                beside = f"{float(low):+.1f} to {float(high):+.1f}"
            cells.append(f"{float(ahead.mean('clip')):+.1f} ({beside})")
        lines.append(f"| {first} - {other} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def clip_table(found: xr.DataArray) -> str:
    """Position accuracy / occlusion accuracy of every clip by tracker: for clips too few for an interval."""
    clips = found["clip"].values
    lines = [
        "| position / occlusion accuracy, % | " + " | ".join(clips) + " | mean |",
        "|---|" + "---:|" * (len(clips) + 1),
    ]
    for tracker in found["tracker"].values:
        here = found.sel(tracker=tracker)
        parts = [here.sel(clip=clip) for clip in clips] + [here.mean("clip")]
        names = ("average_pts_within_thresh", "occlusion_accuracy")
        cells = [" / ".join(f"{float(part.sel(metric=name)):.1f}" for name in names) for part in parts]
        lines.append(f"| {tracker} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
