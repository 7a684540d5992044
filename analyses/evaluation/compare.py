"""Comparison of trackers on the same clips: their scores, and every track that they found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from analyses.evaluation.checkpoint import described
from analyses.evaluation.tapvid import Progress, evaluate_tapvid
from analyses.metrics.tapvid import tapvid_queries
from analyses.metrics.track_errors import gather_errors, tracking_errors
from analyses.optical_flow import opencv
from analyses.trackers.backbone import BackboneTracker
from analyses.trackers.optical_flow import FlowTracker
from analyses.trackers.patches import PatchTracker
from analyses.trackers.static import StaticTracker
from analyses.tracking.options import PUBLISHED
from probe.backbones.backbone import Backbone
from store.arguments import checked
from store.clips.clip import Clip
from store.errors import MissingOpenCVError
from store.tracks.point_tracks import PointTracks, Tracker


@dataclass(frozen=True, eq=False)
class TrackedClip:
    """One clip with the points that a tracker followed in it.

    Parameters
    ----------
    name : str
    clip : Clip; its tracks and visibility, where it has them, are the truth of the same points
    tracks : PointTracks
    """

    name: str
    clip: Clip
    tracks: PointTracks


@dataclass(frozen=True, eq=False)
class Compared:
    """Scores of trackers, and the tracks that they found.

    Parameters
    ----------
    evaluation : Dataset of :func:`analyses.evaluation.tapvid.evaluate_tapvid`, and in it the variables of
        :func:`analyses.metrics.track_errors.gather_errors`
    tracked : by name of the tracker, then of the clip
    """

    evaluation: xr.Dataset
    tracked: Mapping[str, Mapping[str, TrackedClip]]


@dataclass(frozen=True, eq=False)
class _Keeping:
    """A tracker that keeps what it found, in the order of its calls."""

    tracker: Tracker
    found: list[PointTracks] = field(default_factory=list)

    def __call__(self, images: np.ndarray, queries: np.ndarray) -> PointTracks:
        self.found.append(self.tracker(images, queries))
        return self.found[-1]


@checked
def usual_trackers(backbone: Backbone) -> dict[str, Tracker]:
    """Return the trackers of a backbone with ditprobe's and with the published options, and the baselines.

    Optical flow is one of the baselines if OpenCV is installed.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> list(usual_trackers(load_backbone(new_pipeline(MiniConfig(layers=2)))))[1:4]
    ['published procedure', 'raw patches', 'nothing moves']
    """
    found: dict[str, Tracker] = {
        backbone.name: BackboneTracker(backbone),
        "published procedure": BackboneTracker(backbone, options=PUBLISHED),
        "raw patches": PatchTracker.on_grid(backbone.layout(*backbone.default_size)),
        "nothing moves": StaticTracker(),
    }
    try:
        opencv()
    except MissingOpenCVError:
        return found
    return found | {"optical flow": FlowTracker()}


@checked
def compare_trackers(
    clips: Mapping[str, Clip], trackers: Mapping[str, Tracker], *, progress: Progress | bool | None = None
) -> Compared:
    """Evaluate trackers as TAP-Vid does in mode "first", and keep their errors and tracks; each runs once per clip.

    Parameters
    ----------
    clips : Clips with tracks and visibility, by name
    trackers : by the name that they have in the result
    progress : as in :func:`analyses.evaluation.tapvid.evaluate_tapvid`

    Raises
    ------
    InvalidInputError, ClipError
        As :func:`analyses.evaluation.tapvid.evaluate_tapvid`.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> found = compare_trackers({"scene": make_scene(0)}, {"nothing moves": StaticTracker()})
    >>> found.evaluation["error"].dims, found.tracked["nothing moves"]["scene"].tracks
    (('tracker', 'clip', 'lag'), PointTracks(100 points in 6 images, 100 % visible))
    """
    keeping = {name: _Keeping(tracker) for name, tracker in trackers.items()}
    evaluation = evaluate_tapvid(clips, keeping, progress=progress)
    settings: dict[str, Any] = json.loads(evaluation.attrs["settings"])
    settings["trackers"] = {name: described(tracker) for name, tracker in trackers.items()}
    asked = {str(name): _asked(clips[str(name)]) for name in evaluation["clip"].values}
    tracked = {
        label: {name: TrackedClip(name, *pair) for name, pair in zip(asked, _pairs(asked, kept.found), strict=True)}
        for label, kept in keeping.items()
    }
    errors = {label: {name: _errors(one) for name, one in each.items()} for label, each in tracked.items()}
    merged = evaluation.merge(gather_errors(errors))
    return Compared(merged.assign_attrs(settings=json.dumps(settings)), tracked)


def _pairs(asked: Mapping[str, Clip], found: list[PointTracks]) -> list[tuple[Clip, PointTracks]]:
    return list(zip(asked.values(), found, strict=True))


def _asked(clip: Clip) -> Clip:
    """The clip with the truth of every query, in the order of the queries."""
    _, owner = tapvid_queries(clip.tracks, clip.visibility)
    tracks, visibility = (None if part is None else part[:, owner] for part in (clip.tracks, clip.visibility))
    return replace(clip, tracks=tracks, visibility=visibility)


def _errors(one: TrackedClip) -> xr.Dataset:
    return tracking_errors(one.tracks, one.clip.tracks, one.clip.visibility, (one.clip.height, one.clip.width))
