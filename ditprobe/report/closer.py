"""The section of a report about closer looks: coarse and closer tracks beside the true ones, and their cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analyses.metrics.tapvid import tapvid_metrics
from analyses.plots.closer import plot_closer
from analyses.tracking.options import TrackingOptions
from analyses.tracking.track import track_points
from ditprobe.report.sweep import NARROW, ReportFigure, embed
from ditprobe.report.tables import NOT_RECORDED, Table
from probe.backbones.backbone import Backbone
from store.arguments import checked
from store.clips.clip import Clip
from store.datasets.tapvid_raster import to_raster
from store.errors import InvalidInputError
from store.text import counted
from store.tracks.point_tracks import PointTracks
from store.tracks.queries import grid_queries

_NOTES = (
    "A cell of the whole image is the limit of coarse tracks. A closer look shows the model crops that follow these "
    "tracks, enlarged to its input size, and corrects the tracks by less than a cell of the previous level; a lost "
    "point stays lost.",
    "A few clips are examples, not a measurement. Passes are the chunks of images that the model was shown; its time "
    "grows with their number.",
)


@dataclass(frozen=True, eq=False)
class CloserClip:
    """One clip with tracks of the same points from the whole image and from a closer look.

    Parameters
    ----------
    name : str
    clip : Clip; its tracks and visibility, if it has them, are the truth of the same points
    coarse, closer : PointTracks of the same queries, as :func:`analyses.tracking.track.track_points` returns them
    """

    name: str
    clip: Clip
    coarse: PointTracks
    closer: PointTracks


@dataclass(frozen=True)
class ShownCloser:
    """The section as the page shows it."""

    intro: str
    table: Table
    clips: tuple[tuple[str, ReportFigure], ...]
    notes: tuple[str, ...]


@checked
def closer_clip(
    backbone: Backbone,
    name: str,
    clip: Clip,
    *,
    levels: tuple[int, ...] = (1, 2),
    max_crops: int | None = 5,
    layer: int | None = None,
    step: int | None = None,
    steps: int = 50,
    grid: int = 8,
) -> CloserClip:
    """Track the points of a clip coarsely and with a closer look.

    Parameters
    ----------
    backbone : Backbone
    name : str
    clip : Clip
        The points visible in image 0 are followed, or a grid if there are no tracks.
    levels, max_crops : as of :class:`TrackingOptions`
    layer, step, steps : as of :func:`analyses.tracking.track.track_points`
    grid : points along each axis if there are no tracks

    Raises
    ------
    InvalidInputError, UnknownLayerError
        As :func:`analyses.tracking.track.track_points`, and for levels without a closer look.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scenes.scene import make_scene
    >>> mini = load_backbone(new_pipeline(MiniConfig(layers=2)))
    >>> found = closer_clip(mini, "a scene", make_scene(0, images=3), layer=1, max_crops=1)
    >>> found.coarse.details["levels"], found.closer.details["levels"]
    ([1], [1, 2])
    """
    options = TrackingOptions(levels=levels, max_crops=max_crops)
    if len(levels) < 2:
        raise InvalidInputError(f"levels {levels} take no closer look. Use (1, 2).")
    shown = _asked(clip)
    if shown.tracks is not None:
        queries = np.column_stack([np.zeros(shown.tracks.shape[1]), shown.tracks[0]])
    else:
        queries = grid_queries(grid, clip.height, clip.width)
    how = {"layer": layer, "step": step, "steps": steps, "progress": False}
    coarse, closer = (
        track_points(shown, queries, backbone, options=each, **how)  # type: ignore[arg-type]
        for each in (replace(options, levels=(1,)), options)
    )
    return CloserClip(name, shown, coarse, closer)


def closer_part(clips: Sequence[CloserClip], names: Iterator[str]) -> ShownCloser | None:
    """Section of the page; None if no clip was looked at closer."""
    if not clips:
        return None
    figures = []
    for one in clips:
        clip = one.clip
        figure = plot_closer(
            clip.images, one.coarse, one.closer, tracks=clip.tracks, visibility=clip.visibility, title=one.name
        )
        figures.append((one.name, embed(figure, names, NARROW)))
    return ShownCloser(_intro(clips), _table(clips), tuple(figures), _NOTES)


def _asked(clip: Clip) -> Clip:
    """Return the clip with the points visible in image 0; without tracks if there are none."""
    if clip.tracks is None or clip.visibility is None:
        return replace(clip, tracks=None, visibility=None)
    inside = ((clip.tracks[0] >= 0) & (clip.tracks[0] <= [clip.width, clip.height])).all(-1)
    mine = clip.visibility[0] & inside
    if not mine.any():
        return replace(clip, tracks=None, visibility=None)
    return replace(clip, tracks=clip.tracks[:, mine], visibility=clip.visibility[:, mine])


def _intro(clips: Sequence[CloserClip]) -> str:
    passes = [[float(tracks.details.get("chunks", np.nan)) for tracks in (one.coarse, one.closer)] for one in clips]
    coarse, closer = np.sum(passes, 0)
    times = closer / coarse
    cost = "" if np.isnan(times) else f" It took {times:.1f} times the passes of the model."
    levels = clips[0].closer.details.get("levels", [1, 2])
    crops = " and ".join(f"1/{level}" for level in dict.fromkeys(levels) if level > 1)
    what = f"in crops of {crops} of the side" if crops else "at the whole image without its coarse motion"
    return f"Points were looked at again {what}, in {counted(len(clips), 'clip')}.{cost}"


def _table(clips: Sequence[CloserClip]) -> Table:
    rows = []
    for one in clips:
        for name, tracks in (("coarse", one.coarse), ("closer look", one.closer)):
            counted_crops = tracks.details.get("crops", {})  # for the whole image alone, this names the kind of crops
            crops = sum(counted_crops.values()) if isinstance(counted_crops, dict) else 0
            passes, seconds = (tracks.details.get(key) for key in ("chunks", "seconds"))
            told = [NOT_RECORDED if value is None else f"{value:g}" for value in (passes, seconds)]
            rows.append((one.name, name, *_scores(one.clip, tracks), f"{crops}", *told))
    header = ("clip", "tracks", "position accuracy [%]", "median error [px]", "crops", "passes", "seconds")
    return Table("table-closer", "Coarse tracks and a closer look at the same points.", header, tuple(rows))


def _scores(clip: Clip, tracks: PointTracks) -> tuple[str, str]:
    """Position accuracy as TAP-Vid counts it, and the median distance of visible points from the truth."""
    if clip.tracks is None or clip.visibility is None or not clip.visibility[1:].any():
        return NOT_RECORDED, NOT_RECORDED
    truth = np.where(clip.visibility[..., None], to_raster(clip.tracks, clip), np.nan)
    found, queries = to_raster(tracks.tracks, clip), tracks.queries[:, [0, 2, 1]]
    metrics = tapvid_metrics(queries, truth, clip.visibility, found, np.ones_like(clip.visibility))
    away = np.linalg.norm(tracks.tracks - clip.tracks, axis=-1)[1:][clip.visibility[1:]]
    return f"{100 * metrics['average_pts_within_thresh']:.1f}", f"{np.median(away):.2f}"
