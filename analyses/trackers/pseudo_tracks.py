"""Tracks for clips that have none: those of a tracker, labelled as pseudo-truth in all results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from analyses.trackers.optical_flow import FlowTracker
from store.arguments import check_kind, checked
from store.checks import integer
from store.clips.clip import Clip, Part
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks, Tracker, grid_points

_CALLED = {"flow": "optical flow", "raw patches": "raw patches", "nothing moves": "nothing moves"}


@checked
def with_pseudo_tracks(
    clip: Clip, tracker: Tracker | None = None, *, grid: int = 10, window: int | None = None
) -> Clip:
    """Return the clip with the tracks of a grid of points, as a tracker estimates them.

    They replace existing tracks. ``tracks_source`` of the result names the tracker, and a sweep states that its
    accuracy is against that tracker, not truth.

    Parameters
    ----------
    clip : Clip
    tracker : Tracker, optional
        By default :class:`analyses.trackers.optical_flow.FlowTracker`, which hides a point if the forward and backward
        flows do not lead back to it; or a :class:`analyses.trackers.cotracker.CoTracker`.
    grid : int
        Points along each side, at the centres of equal parts of an image.
    window : int, optional
        Number of images after which the points are chosen again: that of a window of a sweep, its ``images`` times its
        ``stride``. Each point is hidden outside its window. By default the points of image 0 are used for the whole
        clip.

    Returns
    -------
    Clip
        With ``tracks`` and ``visibility`` of grid x grid points for each window.

    Raises
    ------
    InvalidInputError
        For a grid or a window below one.
    MissingOpenCVError
        For optical flow where OpenCV is not installed.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> with_pseudo_tracks(make_scene(0, images=12), grid=4, window=6).tracks_source
    'optical flow'
    """
    grid, count = integer(integer(grid, "grid", min_value=1), "grid", max_value=1000), len(clip)
    window = count if window is None else integer(window, "window", min_value=1)
    tracker = FlowTracker() if tracker is None else tracker
    starts, points = range(0, count, window), grid_points(grid, clip.height, clip.width)
    tracks = np.repeat(np.tile(points, (len(starts), 1))[None], count, axis=0)
    visibility = np.zeros(tracks.shape[:2], bool)
    for number, start in enumerate(starts):
        images, mine = slice(start, start + window), slice(number * len(points), (number + 1) * len(points))
        queries = np.column_stack([np.zeros(len(points)), points])
        found = tracker(clip.images[images], queries)
        check_kind(found, PointTracks, "what tracker returns")
        tracks[images, mine], visibility[images, mine] = found.tracks, found.visibility
    return replace(clip, tracks=tracks, visibility=visibility, tracks_source=source_of(found))


@checked
def with_tracks_of(clip: Clip, tracks: PointTracks, *, name: str = "") -> Clip:
    """Return the clip with existing tracks, such as :func:`store.tracks.files.load_tracks` reads.

    Parameters
    ----------
    clip : Clip
    tracks : PointTracks
        Tracks of this clip, or of the whole video that it is a part of (``Clip.part``).
    name : str
        Origin to state if the tracks do not, such as the name of their file.

    Raises
    ------
    InvalidInputError
        For tracks of another number of images.

    Examples
    --------
    >>> still = PointTracks.still(np.array([[0, 10.0, 20.0]]), 9)
    >>> with_tracks_of(Clip(np.zeros((9, 80, 112, 3), np.uint8), fps=8), still)
    Clip(9 images of 80 x 112 px (height x width) at 8 fps, 1 point tracked by nothing moves (100 % visible))
    """
    part, images = clip.part or Part(0, 1, len(clip)), len(tracks.tracks)
    chosen = slice(None)
    if images == part.images:
        chosen = slice(part.first, part.first + part.stride * (len(clip) - 1) + 1, part.stride)
    elif images != len(clip):
        raise InvalidInputError(f"the tracks cover {images} images, the clip has {len(clip)}. Pass those of this clip.")
    source = source_of(tracks, name or "given tracks")
    return replace(clip, tracks=tracks.tracks[chosen], visibility=tracks.visibility[chosen], tracks_source=source)


def source_of(tracks: PointTracks, unknown: str = "a tracker") -> str:
    """Return the origin of tracks in words, from their details.

    Examples
    --------
    >>> source_of(PointTracks.still(np.zeros((0, 3)), 9))
    'nothing moves'
    """
    if tracks.details.get("backbone"):
        return f"the attention of {tracks.details['backbone']}"
    name = str(tracks.details.get("tracker") or unknown)
    return _CALLED.get(name, name)


def against_pseudo_truth(sources: Iterable[str | None]) -> str:
    """Return in words what accuracy over clips is measured against if that is not truth, otherwise an empty string.

    Parameters
    ----------
    sources : ``tracks_source`` of every clip that has tracks

    Examples
    --------
    >>> against_pseudo_truth(["optical flow", "optical flow"])
    'accuracy against optical flow, not truth'
    >>> against_pseudo_truth(["optical flow", None])
    'accuracy of 1 of 2 clips against optical flow, not truth'
    """
    listed = list(sources)
    estimated = [source for source in listed if source]
    if not estimated:
        return ""
    share = "" if len(estimated) == len(listed) else f" of {len(estimated)} of {len(listed)} clips"
    return f"accuracy{share} against {', '.join(dict.fromkeys(estimated))}, not truth"
