"""DiffTrack's analysis: which layers match points while a model generates, with tracks of the generated clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyses.layers.sweep import sweep
from analyses.selection.select import select_layers
from ditprobe.reproduce.comparison import Comparison, Row
from ditprobe.reproduce.figures import DIFFTRACK, SELECTED_LAYERS
from ditprobe.reproduce.prompts import StartedPrompt
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.families.published import model_card
from store.errors import InvalidInputError
from store.selection import Selection
from store.tracks.files import load_tracks, save_tracks
from store.tracks.point_tracks import PointTracks, Tracker

PROTOCOL = (
    "50 prompts with objects and 50 of scenes; each is generated in 50 steps, tracked by CoTracker from given start "
    "points, and generated again while every layer and step is measured: accuracy within 8 px of 720 x 480, cross "
    "confidence and cross attention score, harmonic mean of their min-max scaled means, layers ranked at the last step."
)
TOP = 3
PROMPTS = 100


@dataclass(frozen=True)
class AnalysisRun:
    """Settings of the analysis; the defaults are the published setting.

    Attributes
    ----------
    steps : denoising steps
    at : steps that are measured
    size : height and width in pixels, images; the model's own where None
    seed : of every generation
    tracker : name of what tracks the generated clips, for the comparison
    guidance_scale : the model's own where None
    """

    steps: int = 50
    at: Any = "all"
    size: tuple[int | None, int | None, int | None] = (None, None, None)
    seed: int = 0
    tracker: str = "CoTracker"
    guidance_scale: float | None = None

    def size_of(self, backbone: Backbone) -> Size:
        """Return the size of what is generated."""
        return Size(*(given or own for given, own in zip(self.size, backbone.default_size, strict=True)))


def reproduce_analysis(
    backbone: Backbone,
    prompts: Mapping[str, StartedPrompt],
    tracker: Tracker,
    folder: Path,
    *,
    run: AnalysisRun | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[..., None] | bool | None = None,
) -> tuple[Comparison, xr.Dataset]:
    """Generate, track and sweep every prompt, and compare the layers that come out with the published ones.

    Parameters
    ----------
    backbone : Backbone
    prompts : of :func:`ditprobe.reproduce.prompts.read_prompts`
    tracker : follows the start points in the generated clips
    folder : holds ``tracks`` of the generated clips and ``sweep.nc``, from which an interrupted run resumes
    run : AnalysisRun
    resume, overwrite : as of :func:`analyses.layers.sweep.sweep`
    progress : as there

    Returns
    -------
    The comparison, and the sweep

    Raises
    ------
    InvalidInputError, OutputExistsError, RecordingError
        As the sweep raises.
    """
    run = run or AnalysisRun()
    size = run.size_of(backbone)
    truth = _tracked(backbone, prompts, tracker, folder / "tracks", run, reuse=resume)
    found = sweep(
        backbone,
        {name: entry.prompt for name, entry in prompts.items()},
        Selection(run.at, "all"),
        seed=run.seed,
        steps=run.steps,
        preset="difftrack",
        truth=truth,
        size=size[:2],
        images=size.images,
        guidance_scale=run.guidance_scale,
        save=folder / "sweep.nc",
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )
    return compare_layers(backbone, found, run, len(prompts)), found


def _tracked(
    backbone: Backbone,
    prompts: Mapping[str, StartedPrompt],
    tracker: Tracker,
    folder: Path,
    run: AnalysisRun,
    *,
    reuse: bool,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Tracks and visibility of the start points in what each prompt generates, kept in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width, images = run.size_of(backbone)
    found = {}
    for name, entry in prompts.items():
        file = folder / f"{name.replace('/', '-')}.npz"
        if reuse and file.is_file():
            tracks = load_tracks(file)
        else:
            clip = backbone.generate(
                entry.prompt,
                seed=run.seed,
                steps=run.steps,
                height=height,
                width=width,
                images=images,
                guidance_scale=run.guidance_scale,
            )
            tracks = follow_points(clip.images, entry.points, tracker)
            save_tracks(tracks, file, overwrite=True)
        found[name] = (tracks.tracks, tracks.visibility)
    return found


def follow_points(images: np.ndarray, points: np.ndarray, tracker: Tracker) -> PointTracks:
    """Return the tracks of points of image 0, given in fractions of width and height."""
    height, width = images.shape[1:3]
    queries = np.column_stack([np.zeros(len(points)), points * (width, height)])
    return tracker(images, queries)


def compare_layers(backbone: Backbone, found: xr.Dataset, run: AnalysisRun, prompts: int) -> Comparison:
    """Return the published layers next to their rank and score in a sweep.

    A row for each published layer: its published rank, its rank here, and its harmonic mean with its interval over
    clips; and the layers that are best here.
    """
    card = model_card(backbone)
    published = SELECTED_LAYERS.get(card.name, ()) if card is not None else ()
    chosen = select_layers(found, min(TOP, found.sizes["layer"]), by="last", criterion="harmonic")
    scores = chosen.scores
    order = [int(layer) for layer in scores["layer"].values[np.argsort(-scores["mean"].values, kind="stable")]]
    rows = [_row(scores, order, layer, published.index(layer) + 1) for layer in published if layer in order]
    rows += [_row(scores, order, layer, None) for layer in chosen.layers if layer not in published]
    deviations = []
    if not published:
        known = ", ".join(SELECTED_LAYERS)
        deviations.append(f"{backbone.name} in place of {known}")
        rows += [
            Row(f"{name}, layer {layer}", rank, None)
            for name, layers in SELECTED_LAYERS.items()
            for rank, layer in enumerate(layers, 1)
        ]
    elif card is not None and card.by_configuration:
        deviations.append(f"weights of the configuration of {card.name}, which may be others")
    if run.steps != 50:
        deviations.append(f"{run.steps} denoising steps, published 50")
    if run.at != "all":
        deviations.append(f"{found.sizes['step']} of the steps, published all")
    size = run.size_of(backbone)
    if card is None or card.released is None or tuple(size) != card.released.size:
        deviations.append(f"clips of {size}")
    if prompts != PROMPTS:
        deviations.append(f"{prompts} prompts, published {PROMPTS}")
    if run.tracker != "CoTracker":
        deviations.append(f"tracks by {run.tracker}, published by CoTracker")
    if chosen.note:
        deviations.append(chosen.note.rstrip("."))
    what = "rank of a layer by the harmonic mean at the last step"
    return Comparison("difftrack-analysis", what, tuple(rows), DIFFTRACK, PROTOCOL, tuple(deviations), decimals=0)


def _row(scores: xr.Dataset, order: list[int], layer: int, published: int | None) -> Row:
    one = scores.sel(layer=layer)
    mean, low, high, sure = (float(one[name]) for name in ("mean", "low", "high", "probability"))
    interval = "" if np.isnan(low) else f" ({low:.2f} to {high:.2f})"
    probability = "" if np.isnan(sure) else f", in the top {TOP} with probability {sure:.2f}"
    note = f"harmonic mean {mean:.2f}{interval}{probability}"
    return Row(f"layer {layer}", published, order.index(layer) + 1, note=note)


def calls_of_analysis(backbone: Backbone, prompts: int, run: AnalysisRun) -> tuple[Size, float]:
    """Return the size of the clips and the calls of the transformer: each prompt runs twice.

    Raises
    ------
    InvalidInputError
        For no prompts.
    """
    if not prompts:
        raise InvalidInputError("there are no prompts.")
    size = run.size_of(backbone)
    backbone.check_size(*size)
    arguments = {} if run.guidance_scale is None else {"guidance_scale": run.guidance_scale}
    branches = 2 if backbone.guidance == "calls" and backbone.wants_guidance(arguments) else 1
    double = 2 if backbone.guidance == "batch" and backbone.wants_guidance(arguments) else 1
    return size, 2.0 * prompts * run.steps * branches * double
