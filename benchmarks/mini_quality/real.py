"""Real clips with published tracks: the layer that scenes chose, beside raw patches and "nothing moves"."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from analyses.layers.sweep import sweep
from benchmarks.mini_quality.accuracy import patch_accuracies
from probe import Backbone
from probe.run.windows import cut_windows
from store import Clip, Selection, read_clips

SIZE = (32, 48)
STRIDES = (1, 4, 8)
_FOLDERS = ("det", "difftrack/cogvideox_t2v_2b/fg")
PAINTED = ("000",)
"""Clips left out of every table: their tracks are painted on their videos, where a matcher can follow the paint."""


def data_folder() -> Path:
    """Folder of the real clips."""
    return Path(os.environ.get("DITPROBE_DATA", "../shared/data"))


def tracked_clips() -> dict[str, Clip]:
    """The real clips that have tracks, without the painted ones; none where the folder is absent."""
    found: dict[str, Clip] = {}
    for folder in _FOLDERS:
        path = data_folder() / folder
        if path.is_dir():
            found |= {name: clip for name, clip in read_clips(path).items() if clip.tracks is not None}
    return {name: clip for name, clip in found.items() if name not in PAINTED}


def every(stride: int) -> str:
    """A stride in words.

    Examples
    --------
    >>> every(1), every(4), every(12)
    ('every image', 'every fourth image', 'every 12th image')
    """
    words = {1: "", 2: "second ", 3: "third ", 4: "fourth "}
    return f"every {words.get(stride, f'{stride}th ')}image"


def left_out() -> str:
    """Reason why a table of real clips lacks some, as a sentence."""
    return f"Left out: {', '.join(PAINTED)}, whose published video has its tracks painted on it."


def real_report(backbone: Backbone, layer: int, step: int, threshold_cells: float) -> str:
    """A table over clips and strides as Markdown."""
    clips = tracked_clips()
    if not clips:
        return f"No real clips: {data_folder()} is absent. Set DITPROBE_DATA."
    lines = [
        f"Layer {layer} at step {step}, chosen on scenes; clips resized to {SIZE[1]} x {SIZE[0]} px; within "
        f"{threshold_cells:g} cell; all visible points / those that moved by more than a cell, % (pairs). {left_out()}",
        "",
        "| clip | every n-th image | layer | raw patches | nothing moves | pairs (moving) |",
        "|---|---|---|---|---|---|",
    ]
    for name, clip in clips.items():
        for stride in STRIDES:
            lines.append(_row(backbone, name, clip, stride, layer, step, threshold_cells))
    return "\n".join(lines)


def _row(backbone: Backbone, name: str, clip: Clip, stride: int, layer: int, step: int, threshold_cells: float) -> str:
    options = {"size": SIZE, "stride": stride}
    found = sweep(
        backbone,
        {name: clip},
        Selection([step], [layer]),
        threshold_cells=threshold_cells,
        features=False,
        min_points=1,
        prompt="",  # their own words are none that the backbone knows
        **options,
    ).isel(step=0, layer=0)
    windows = {window.index: window.clip for window in cut_windows(backbone, clip, **options)}
    layout = backbone.layout(*SIZE, backbone.default_size.images)
    patches = np.array([patch_accuracies(windows[int(n)], layout, threshold_cells) for n in found["window"].values])
    pairs, moving = found["pairs"].values, found["moving_pairs"].values

    def pooled(values: np.ndarray, weights: np.ndarray) -> str:
        seen = weights > 0
        return f"{np.average(values[seen], weights=weights[seen]):.1f}" if seen.any() else "none"

    cells = [
        f"{pooled(found['accuracy'].values, pairs)} / {pooled(found['moving_accuracy'].values, moving)}",
        f"{pooled(patches[:, 0], pairs)} / {pooled(patches[:, 1], moving)}",
        pooled(found["static_accuracy"].values, pairs),
        f"{pairs.sum()} ({moving.sum()})",
    ]
    return f"| {name} | {stride} | " + " | ".join(cells) + " |"
