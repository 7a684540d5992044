"""Ablation of the parts of tracking, on tuning scenes: everything on, and one part at a time otherwise."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import xarray as xr

from analyses.selection.defaults import tracking_defaults
from analyses.trackers.backbone import BackboneTracker
from analyses.tracking.track import PUBLISHED, TrackingOptions
from benchmarks.mini_quality.real import SIZE, data_folder, every, left_out
from benchmarks.tracking.clips import measure_all, real_clips, scene_clips
from benchmarks.tracking.tables import clip_table, difference_table, main_table
from probe import Backbone

FIRST = 2000
"""Seed of the first tuning scene. The scenes that are reported have others."""

OURS = "ours"

_OPTIONS: dict[str, dict[str, Any]] = {
    "each cell alone (support 0)": {"support": 0.0},
    "support 0.7": {"support": 0.7},
    "support 1.4": {"support": 1.4},
    "logits by sqrt(channels)": {"scale": "channels"},
    "rotary channels up to 0.5 rad": {"max_rotation": 0.5},
    "rotary channels up to 0.2 rad": {"max_rotation": 0.2},
    "best cell, no refinement": {"refine": False},
    "sharpness 1 (plain mean)": {"sharpness": 1.0},
    "sharpness 2": {"sharpness": 2.0},
    "smoothness 0": {"smoothness": 0.0},
    "smoothness 1": {"smoothness": 1.0},
    "everything visible": {"max_cycle_error": math.inf},
    "cycle error up to 1.5 cells": {"max_cycle_error": 1.5},
    "confidence 0.3 instead of the cycle check": {"max_cycle_error": 1e9, "min_confidence": 0.3},
    "confidence 0.3 in addition": {"min_confidence": 0.3},
    "no interleaving": {"interleaved": False},
    "no anchor": {"interleaved": False, "anchored": False},
    "no averaging": {"average": False},
    "forward noise": {"noise": "forward"},
}


def variants(
    backbone: Backbone, layer: int | None, step: int | None, size: tuple[int, int] | None = None
) -> dict[str, BackboneTracker]:
    """Trackers by what is otherwise; the first is ours."""
    found = {OURS: BackboneTracker(backbone, layer, step, size=size)}
    for name, how in _OPTIONS.items():
        found[name] = replace(found[OURS], options=replace(TrackingOptions(), **how))
    for other in (40, 46, 48, 49):
        found[f"step {other}"] = replace(found[OURS], step=other, layer=layer_of(backbone, layer))
    for head in range(backbone.layers[0].heads):
        found[f"head {head} alone"] = replace(found[OURS], heads=(head,))
    found["published, exact geometry"] = replace(
        found[OURS], options=replace(PUBLISHED, geometry="exact"), step=-1, layer=layer_of(backbone, layer)
    )
    return found


def layer_of(backbone: Backbone, layer: int | None) -> int:
    """The layer that was asked for, or what is known of the backbone."""
    return tracking_defaults(backbone).layer if layer is None else layer


def ablation_report(backbone: Backbone, layer: int | None, step: int | None, *, count: int) -> str:
    """The tables on scenes as Markdown."""
    found = measure_all(variants(backbone, layer, step), scene_clips(FIRST, count), image_0_only=True)
    head = f"{count} tuning scenes (seeds {FIRST} and up), points of image 0."
    return "\n\n".join([head, main_table(found), difference_table(found, OURS, _others(found))])


def real_ablation_report(backbone: Backbone, layer: int | None, step: int | None, *, stride: int = 4) -> str:
    """Ablation on real clips of what helps on scenes, as Markdown."""
    clips = real_clips(stride)
    if not clips:
        return f"No real clips: {data_folder()} is absent. Set DITPROBE_DATA."
    found = measure_all(variants(backbone, layer, step, SIZE), clips, image_0_only=True)
    head = f"{every(stride).capitalize()} of the real clips, {SIZE[1]} x {SIZE[0]} px, points of image 0. {left_out()}"
    return "\n\n".join([head, clip_table(found), difference_table(found, OURS, _others(found))])


def _others(found: xr.DataArray) -> list[str]:
    return [str(name) for name in found["tracker"].values if name != OURS]
