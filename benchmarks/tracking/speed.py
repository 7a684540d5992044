"""Speed of tracking by whole images: chunks that overlap, as published and as it was, beside few images shown."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from analyses.metrics.tapvid import tapvid_metrics
from analyses.tracking.track import TrackingOptions, track_points
from probe import Backbone
from store import Clip, make_scene
from store.datasets.tapvid_raster import to_raster

_WAYS = {
    "overlapping chunks, as it was": TrackingOptions(overlapping=True),
    "few images (the default)": TrackingOptions(),
    "few images and following crops, levels 1, 2": TrackingOptions(levels=(1, 2)),
}
_REPEATS = 3


def speed_report(backbone: Backbone, layer: int | None, step: int | None) -> str:
    """A table by clip and way as Markdown, each way in turn, the fastest of a few runs."""
    clips = {"12 images": make_scene(2000, images=12), "100 images": make_scene(2000, images=100)}
    asked = {f"points of image 0, {name}": (clip, _queries(clip, [0])) for name, clip in clips.items()}
    short = clips["12 images"]
    asked["points of 6 images, 12 images"] = short, _queries(short, range(0, 12, 2))
    lines = [
        "| clip | way | passes | processor s | images a second | ratio | position accuracy, % |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, (clip, queries) in asked.items():
        first = 0.0
        for way, options in _WAYS.items():
            if options.levels != (1,) and len(clip) > 12:
                continue
            spent = []
            for _ in range(_REPEATS):
                began = time.process_time()
                found = track_points(clip, queries, backbone, layer=layer, step=step, options=options, progress=False)
                spent.append(time.process_time() - began)
            rate = len(clip) / min(spent)
            first = first or rate
            accuracy = _accuracy(clip, queries, found.tracks)
            lines.append(
                f"| {name} | {way} | {found.details['chunks']} | {min(spent):.2f} | {rate:.0f} | {rate / first:.2f} | "
                f"{accuracy:.1f} |"
            )
    return "\n".join(lines)


def _queries(clip: Clip, images: Iterable[int]) -> np.ndarray:
    """All visible points of some images."""
    if clip.tracks is None or clip.visibility is None:
        raise ValueError("a scene has tracks")
    rows = [
        np.column_stack([np.full(clip.visibility[n].sum(), float(n)), clip.tracks[n, clip.visibility[n]]])
        for n in images
    ]
    return np.concatenate(rows)


def _accuracy(clip: Clip, queries: np.ndarray, tracks: np.ndarray) -> float:
    if clip.tracks is None or clip.visibility is None:
        raise ValueError("a scene has tracks")
    owner = np.concatenate([np.flatnonzero(clip.visibility[int(n)]) for n in np.unique(queries[:, 0])])
    truth, visible = clip.tracks[:, owner], clip.visibility[:, owner]
    asked = np.column_stack([queries[:, 0], to_raster(queries[:, 1:], clip)[:, ::-1]])
    found = tapvid_metrics(
        asked, to_raster(truth, clip), visible, to_raster(tracks, clip), np.ones_like(visible), mode="strided"
    )
    return 100 * found["average_pts_within_thresh"]
