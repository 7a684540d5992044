"""Trackers evaluated as TAP-Vid evaluates them: clip by clip, with 95 % intervals over the clips."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from analyses.evaluation.checkpoint import EvaluationCheckpoint, FinishedClip, described
from analyses.metrics.registry import TRACKING_METRICS, TrackingMetric
from analyses.statistics import bootstrap_mean, mean_over_clips
from store.arguments import checked, checked_but
from store.clips.clip import Clip
from store.clips.digest import digest_of_clip
from store.datasets.tapvid_raster import to_raster
from store.errors import ClipError, InvalidInputError
from store.progress import progress_bar
from store.tracks.point_tracks import PointTracks, Tracker

if TYPE_CHECKING:
    from analyses.metrics.tapvid import QueryMode

Progress = Callable[[int, int | None, str], object]

_LONG_NAMES = {
    "average_pts_within_thresh": "position accuracy",
    "average_jaccard": "average Jaccard",
    "occlusion_accuracy": "occlusion accuracy",
}


@checked_but("trackers")
def evaluate_tapvid(
    clips: Mapping[str, Clip] | Iterable[tuple[str, Clip]],
    trackers: Mapping[str, Tracker],
    *,
    mode: QueryMode = "first",
    stride: int = 5,
    first_image_only: bool = False,
    metrics: Iterable[str] = (),
    data: str = "",
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
) -> xr.Dataset:
    """TAP-Vid's metrics of trackers on the same clips and queries.

    Parameters
    ----------
    clips : Clips with tracks and visibility by name, or pairs of name and Clip
        Taken one at a time, so that :func:`store.datasets.tapvid.iter_tapvid` keeps one in memory.
    trackers : by the name that they have in the result
        Each is called with the images and (point, 3) queries as (image, x, y) in pixels of the clip. A true position
        beyond the border of the image is queried at the border.
    mode, stride : which queries, see :func:`analyses.metrics.tapvid.tapvid_queries`
    first_image_only : query only points that are visible in image 0, as DiffTrack's released evaluation does
    metrics : names of further metrics, of :data:`analyses.metrics.registry.TRACKING_METRICS`
    data : name of the set of clips, kept with the result
    checkpoint : a file to which every finished clip is appended
    resume : continue that file; finished clips are not tracked again
    overwrite : replace that file once the first clip is finished
    progress : called with (clips tracked, total or None if unknown, what is tracked next); a clip counts once for each
        tracker. By default a bar in notebooks and interactive sessions; False for none.

    Returns
    -------
    Dataset over ``tracker`` and ``clip``
        A variable for each metric of :func:`analyses.metrics.tapvid.tapvid_metrics`, here in percent, for each further
        one, and ``seconds``;
        over ``clip`` the numbers of its ``images`` and ``queries``. Attributes, as JSON: ``settings`` and ``skipped``,
        the names of the clips that have no query.

    Raises
    ------
    InvalidInputError
        No trackers, no clips or none with a query, another mode, an unknown metric, a checkpoint of other settings or
        clips.
    ClipError
        For a clip without tracks.
    OutputExistsError
        When the checkpoint exists and neither ``resume`` nor ``overwrite`` is asked for.
    RecordingError
        For a damaged checkpoint, or one that cannot be written.

    Notes
    -----
    Doersch et al., "TAP-Vid: A Benchmark for Tracking Any Point in a Video" (2022). The figures of a set are means
    over its clips: :func:`tapvid_means`.

    Examples
    --------
    A point that moves 3 px an image in a clip of 128 x 128 px, 6 px of the raster:

    >>> from analyses.trackers.static import StaticTracker
    >>> tracks = np.array([[[10.0, 20.0]], [[13.0, 20.0]], [[16.0, 20.0]]])
    >>> clip = Clip(np.zeros((3, 128, 128, 3), np.uint8), fps=25, tracks=tracks)
    >>> found = evaluate_tapvid({"goat": clip}, {"nothing moves": StaticTracker()})
    >>> dict(found.sizes), [found[f"pts_within_{pixels}"].item() for pixels in (4, 8, 16)]
    ({'tracker': 1, 'clip': 1}, [0.0, 50.0, 100.0])
    """
    _check(trackers, mode, stride, first_image_only)
    asking = _Asking(mode, stride, first_image_only)
    settings = {"data": data, "mode": mode, "stride": stride, "first_image_only": first_image_only}
    settings["trackers"] = {name: described(tracker) for name, tracker in trackers.items()}
    if mode == "first":
        del settings["stride"]
    further = {name: TRACKING_METRICS[name] for name in metrics}
    if further:
        settings["metrics"] = list(further)
    kept = EvaluationCheckpoint(checkpoint, settings, resume=resume, overwrite=overwrite)
    total = len(clips) * len(trackers) if isinstance(clips, Mapping) else None
    finished: list[FinishedClip] = []
    skipped: list[str] = []
    with progress_bar(progress, "tracking") as tell:
        for name, clip in clips.items() if isinstance(clips, Mapping) else clips:
            asked = asking.of(name, clip)
            if asked is None:
                skipped.append(name)
                continue
            digest = digest_of_clip(clip)
            for label, tracker in trackers.items():
                if tell is not None:
                    tell(len(finished), total, f"{name} ({label})")
                found = kept.find(label, name, digest)
                if found is None:
                    found = _tracked(label, tracker, name, clip, digest, asked, further)
                    kept.add(found)
                finished.append(found)
        if not finished:
            raise InvalidInputError(_nothing(skipped, first_image_only))
        if tell is not None:
            tell(len(finished), len(finished), "all clips")
    attrs = {"settings": json.dumps(settings), "skipped": json.dumps(skipped)}
    return _dataset(finished, list(trackers)).assign_attrs(attrs)


@dataclass(frozen=True)
class _Asked:
    """Queries (point, 3) as (image, x, y) inside the clip, the truth of each on the raster and in it, and the mode."""

    queries: np.ndarray
    tracks: np.ndarray
    in_clip: np.ndarray
    visibility: np.ndarray
    mode: QueryMode


@dataclass(frozen=True)
class _Asking:
    mode: QueryMode
    stride: int
    first_image_only: bool

    def of(self, name: str, clip: Clip) -> _Asked | None:
        """Return the queries of a clip; None if there are none."""
        if clip.tracks is None or clip.visibility is None:
            raise ClipError(f"clip {name!r} has no tracks, so nothing can be evaluated on it. Leave it out.")
        from analyses.metrics.tapvid import tapvid_queries

        found, owner = tapvid_queries(clip.tracks, clip.visibility, self.mode, self.stride)
        if self.first_image_only:
            found, owner = found[found[:, 0] == 0], owner[found[:, 0] == 0]
        if not len(found):
            return None
        queries = np.clip(found[:, [0, 2, 1]], 0, [len(clip), clip.width, clip.height])
        truth = clip.tracks[:, owner]
        return _Asked(queries, to_raster(truth, clip), truth, clip.visibility[:, owner], self.mode)


def _tracked(
    label: str,
    tracker: Tracker,
    name: str,
    clip: Clip,
    digest: str,
    asked: _Asked,
    further: Mapping[str, TrackingMetric],
) -> FinishedClip:
    began = time.perf_counter()
    found = tracker(clip.images, asked.queries.copy())
    seconds = round(time.perf_counter() - began, 3)
    shape = (len(clip), len(asked.queries), 2)
    if not isinstance(found, PointTracks) or found.tracks.shape != shape:
        got = found.tracks.shape if isinstance(found, PointTracks) else type(found).__name__
        raise InvalidInputError(f"tracker {label!r} must return PointTracks of the shape {shape}; got {got}.")
    from analyses.metrics.tapvid import tapvid_metrics

    metrics = tapvid_metrics(
        asked.queries,
        asked.tracks,
        asked.visibility,
        to_raster(found.tracks, clip),
        found.visibility,
        mode=asked.mode,
    )
    size = (clip.height, clip.width)
    more = {
        each: float(metric.measure(found, asked.in_clip, asked.visibility, size)) for each, metric in further.items()
    }
    return FinishedClip(label, name, digest, len(clip), len(asked.queries), metrics, seconds, more)


def _check(trackers: Mapping[str, Tracker], mode: str, stride: int, first_image_only: bool) -> None:
    if not isinstance(trackers, Mapping) or not trackers or not all(map(callable, trackers.values())):
        raise InvalidInputError("trackers must be at least one callable by name, for example {'flow': FlowTracker()}.")
    from analyses.metrics.tapvid import tapvid_queries

    tapvid_queries(np.zeros((1, 1, 2)), np.ones((1, 1), bool), mode, stride)  # type: ignore[arg-type]  # rejects both
    if first_image_only and mode != "first":
        raise InvalidInputError(
            f"first_image_only=True asks as mode 'first' does, but mode is {mode!r}. Leave one of them out."
        )


def _nothing(skipped: list[str], first_image_only: bool) -> str:
    if not skipped:
        return "no clips were given. Pass at least one."
    shown = "visible in image 0" if first_image_only else "visible in an image that is asked about"
    return f"none of the {len(skipped)} clips has a point that is {shown}, so there is nothing to evaluate."


def _dataset(finished: list[FinishedClip], trackers: list[str]) -> xr.Dataset:
    names = list(dict.fromkeys(each.clip for each in finished))
    rows = {(each.tracker, each.clip): each for each in finished}
    if len(rows) < len(finished):
        raise InvalidInputError("two clips have the same name. Rename one of them.")

    def table(value: Callable[[FinishedClip], Any]) -> np.ndarray:
        return np.array([[value(rows[tracker, name]) for name in names] for tracker in trackers])

    both, found = ("tracker", "clip"), xr.Dataset(coords={"tracker": trackers, "clip": names})
    for metric in finished[0].metrics:
        long_name = _LONG_NAMES.get(metric, metric.replace("_", " "))
        values = 100 * table(lambda each, metric=metric: each.metrics[metric])  # type: ignore[misc]
        found[metric] = both, values, {"long_name": long_name, "units": "%"}
    for metric in finished[0].further:
        of_metric = TRACKING_METRICS[metric]
        factor, units = (100, "%") if of_metric.units == "1" else (1, of_metric.units)
        values = factor * table(lambda each, metric=metric: each.further[metric])  # type: ignore[misc]
        found[metric] = both, values, {"long_name": of_metric.long_name, "units": units}
    found["seconds"] = both, table(lambda each: each.seconds), {"long_name": "time of the tracker", "units": "s"}
    for count in ("images", "queries"):
        found[count] = "clip", table(lambda each, count=count: getattr(each, count))[0], {"long_name": count}  # type: ignore[misc]
    return found


def in_percent(evaluation: xr.Dataset) -> xr.Dataset:
    """An evaluation with its metrics in percent; older files hold fractions, as their units state.

    Examples
    --------
    >>> both = ("tracker", "clip")
    >>> old = xr.Dataset({"jaccard_1": (both, [[0.25]], {"units": "1"}), "seconds": (both, [[2.0]], {"units": "s"})})
    >>> [in_percent(in_percent(old))[name].item() for name in old]
    [25.0, 2.0]
    """
    fractions = [name for name in evaluation if evaluation[name].attrs.get("units") == "1"]
    changed = {
        name: (100 * evaluation[name]).assign_attrs({**evaluation[name].attrs, "units": "%"}) for name in fractions
    }
    return evaluation.assign(changed)


@checked
def tapvid_means(evaluation: xr.Dataset) -> xr.Dataset:
    """The figures of a set: the mean over its clips, each counting the same, and a 95 % interval over clips.

    Parameters
    ----------
    evaluation : Dataset of :func:`evaluate_tapvid`

    Returns
    -------
    Dataset over ``tracker`` and ``bound`` (mean, lower, upper)
        The metrics in percent. A clip whose value is NaN takes no part in that mean, as in
        :func:`analyses.metrics.tapvid.mean_tapvid_metrics`; the interval is NaN for a single clip. Clips are resampled
        (:func:`analyses.statistics.bootstrap_mean`), the same ones for every tracker.

    Examples
    --------
    >>> values = xr.DataArray([[25.0, 75.0]], dims=("tracker", "clip"), coords={"tracker": ["flow"]})
    >>> tapvid_means(xr.Dataset({"average_jaccard": values}))["average_jaccard"].sel(bound="mean").values
    array([50.])
    """
    if not evaluation.sizes.get("clip", 1):
        raise InvalidInputError("the evaluation holds no clips.")
    evaluation = in_percent(evaluation)
    metrics = [name for name in evaluation if evaluation[name].dims == ("tracker", "clip") and name != "seconds"]
    bound = xr.Variable("bound", ["mean", "lower", "upper"])
    found = xr.Dataset(attrs=evaluation.attrs)
    for name in metrics:
        values = evaluation[name]
        ends = [mean_over_clips(values), *bootstrap_mean(values)]
        found[name] = xr.concat(ends, bound).transpose("tracker", "bound").assign_attrs(values.attrs)
    return found
