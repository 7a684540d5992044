"""An evaluation of trackers as text: clip by clip, and the means of the set with their intervals."""

from __future__ import annotations

import json
import math

import xarray as xr

from analyses.evaluation.tapvid import in_percent, tapvid_means
from ditprobe.cli.text.tables import plain_table
from store.datasets.tapvid_raster import RASTER, THRESHOLDS

_METRICS = {
    "position": "average_pts_within_thresh",
    "Jaccard": "average_jaccard",
    "occlusion": "occlusion_accuracy",
}
_LONGEST_NAME = 20
_HEADING = (
    f"each clip, %; position and Jaccard are means over {', '.join(map(str, THRESHOLDS))} px of {RASTER} x {RASTER}"
)


def clip_table(evaluation: xr.Dataset, *, max_clips: int = 100) -> str:
    """A row for each clip and tracker: position accuracy, average Jaccard and occlusion accuracy in percent.

    Parameters
    ----------
    evaluation : Dataset of :func:`analyses.evaluation.tapvid.evaluate_tapvid`
    max_clips : largest number of clips that are shown

    Examples
    --------
    >>> metrics = ("average_pts_within_thresh", "average_jaccard", "occlusion_accuracy")
    >>> found = xr.Dataset({name: (("tracker", "clip"), [[50.0], [25.0]]) for name in metrics})
    >>> found = found.assign(images=("clip", [90]), queries=("clip", [25]))
    >>> print(clip_table(found.assign_coords(tracker=["flow", "patches"], clip=["goat"])))
    each clip, %; position and Jaccard are means over 1, 2, 4, 8, 16 px of 256 x 256
    clip   images  queries  tracker   position    Jaccard  occlusion
    goat       90       25  flow          50.0       50.0       50.0
                            patches       25.0       25.0       25.0
    """
    evaluation = in_percent(evaluation)
    names, trackers = ([str(name) for name in evaluation[dim].values] for dim in ("clip", "tracker"))
    columns = [("clip", 0), ("images", 7), ("queries", 7), ("tracker", 0), *((name, 9) for name in _METRICS)]
    rows = []
    for number, name in enumerate(names[:max_clips]):
        one = evaluation.isel(clip=number)
        start = (_short(name), str(int(one["images"])), str(int(one["queries"])))
        for tracker, called in enumerate(trackers):
            cells = (_percent(one[metric][tracker]) for metric in _METRICS.values())
            rows.append((*start, called, *cells))
            start = ("", "", "")
    lines = [_HEADING, *plain_table(columns, rows, left=(0, 3))]
    if len(names) > max_clips:
        lines.append(f"... and {len(names) - max_clips} more clips")
    return "\n".join(lines)


def mean_table(evaluation: xr.Dataset) -> str:
    """The means over clips in percent with 95 % intervals, and the position accuracy within each threshold.

    Examples
    --------
    >>> metrics = ["average_pts_within_thresh", "average_jaccard", "occlusion_accuracy"]
    >>> metrics += [f"pts_within_{pixels}" for pixels in THRESHOLDS]
    >>> found = xr.Dataset({name: (("tracker", "clip"), [[50.0, 25.0]]) for name in [*metrics, "seconds"]})
    >>> print(mean_table(found.assign_coords(tracker=["flow"], clip=["goat", "swan"])))
    mean over 2 clips, % (95 % interval over clips)
    tracker  position              Jaccard               occlusion
    flow     37.5 (25.0-50.0)      37.5 (25.0-50.0)      37.5 (25.0-50.0)
    <BLANKLINE>
    position accuracy by threshold (px of 256 x 256), %
    tracker   1 px   2 px   4 px   8 px  16 px  seconds a clip
    flow      37.5   37.5   37.5   37.5   37.5            37.5
    """
    means, clips = tapvid_means(evaluation), evaluation.sizes["clip"]
    trackers = [str(name) for name in evaluation["tracker"].values]
    over = "mean over 1 clip, %" if clips == 1 else f"mean over {clips} clips, % (95 % interval over clips)"
    intervals = [(name, *(_interval(means[key].sel(tracker=name)) for key in _METRICS.values())) for name in trackers]
    every = range(len(_METRICS) + 1)
    lines = [over, *plain_table([("tracker", 0), *((name, 20) for name in _METRICS)], intervals, left=every)]
    seconds, within = evaluation["seconds"].mean("clip"), []
    for name in trackers:
        one = means.sel(tracker=name, bound="mean")
        cells = (_percent(one[f"pts_within_{pixels}"]) for pixels in THRESHOLDS)
        within.append((name, *cells, f"{float(seconds.sel(tracker=name)):.1f}"))
    columns = [(f"{pixels} px", 5) for pixels in THRESHOLDS]
    lines += ["", f"position accuracy by threshold (px of {RASTER} x {RASTER}), %"]
    lines += plain_table([("tracker", 0), *columns, ("seconds a clip", 0)], within)
    return "\n".join(lines)


def skipped_line(evaluation: xr.Dataset) -> str | None:
    """Line that names the clips without a query; None if there are none.

    Examples
    --------
    >>> skipped_line(xr.Dataset(attrs={"skipped": '["goat", "swan"]'}))
    'left out, without a query: goat, swan'
    """
    skipped = json.loads(evaluation.attrs["skipped"])
    return f"left out, without a query: {', '.join(skipped)}" if skipped else None


def _interval(values: xr.DataArray) -> str:
    mean, low, high = (float(values.sel(bound=bound)) for bound in ("mean", "lower", "upper"))
    if math.isnan(mean):
        return "-"
    return f"{mean:.1f}" if math.isnan(low) else f"{mean:.1f} ({low:.1f}-{high:.1f})"


def _percent(value: xr.DataArray) -> str:
    number = float(value)
    return "-" if math.isnan(number) else f"{number:.1f}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
