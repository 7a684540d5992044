"""Accuracy of layers and heads on the motion left inside following crops, where precision below a cell shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr

from analyses.arrays import BUDGET_BYTES
from analyses.layers.sweep_items import Progress, named
from analyses.metrics.tapvid import tapvid_metrics
from analyses.selection.defaults import chosen_layers, matched_with
from analyses.selection.layer_selection import LayerSelection
from analyses.tracking.chunks import Chunk
from analyses.tracking.crops import CropWindows
from analyses.tracking.levels import LeveledTracking
from analyses.tracking.options import TrackingOptions
from analyses.tracking.propagate import ChunkTokens
from analyses.tracking.tokens import LayerTokens, TrackingRun, chunk_length
from probe.backbones.backbone import Backbone
from store.arguments import checked
from store.checks import integer
from store.clips.clip import Clip
from store.datasets.tapvid_raster import to_raster
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.progress import progress_bar
from store.selection import Selection
from store.text import counted

_Matched = tuple[int, int | None]
"""A layer and one of its heads, None for all."""


@checked
def sweep_closer(
    backbone: Backbone,
    clips: Any,
    *,
    layers: Iterable[int] | LayerSelection | Literal["all"] = "all",
    step: int | None = None,
    follow: int | None = None,
    level: int = 2,
    max_crops: int | None = 5,
    per_head: bool = False,
    options: TrackingOptions | None = None,
    prompt: str = "",
    steps: int = 50,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    stride: int = 1,
    min_points: int = 4,
    conditioning: Mapping[str, Any] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    progress: Progress | bool | None = None,
) -> xr.Dataset:
    """Position accuracy of layers and heads in whole images, and on the motion that is left in crops that follow.

    One layer tracks the points coarsely. Crops follow these tracks and are the same for every layer, so only the closer
    look differs: it is right where a layer distinguishes positions within a cell of the whole image. The model runs
    once on each chunk of images for all layers and heads.

    Parameters
    ----------
    backbone : Backbone
    clips : mapping of names to Clip, or a sequence, or one of them, with tracks and visibility
        Longer ones are cut into windows of the number of images that tracking shows at once; each is an entry of
        ``clip``. Its points are those visible in its first image.
    layers : numbers, a LayerSelection, or "all"
    step : of the run; by default that of the layer that the crops follow
    follow : the layer of the coarse tracks, by default the one known to track best
    level : magnification of the closer look, 2 to 8
    max_crops : as of :class:`TrackingOptions`; None for as many crops as show all points
    per_head : also measure each head alone
    options : TrackingOptions; only those of the matching are used
    prompt, steps, seed, size, conditioning, budget_bytes : as of :func:`analyses.tracking.track.track_points`
    stride : take every n-th image
    min_points : windows with fewer points are skipped; ``attrs["skipped"]`` names them
    progress : called with (windows done, total, name of the next)

    Returns
    -------
    Dataset over ``clip``, ``layer`` (and ``head``)
        ``accuracy``, ``closer_accuracy`` : TAP-Vid's position accuracy in percent in whole images, and closer;
        ``head_accuracy``, ``head_closer_accuracy`` those of single heads. ``error``, ``closer_error`` : median
        distance from the truth in cells of the whole image. ``coarse_accuracy``, ``coarse_error`` (clip) : those of the
        tracks that the crops follow, which a closer look that finds nothing keeps. ``points``, ``crops`` (clip).

    Raises
    ------
    InvalidInputError, UnknownLayerError
        Before the model runs.

    Notes
    -----
    docs/definitions.md, section 5, following crops. Where the coarse track is lost, a closer look is too.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scenes.scene import make_scene
    >>> mini = load_backbone(new_pipeline(MiniConfig(layers=2)))
    >>> found = sweep_closer(mini, make_scene(0), follow=1, max_crops=1)
    >>> dict(found["closer_accuracy"].sizes)
    {'clip': 1, 'layer': 2}
    """
    integer(level, "level", min_value=2, max_value=8)
    integer(stride, "stride", min_value=1)
    integer(min_points, "min_points", min_value=1)
    settings = {"levels": (1, level), "crops": "follow", "max_crops": max_crops, "encode": "images"}
    matching = TrackingOptions(**{**vars(options or TrackingOptions()), **settings})
    known, at, _ = matched_with(backbone, follow, step, steps=steps)
    count = len(backbone.layers)
    which = layers if isinstance(layers, str) else list(chosen_layers(layers, backbone))
    chosen = Selection([at], which).resolve(count, steps, 1)
    (followed,) = Selection([at], [known]).resolve(count, steps, 1).layers
    size = size or backbone.default_size[:2]
    backbone.check_size(*size, backbone.default_size.images)
    backbone.check_ready()
    heads = min(layer.heads for layer in backbone.layers)
    matched = [(layer, head) for layer in chosen.layers for head in (None, *(range(heads) if per_head else ()))]
    run = TrackingRun(prompt, steps, chosen.steps[0], followed, None, seed)
    length = chunk_length(backbone, matching, size)
    windows, skipped = _windows(named(clips, "clip"), length, stride, min_points)
    rows = []
    with progress_bar(progress, "looking closer") as tell:
        for number, window in enumerate(windows):
            if tell is not None:
                tell(number, len(windows), window.name)
            model = LayerTokens(backbone, window.clip.images, size, matching, run, conditioning)
            rows.append(_Closer(model, matching, window, length, budget_bytes).measured(matched, level))
        if tell is not None:
            tell(len(windows), len(windows), windows[-1].name)
    names = [backbone.layers[layer].name for layer in chosen.layers]
    found = _dataset(rows, windows, chosen.layers, names, heads if per_head else 0)
    return found.assign_attrs(
        backbone=backbone.name,
        revision=backbone.revision or "",
        config_hash=backbone.config_hash,
        prompt=prompt,
        steps=steps,
        step=run.step,
        seed=seed,
        size=list(size),
        stride=stride,
        follow=followed,
        level=level,
        max_crops=max_crops,
        noise=matching.noise,
        skipped=skipped,
    )


# Windows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Window:
    """A part of a clip with the points (point,) visible in its first image."""

    name: str
    source: str
    clip: Clip
    tracks: np.ndarray
    visibility: np.ndarray


def _windows(clips: Mapping[str, Any], length: int, stride: int, least: int) -> tuple[list[_Window], list[str]]:
    """Return the windows of clips, and the windows that are left out."""
    found, skipped = [], []
    for name, clip in clips.items():
        if not isinstance(clip, Clip) or clip.tracks is None or clip.visibility is None:
            raise InvalidInputError(
                f"{name!r} has no true tracks, without which there is no accuracy. Pass clips with tracks and "
                "visibility, or add tracks with with_pseudo_tracks."
            )
        shown = clip[::stride]
        starts = range(0, max(1, len(shown) - length + 1), length)
        for number, start in enumerate(starts):
            part = shown[start : start + length]
            label = name if len(starts) == 1 else f"{name} [{number}]"
            tracks, visible = part.tracks, part.visibility
            if tracks is None or visible is None:
                raise AssertionError("a part of a clip keeps its tracks")
            inside = ((tracks[0] >= 0) & (tracks[0] <= [part.width, part.height])).all(-1)
            mine = np.flatnonzero(visible[0] & inside)
            if len(mine) < least or not visible[1:, mine].any():
                skipped.append(f"{label}: {counted(len(mine), 'point')} in its first image, or none after it")
                continue
            found.append(_Window(label, name, part, tracks[:, mine], visible[:, mine]))
    if not found:
        raise InvalidInputError(
            f"every window was skipped: {'; '.join(skipped)}. Pass clips with more tracks and more images, or "
            "min_points=1."
        )
    return found, skipped


# Measuring ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Passes:
    """Passes of the model that all layers and heads share; the tokens of the latest chunk are kept."""

    model: LayerTokens
    layers: tuple[int, ...]
    _latest: tuple[Any, dict[int, ChunkTokens]] | None = None

    def tokens(self, layer: int, chunk: Chunk, windows: CropWindows | None) -> ChunkTokens:
        if self._latest is None or self._latest[0] != (chunk, windows):
            self._latest = (chunk, windows), self.model.tokens_of(self.layers, chunk, windows)
        return self._latest[1][layer]


@dataclass(eq=False)
class _Read:
    """One layer, or one head of it, of passes that others share: a source of tokens."""

    passes: _Passes
    matched: _Matched
    backbone: Backbone = field(init=False)
    size: tuple[int, int] = field(init=False)
    chunks: int = 0

    def __post_init__(self) -> None:
        self.backbone, self.size = self.passes.model.backbone, self.passes.model.size

    def layout(self, frames: int) -> TokenLayout:
        return self.passes.model.layout(frames)

    def tokens(self, chunk: Chunk, windows: CropWindows | None = None) -> ChunkTokens:
        layer, head = self.matched
        self.chunks += 1
        found = self.passes.tokens(layer, chunk, windows)
        if head is None:
            return found
        return ChunkTokens(found.query[head : head + 1], found.key[head : head + 1], found.layout, found.offsets)


@dataclass(eq=False)
class _Closer:
    """Measure layers and heads in one window."""

    model: LayerTokens
    options: TrackingOptions
    window: _Window
    length: int
    budget_bytes: int

    def measured(self, matched: list[_Matched], level: int) -> dict[str, Any]:
        """Return accuracy and error (matched, 2), in whole images and closer, and (2,) of the coarse tracks."""
        followed: _Matched = (self.model.run.layer, None)
        layers = tuple(sorted({layer for layer, _ in [*matched, followed]}))
        passes = _Passes(self.model, layers)
        runs = {which: self._tracking(_Read(passes, which)) for which in {*matched, followed}}
        queries = np.column_stack([np.zeros(self.window.tracks.shape[1]), self.window.tracks[0]])
        anchors = np.zeros(len(queries), int)
        whole = {which: run.track_whole(queries) for which, run in runs.items()}
        coarse, look = whole[followed], runs[followed].look
        crops = look.crops(coarse, anchors, level)
        found = {which: run.look.unlooked(coarse, level) for which, run in runs.items()}
        for crop in crops:
            windows = look.windows_of(crop, level)
            for which in matched:
                runs[which].look.look_into(crop, windows, coarse, anchors, found[which])
        scores = [(self._score(whole[which].tracks), self._score(found[which].tracks)) for which in matched]
        return {"scores": np.array(scores), "coarse": self._score(coarse.tracks), "crops": len(crops)}

    def _tracking(self, read: _Read) -> LeveledTracking:
        clip = self.window.clip
        return LeveledTracking(read, self.options, (clip.height, clip.width), len(clip), self.length, self.budget_bytes)

    def _score(self, tracks: np.ndarray) -> tuple[float, float]:
        """Return the position accuracy in percent, and the median distance from the truth in cells of the image."""
        window, clip = self.window, self.window.clip
        seen = window.visibility
        queries = np.column_stack([np.zeros(seen.shape[1]), to_raster(window.tracks[0], clip)[:, ::-1]])
        truth = np.where(seen[..., None], to_raster(window.tracks, clip), np.nan)
        metrics = tapvid_metrics(queries, truth, seen, to_raster(tracks, clip), np.ones_like(seen))
        layout = self.model.layout(2)
        cell = np.array([clip.width / layout.width, clip.height / layout.height])
        away = np.linalg.norm((tracks - window.tracks) / cell, axis=-1)[1:]
        return 100 * metrics["average_pts_within_thresh"], float(np.median(away[seen[1:]]))


def _dataset(
    rows: list[dict[str, Any]], windows: list[_Window], layers: tuple[int, ...], names: list[str], heads: int
) -> xr.Dataset:
    """Return the measurements of all windows as one Dataset."""
    scores = np.stack([row["scores"] for row in rows]).reshape(len(rows), len(layers), 1 + heads, 2, 2)
    found: dict[str, Any] = {}
    measures = (("accuracy", "%", "position accuracy"), ("error", "cells", "median distance from the truth"))
    for number, (name, units, title) in enumerate(measures):
        for place, (prefix, where) in enumerate((("", "in whole images"), ("closer_", "in following crops"))):
            told = {"units": units, "long_name": f"{title} {where}"}
            found[prefix + name] = ("clip", "layer"), scores[:, :, 0, place, number], told
            if heads:
                of_heads = scores[:, :, 1:, place, number]
                found[f"head_{prefix}{name}"] = ("clip", "layer", "head"), of_heads, told
        coarse = [row["coarse"][number] for row in rows]
        found[f"coarse_{name}"] = "clip", coarse, {"units": units, "long_name": f"{title} of the coarse tracks"}
    found["points"] = "clip", [window.tracks.shape[1] for window in windows]
    found["crops"] = "clip", [row["crops"] for row in rows]
    coords: dict[str, Any] = {
        "clip": [window.name for window in windows],
        "source": ("clip", [window.source for window in windows]),
        "layer": list(layers),
        "layer_name": ("layer", names),
        **({"head": list(range(heads))} if heads else {}),
    }
    return xr.Dataset(found, coords)
