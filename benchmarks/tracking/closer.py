"""A closer look beside its controls: the same crops read as raw pixels, crops that stay, and a wrong motion."""

from __future__ import annotations

from collections.abc import Iterator
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
from analyses.tracking.closer import CloserLook
from analyses.tracking.compensation import Compensation, Compensator
from analyses.tracking.crops import CropWindows
from analyses.tracking.grouping import PointGroup
from analyses.tracking.options import TrackingOptions
from analyses.tracking.propagate import ChunkTokens
from analyses.tracking.tokens import LayerTokens
from benchmarks.mini_quality.real import data_folder, every, left_out, tracked_clips
from benchmarks.tracking.ablation import FIRST
from benchmarks.tracking.clips import measure_all, scene_clips
from benchmarks.tracking.kept import KeptScores, weights_of
from benchmarks.tracking.tables import clip_table, difference_table, main_table, threshold_table
from probe import Backbone
from store.clips.clip import Clip
from store.tracks.point_tracks import PointTracks, Tracker

OURS, FOLLOWING, CLOSEST = "ours", "ours, levels 1, 2", "ours, levels 1, 2, 4"
FINEST = "ours, levels 1, 1, 2, 4, all crops"
AGAIN, CLOSER, BOTH = "ours, levels 1, 1", "ours, levels 1, 1, 2", "ours, levels 1, 1, 2, 4"
ALL_CROPS, COMPENSATED = "ours, levels 1, 2, all crops", "ours, levels 1, 1, 2, compensated"
WHOLE_CLIPS = "ours, levels 1, 2, all crops in all images"
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
        shown: Clip = self._clip(chunk.images, windows, origins)
        features = 8 * patch_features(shown.images, layout)[None]  # as sharp as needed to have peaks
        offsets = torch.as_tensor((origins - origins[0]) / windows.scale, dtype=torch.float32)
        self.chunks += 1
        return ChunkTokens(features, features, layout, offsets)

    with mock.patch.object(LayerTokens, "tokens", tokens):
        yield


@contextmanager
def _still_crops() -> Iterator[None]:
    """Let each crop stay where it is, and no motion be taken out of it."""

    def still(self: CloserLook, crop: PointGroup, level: int) -> CropWindows:
        size = self.layout.pixel_height, self.layout.pixel_width
        return closer.follow(np.broadcast_to(crop.centres[:1], crop.centres.shape), self.clip, size, level)

    with mock.patch.object(CloserLook, "windows_of", still):
        yield


@contextmanager
def _random_motion() -> Iterator[None]:
    """Take the motion of another image out of each: the images are as torn, but nothing is held still."""

    def other(self: Compensator, *given: Any) -> list[PointGroup]:
        groups = groups_of(self, *given)
        wrong = {id(group.motion): _shuffled(group.motion) for group in groups if group.motion is not None}
        return [replace(group, motion=wrong[id(group.motion)]) for group in groups]

    groups_of = Compensator.groups
    with mock.patch.object(Compensator, "groups", other):
        yield


def _shuffled(motion: Compensation) -> Compensation:
    """Return a motion of which each image but the first has that of a later one, the last that of the second."""
    order = np.r_[0, np.roll(np.arange(1, len(motion.paths)), len(motion.paths) // 2)]
    return replace(motion, paths=motion.paths[order])


def closer_trackers(
    backbone: Backbone, layer: int | None, step: int | None, size: tuple[int, int] | None = None
) -> dict[str, Tracker]:
    """Ours with following crops, as the tables on unseen scenes and on real clips have them."""
    plain = BackboneTracker(backbone, layer, step, size=size)
    return {
        FOLLOWING: replace(plain, options=TrackingOptions(levels=(1, 2))),
        CLOSEST: replace(plain, options=TrackingOptions(levels=(1, 2, 4))),
        FINEST: replace(plain, options=TrackingOptions(levels=(1, 1, 2, 4), max_crops=None)),
    }


def choices(backbone: Backbone, layer: int | None, step: int | None) -> dict[str, Tracker]:
    """Trackers from which the defaults of a closer look are chosen: levels, numbers of crops, and kinds of them."""
    plain = BackboneTracker(backbone, layer, step)
    every = {"max_crops": None}
    return {
        ALL_CROPS: replace(plain, options=TrackingOptions(levels=(1, 2), **every)),
        WHOLE_CLIPS: replace(plain, options=TrackingOptions(levels=(1, 2), overlapping=True, average=False, **every)),
        AGAIN: replace(plain, options=TrackingOptions(levels=(1, 1))),
        CLOSER: replace(plain, options=TrackingOptions(levels=(1, 1, 2))),
        BOTH: replace(plain, options=TrackingOptions(levels=(1, 1, 2, 4))),
        COMPENSATED: replace(plain, options=TrackingOptions(levels=(1, 1, 2), crops="compensate")),
    } | {
        f"ours, levels 1, 2, {name}, margin {margin:g}": replace(
            plain, options=TrackingOptions(levels=(1, 2), crop_margin=margin, max_crops=crops)
        )
        for name, crops in (("five crops", 5), ("all crops", None))
        for margin in (0.0, 0.5, 1.5, 2.5)
    }


def trackers_of(
    backbone: Backbone, layer: int | None, step: int | None, size: tuple[int, int] | None, *, controls: bool
) -> dict[str, Tracker]:
    """Flow, ours, the levels, and the controls of the closest look."""
    found: dict[str, Tracker] = {_FLOW: FlowTracker(), OURS: BackboneTracker(backbone, layer, step, size=size)}
    found |= closer_trackers(backbone, layer, step, size)
    return found | (choices(backbone, layer, step) | control_trackers(backbone, layer, step) if controls else {})


def control_trackers(backbone: Backbone, layer: int | None, step: int | None) -> dict[str, Tracker]:
    """A closer look with something otherwise: its pixels matched instead, crops that stay, or a wrong motion out."""
    look = BackboneTracker(backbone, layer, step, options=TrackingOptions(levels=(1, 1, 2)))
    return {
        "raw patches in the crops": _Control(look, _raw_patches),
        "crops that stay": _Control(look, _still_crops),
        "the motion of another image": _Control(look, _random_motion),
    }


def control_report(
    backbone: Backbone, layer: int | None, step: int | None, count: int, kept: KeptScores, made: bool
) -> str:
    """The tables on tuning scenes as Markdown."""
    trackers = trackers_of(backbone, layer, step, None, controls=True)
    clips = scene_clips(FIRST, count)
    found = measure_all(
        trackers, clips, image_0_only=True, kept=kept, backbone=f"{weights_of(backbone)}, image 0", made=made
    )
    others = [name for name in trackers if name != CLOSER]
    head = f"{found.sizes['clip']} of {count} tuning scenes (seeds {FIRST} and up), points of image 0."
    tables = main_table(found), threshold_table(found), difference_table(found, CLOSER, others)
    return "\n\n".join([head, *tables])


def real_closer_report(backbone: Backbone, layer: int | None, step: int | None, *, stride: int = 4) -> str:
    """The tables on real clips as Markdown."""
    found = trackers_of(backbone, layer, step, None, controls=False)
    clips = {name: clip[::stride] for name, clip in tracked_clips().items()}
    if not clips:
        return f"No real clips: {data_folder()} is absent. Set DITPROBE_DATA."
    measured = measure_all(found, clips, image_0_only=True)
    return "\n\n".join(
        [
            f"{every(stride).capitalize()} of the real clips at their own size, points of image 0. {left_out()}",
            clip_table(measured),
            difference_table(measured, CLOSEST, [name for name in found if name != CLOSEST]),
        ]
    )
