"""Following crops beside their controls: the same crops read as raw pixels, and crops that do not follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch

import analyses.tracking.closer as closer
from analyses.correspondence.patches import patch_features
from analyses.trackers.backbone import BackboneTracker
from analyses.trackers.optical_flow import FlowTracker
from analyses.tracking.chunks import Chunk
from analyses.tracking.crops import CropWindows
from analyses.tracking.grouping import PointGroup
from analyses.tracking.options import TrackingOptions
from analyses.tracking.propagate import ChunkTokens
from analyses.tracking.tokens import LayerTokens
from benchmarks.mini_quality.real import data_folder, left_out, tracked_clips
from benchmarks.tracking.clips import measure_all, scene_clips
from benchmarks.tracking.tables import clip_table, difference_table, main_table
from probe import Backbone
from store.clips.clip import Clip
from store.tracks.point_tracks import PointTracks, Tracker

OURS, CLOSER, CLOSEST = "ours", "ours, levels 1, 2", "ours, levels 1, 2, 4"
FEW_CROPS = "ours, levels 1, 2, 5 crops"
_FLOW = "optical flow, chained"


@dataclass(frozen=True)
class _Control:
    """A tracker in whose crops something is otherwise."""

    tracker: BackboneTracker
    change: Any

    def __call__(self, images: Any, queries: Any) -> PointTracks:
        with self.change():
            return self.tracker(images, queries)


@contextmanager
def _raw_patches() -> Iterator[None]:
    """Crops are matched by their pixels."""
    model = LayerTokens.tokens

    def tokens(self: LayerTokens, chunk: Chunk, windows: CropWindows | None = None) -> ChunkTokens:
        if windows is None:
            return model(self, chunk)
        origins = windows.at(chunk.images)
        layout = self.layout(len(chunk.images))
        shown: Clip = self._clip(chunk.images, origins, windows.scale)
        features = 8 * patch_features(shown.images, layout)[None]  # as sharp as needed to have peaks
        offsets = torch.as_tensor((origins - origins[0]) / windows.scale, dtype=torch.float32)
        self.chunks += 1
        return ChunkTokens(features, features, layout, offsets)

    with mock.patch.object(LayerTokens, "tokens", tokens):
        yield


@contextmanager
def _still_crops() -> Iterator[None]:
    """Crops stay where they are in the first image."""
    follow = closer.follow
    with mock.patch.object(
        closer, "follow", lambda centres, *size: follow(np.broadcast_to(centres[:1], centres.shape), *size)
    ):
        yield


@contextmanager
def _fixed_tiles() -> Iterator[None]:
    """Crops are tiles of the image, as far apart as a third of what is left beside one, and follow nothing."""

    def tiles(tracks: np.ndarray, trusted: np.ndarray, extent: np.ndarray, margin: np.ndarray, **how: Any) -> Any:
        largest = tracks[trusted].max(0) if trusted.any() else extent
        places = [
            np.linspace(side / 2, max(side / 2, far - side / 2), 3) for side, far in zip(extent, largest, strict=True)
        ]
        centres = np.stack(np.meshgrid(*places), -1).reshape(-1, 2)
        anchors = how["anchors"]
        here = tracks[anchors, np.arange(len(anchors))]
        owner = np.linalg.norm(here[:, None] - centres, axis=-1).argmin(1)
        return [
            PointGroup(np.flatnonzero(owner == tile), np.broadcast_to(centres[tile], (len(tracks), 2)))
            for tile in np.unique(owner)
        ]

    with mock.patch.object(closer, "group_points", tiles):
        yield


def trackers_of(
    backbone: Backbone, layer: int | None, step: int | None, size: tuple[int, int] | None, *, controls: bool
) -> dict[str, Tracker]:
    """Flow, ours and the levels; the controls of level 2."""
    plain = BackboneTracker(backbone, layer, step, size=size)
    levels = {
        name: replace(plain, options=TrackingOptions(levels=chosen))
        for name, chosen in ((CLOSER, (1, 2)), (CLOSEST, (1, 2, 4)))
    }
    found: dict[str, Tracker] = {_FLOW: FlowTracker(), OURS: plain, **levels}
    if controls:
        found["raw patches in the crops"] = _Control(levels[CLOSER], _raw_patches)
        found["crops that stay"] = _Control(levels[CLOSER], _still_crops)
        found["fixed tiles"] = _Control(levels[CLOSER], _fixed_tiles)
    return found


def closer_trackers(backbone: Backbone, layer: int | None, step: int | None) -> dict[str, Tracker]:
    """Ours with a closer look, in as many crops as cover the points and in five at most."""
    plain = BackboneTracker(backbone, layer, step)
    return {
        CLOSER: replace(plain, options=TrackingOptions(levels=(1, 2))),
        FEW_CROPS: replace(plain, options=TrackingOptions(levels=(1, 2), max_crops=5)),
    }


def closer_report(backbone: Backbone, layer: int | None, step: int | None, first: int, count: int) -> str:
    """The tables on scenes as Markdown."""
    found = trackers_of(backbone, layer, step, None, controls=True)
    return "\n\n".join(
        [
            f"{count} unseen scenes (seeds {first} to {first + count - 1}), points of image 0.",
            _tables(found, scene_clips(first, count)),
        ]
    )


def real_closer_report(backbone: Backbone, layer: int | None, step: int | None, *, stride: int = 4) -> str:
    """The tables on real clips as Markdown."""
    found = trackers_of(backbone, layer, step, None, controls=False)
    clips = {name: clip[::stride] for name, clip in tracked_clips().items()}
    if not clips:
        return f"No real clips: {data_folder()} is absent. Set DITPROBE_DATA."
    measured = measure_all(found, clips, image_0_only=True)
    return "\n\n".join(
        [
            f"Every {stride}. image of the real clips at their own size, points of image 0. {left_out()}",
            clip_table(measured),
            difference_table(measured, CLOSER, [name for name in found if name != CLOSER]),
        ]
    )


def _tables(trackers: Mapping[str, Tracker], clips: Mapping[str, Clip]) -> str:
    measured = measure_all(trackers, clips, image_0_only=True)
    others = [name for name in trackers if name != CLOSER]
    return f"{main_table(measured)}\n\n{difference_table(measured, CLOSER, others)}"
