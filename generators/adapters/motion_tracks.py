"""Tracks of the clip that an adapter is trained on: its own, or estimated by a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from generators.adapters.latent_tracks import (
    LatentTracks,
    TracksPreset,
    check_tracks,
    latent_tracks,
    mask_of,
    sample_foreground,
)
from probe.backbones.backbone import Backbone
from store.arguments import Array, check_fields, checked_but
from store.checks import integer, one_of
from store.clips.clip import Clip
from store.errors import ClipError
from store.tracks.point_tracks import Tracker

TracksFrom = Literal["auto", "clip", "backbone", "flow"]


@dataclass(frozen=True, eq=False)
class MotionTracks:
    """Points followed through a clip.

    Parameters
    ----------
    tracks : (image, point, 2), (x, y) in pixels of the clip, pixel centres at +0.5
    visibility : (image, point) bool
    source : str
        Who followed them.
    """

    tracks: np.ndarray
    visibility: np.ndarray
    source: str

    def __post_init__(self) -> None:
        check_fields(self)

    def in_latents(self, backbone: Backbone, latents: Tensor, clip: Clip, preset: TracksPreset) -> LatentTracks:
        """These tracks at the times of latent frames: :func:`generators.adapters.latent_tracks.latent_tracks`."""
        return latent_tracks(backbone, latents, clip, self.tracks, self.visibility, preset=preset)


@checked_but("source")
def tracks_of(
    clip: Clip,
    backbone: Backbone,
    *,
    source: TracksFrom | Tracker = "auto",
    mask: Array | None = None,
    points: int = 100,
    seed: int = 0,
    conditioning: Mapping[str, Any] | None = None,
) -> MotionTracks:
    """Tracks of the foreground of a clip.

    Parameters
    ----------
    clip : Clip
    backbone : Backbone
    source : "auto", "clip", "backbone", "flow", or a Tracker
        "clip": the clip's own tracks; "backbone": :func:`analyses.track_points`; "flow": optical flow (OpenCV);
        "auto": the clip's own where it has some, else those of the backbone. DeT has CoTracker's:
        :meth:`analyses.trackers.cotracker.CoTracker.from_hub` gives such a tracker.
    mask : (y, x), optional
        The foreground in image 0; by default the clip's own mask. Without one, points are taken from the whole image.
    points : int
        At most.
    seed : int
        Seed of the points that are drawn.
    conditioning : mapping, optional
        Conditioning of the passes of the backbone.

    Returns
    -------
    MotionTracks

    Raises
    ------
    ClipError
        For "clip" without tracks, a mask of another size, or an empty one.
    InvalidInputError
        For tracks of the clip that leave the image while they are visible.
    """
    integer(points, "points", min_value=1)
    foreground = mask_of(clip, mask)
    if not callable(source):
        one_of(source, ("auto", "clip", "backbone", "flow"), "source")
    if source == "auto":
        source = "backbone" if clip.tracks is None else "clip"
    if source == "clip":
        return _own(clip, foreground, points, seed)
    start = _start(clip, foreground, points, seed)
    queries = np.concatenate([np.zeros((len(start), 1)), start], axis=1)
    if source == "backbone":
        from analyses.tracking.track import track_points

        found = track_points(clip, queries, backbone, conditioning=conditioning, progress=False)
    else:
        found = _tracker(source)(clip.images, queries)
    inside = _inside(found.tracks, clip)
    return MotionTracks(found.tracks, found.visibility & inside, source if isinstance(source, str) else "tracker")


def _own(clip: Clip, foreground: np.ndarray | None, points: int, seed: int) -> MotionTracks:
    if clip.tracks is None:
        raise ClipError("the clip has no tracks of its own. Take those of 'backbone' or 'flow', or of a tracker.")
    tracks, seen = np.asarray(clip.tracks, np.float64), np.asarray(clip.visibility, bool)
    check_tracks(clip, tracks, seen)
    chosen = np.flatnonzero(seen[0]) if seen[0].any() else np.arange(tracks.shape[1])
    if foreground is not None:
        x, y = np.clip(tracks[0, chosen].T.astype(int), 0, [[clip.width - 1], [clip.height - 1]])
        on = chosen[foreground[y, x]]
        chosen = on if len(on) else chosen
    if len(chosen) > points:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, points, replace=False))
    return MotionTracks(tracks[:, chosen], seen[:, chosen], clip.tracks_source or "the clip")


def _start(clip: Clip, foreground: np.ndarray | None, points: int, seed: int) -> np.ndarray:
    """(point, 2): where points begin in image 0."""
    if foreground is not None:
        return sample_foreground(foreground, points, seed=seed)
    side = max(1, int(points**0.5))
    x, y = np.meshgrid((np.arange(side) + 0.5) / side * clip.width, (np.arange(side) + 0.5) / side * clip.height)
    return np.stack([x.ravel(), y.ravel()], -1)


def _inside(tracks: np.ndarray, clip: Clip) -> np.ndarray:
    return np.asarray(((tracks >= 0) & (tracks <= [clip.width, clip.height])).all(-1))


def _tracker(source: str | Tracker) -> Tracker:
    if not isinstance(source, str):
        return source
    from analyses.trackers.optical_flow import FlowTracker

    return FlowTracker()
