"""Clips with true tracks, and what a tracker scores on them."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import xarray as xr

from analyses.metrics.tapvid import tapvid_metrics, tapvid_queries
from benchmarks.mini_quality.real import SIZE, tracked_clips
from benchmarks.tracking.kept import KeptScores
from store import Clip, make_scene
from store.datasets.tapvid_raster import to_raster
from store.tracks.point_tracks import Tracker

IMAGES = 12
"""Of a scene: twice what the bundled backbones take at once."""

_SPACING = 5.0
"""Pixels between the points of a scene, so that they do not all lie at the centres of cells of 4 px."""

_CELL = 4.0


def scene_clips(first: int, count: int) -> dict[str, Clip]:
    """Scenes of seeds below those of training; every fourth is played backwards, so that points appear at any time."""
    found = {}
    for seed in range(first, first + count):
        clip = make_scene(seed, images=IMAGES, cell=_SPACING)
        found[f"scene {seed}"] = _backwards(clip) if seed % 4 == 3 else clip
    return found


def _backwards(clip: Clip) -> Clip:
    if clip.tracks is None or clip.visibility is None:
        raise ValueError("a scene has tracks")
    parts = (np.ascontiguousarray(part[::-1]) for part in (clip.images, clip.tracks, clip.visibility))
    images, tracks, visibility = parts
    return Clip(images, clip.fps, tracks=tracks, visibility=visibility)


def real_clips(stride: int) -> dict[str, Clip]:
    """Every n-th image of the real clips, at the size that the bundled backbones are shown."""
    return {name: clip[::stride].resized(*SIZE) for name, clip in tracked_clips().items()}


def measure(tracker: Tracker, clip: Clip, *, image_0_only: bool = False) -> dict[str, float]:
    """TAP-Vid's metrics by mode "first" in percent, and ``within_cell``, the share nearer than one cell of 4 px."""
    if clip.tracks is None or clip.visibility is None:
        raise ValueError("a clip without tracks cannot be measured")
    asked, owner = tapvid_queries(clip.tracks, clip.visibility)
    if image_0_only:
        asked, owner = asked[asked[:, 0] == 0], owner[asked[:, 0] == 0]
    queries = np.clip(asked[:, [0, 2, 1]], 0, [len(clip), clip.width, clip.height])
    found = tracker(clip.images, queries)
    tracks, visible = clip.tracks[:, owner], clip.visibility[:, owner]
    metrics = tapvid_metrics(asked, to_raster(tracks, clip), visible, to_raster(found.tracks, clip), found.visibility)
    counted = visible & (np.arange(len(clip))[:, None] > asked[:, 0])
    near = np.linalg.norm(found.tracks - tracks, axis=-1) < _CELL
    metrics["within_cell"] = near[counted].mean() if counted.any() else float("nan")
    return {name: 100 * value for name, value in metrics.items()}


def measure_all(
    trackers: Mapping[str, Tracker],
    clips: Mapping[str, Clip],
    *,
    image_0_only: bool = False,
    kept: KeptScores | None = None,
    backbone: str = "",
    made: bool = False,
) -> xr.DataArray:
    """(tracker, clip, metric) in percent; clip by clip, so that what an ended run kept has every tracker.

    Parameters
    ----------
    trackers, clips : by name
    image_0_only : whether only the points of image 0 are asked
    kept : what was measured before, under the name of the backbone; the rest is added
    backbone : str
    made : whether nothing is measured, and clips that some tracker was not measured on are left out
    """
    kept = kept or KeptScores()
    rows: dict[str, list[dict[str, float]]] = {}
    for number, clip in clips.items():
        found = {name: kept.get(backbone, name, number) for name in trackers}
        for name in [name for name, metrics in found.items() if metrics is None and not made]:
            began = time.process_time()
            found[name] = measure(trackers[name], clip, image_0_only=image_0_only)
            kept.put(backbone, name, number, found[name], time.process_time() - began)
        whole = [metrics for metrics in found.values() if metrics is not None]
        if len(whole) == len(trackers):
            rows[number] = whole
    if not rows:
        raise ValueError("no clip was measured with every tracker")
    metrics = list(next(iter(rows.values()))[0])
    values = [[[one[place][metric] for metric in metrics] for one in rows.values()] for place in range(len(trackers))]
    coords = {"tracker": list(trackers), "clip": list(rows), "metric": metrics}
    return xr.DataArray(np.array(values), coords, ("tracker", "clip", "metric"))
