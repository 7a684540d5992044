"""Correspondence on scenes that nobody trained on: tables by layer, step and head, with 95 % intervals over scenes."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from analyses.correspondence.patches import match_patches
from analyses.layers.ground_truth import Target, Truth
from analyses.layers.sweep import sweep
from analyses.selection.select import select_layers
from analyses.statistics import bootstrap_mean
from probe import Backbone
from store import Clip, Selection, TokenLayout, make_scene

STEPS = (0, 5, 10, 15, 20, 25, 30, 35, 40, 43, 46, 48, 49)
LATE = 40


def scenes(first: int, count: int, *, height: int = 40, width: int = 40) -> dict[str, Clip]:
    """Scenes of seeds below those of training."""
    return {f"scene {seed}": make_scene(seed, height=height, width=width) for seed in range(first, first + count)}


def patch_accuracies(clip: Clip, layout: TokenLayout, threshold_cells: float) -> np.ndarray:
    """(2,) percent of all visible and of the moving points that raw patches find."""
    if clip.tracks is None or clip.visibility is None:
        raise ValueError("a clip without tracks has no accuracy")
    truth = Truth.of_tracks(clip.tracks, clip.visibility, layout)
    target = Target.of(truth, layout, threshold_cells=threshold_cells)
    found = torch.from_numpy(match_patches(clip.images, truth.points, layout))
    return target.accuracies(found[None])[:, 0]


def interval(values: xr.DataArray, digits: int = 1) -> str:
    """ "mean (lower-upper)" over clips."""
    low, high = bootstrap_mean(values)
    return f"{float(values.mean('clip')):.{digits}f} ({float(low):.{digits}f}-{float(high):.{digits}f})"


def best_late(found: xr.Dataset) -> tuple[int, int]:
    """The layer and step of highest accuracy among the late steps."""
    late = found["accuracy"].mean("clip").sel(step=slice(LATE, None))
    place = late.argmax(...)
    return int(late["layer"][place["layer"]]), int(late["step"][place["step"]])


def profile_lines(found: xr.Dataset) -> list[str]:
    """Layer by step: all visible points / moving ones, then every layer with its interval at the best late step."""
    accuracy, moving = (found[name].mean("clip") for name in ("accuracy", "moving_accuracy"))
    lines = ["| step (timestep) | " + " | ".join(f"layer {layer}" for layer in found["layer"].values) + " |"]
    lines.append("|---|" + "---|" * found.sizes["layer"])
    for number, step in enumerate(found["step"].values):
        pairs = zip(accuracy.values[number], moving.values[number], strict=True)
        cells = " | ".join(f"{every:.1f} / {some:.1f}" for every, some in pairs)
        lines.append(f"| {step} ({float(found['timestep'][number]):.0f}) | {cells} |")
    return lines


def layer_and_head_lines(found: xr.Dataset, step: int) -> list[str]:
    """Each layer and head at one step, with intervals."""
    here = found.sel(step=step)
    heads = found["head"].values
    lines = ["| layer | all | moving | features | " + " | ".join(f"head {head}" for head in heads) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(heads))
    for layer in found["layer"].values:
        one = here.sel(layer=layer)
        names = ("accuracy", "moving_accuracy", "feature_accuracy")
        cells = [interval(one[name]) for name in names]
        cells += [interval(one["head_accuracy"].sel(head=head)) for head in heads]
        lines.append(f"| {layer} | " + " | ".join(cells) + " |")
    return lines


def summary_lines(found: xr.Dataset, patches: np.ndarray) -> list[str]:
    """The figures that the backbone is judged by."""
    layer, step = best_late(found)
    here, accuracy = found.sel(step=step, layer=layer), found["accuracy"].mean("clip")
    best, median = float(accuracy.sel(step=step, layer=layer)), float(accuracy.sel(step=step).median("layer"))
    first = accuracy.sel(step=0)
    raw, raw_moving = (xr.DataArray(values, dims="clip") for values in patches.T)
    ahead = xr.DataArray(here["accuracy"].values - patches[:, 0], dims="clip")
    return [
        f"Best layer {layer} at its best late step {step}: {interval(here['accuracy'])} %, moving points "
        f"{interval(here['moving_accuracy'])} %, intermediate features {interval(here['feature_accuracy'])} %.",
        f"Raw patches (cosine): {interval(raw)} %, moving points {interval(raw_moving)} %; the best layer finds "
        f"{interval(ahead)} points more. Nothing moves: {interval(found['static_accuracy'])} %.",
        f"Median layer at that step: {median:.1f} %; best minus median {best - median:.1f} points.",
        f"Best layer of step 0 (pure noise, no clip): layer {int(first.idxmax('layer'))}, {float(first.max()):.1f} %; "
        f"the best late minus that: {best - float(first.max()):.1f} points.",
    ]


def accuracy_report(backbone: Backbone, *, first: int, count: int, threshold_cells: float) -> tuple[str, int, int]:
    """The tables as Markdown, and the best layer and step."""
    height, width, _ = backbone.default_size
    clips = scenes(first, count, height=height, width=width)
    found = sweep(backbone, clips, Selection(STEPS, "all"), threshold_cells=threshold_cells, per_head=True)
    layout = backbone.layout(*backbone.default_size)
    patches = np.array([patch_accuracies(clip, layout, threshold_cells) for clip in clips.values()])
    layer, step = best_late(found)
    lines = [
        f"{count} unseen scenes; within {threshold_cells:g} cell; all visible points / moving ones, %.",
        "",
        *profile_lines(found),
        "",
        f"Step {step}: layers (all, moving, features) and single heads, %, with 95 % intervals over scenes.",
        "",
        *layer_and_head_lines(found, step),
        "",
        *summary_lines(found, patches),
        "",
        f"`select_layers`: {select_layers(found)!r}",
        "",
        *_other_sizes(backbone, layer, step, first, count, threshold_cells),
    ]
    return "\n".join(lines), layer, step


def _other_sizes(
    backbone: Backbone, layer: int, step: int, first: int, count: int, threshold_cells: float
) -> list[str]:
    """The best layer on clips that are not square."""
    height, width, _ = backbone.default_size
    lines = []
    for high, wide in ((4 * height // 5, 6 * width // 5), (6 * height // 5, 4 * width // 5)):
        clips = scenes(first, count, height=high, width=wide)
        found = sweep(
            backbone,
            clips,
            Selection([step], [layer]),
            threshold_cells=threshold_cells,
            size=(high, wide),
            features=False,
        ).isel(step=0, layer=0)
        lines.append(
            f"{wide} x {high} px (width x height), layer {layer}: {interval(found['accuracy'])} %, moving points "
            f"{interval(found['moving_accuracy'])} %."
        )
    return lines
