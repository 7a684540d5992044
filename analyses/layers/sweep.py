"""The layer sweep: every measure at every selected layer and step, while the model samples or from recordings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from analyses.arrays import BUDGET_BYTES
from analyses.layers.ground_truth import Target
from analyses.layers.measures import Measuring, measuring
from analyses.layers.sweep_dataset import Entry, Grid, concatenate
from analyses.layers.sweep_draws import check_draws, check_run, check_selection, draw_seeds, repeat_for_draws
from analyses.layers.sweep_files import save_sweep
from analyses.layers.sweep_items import (
    Progress,
    SweepItem,
    SweepProgress,
    check_any_left,
    named,
    new_entry,
    sweep_items,
)
from analyses.layers.sweep_recording import sweep_recording
from analyses.layers.sweep_resume import assemble_sweep, saved_sources
from analyses.layers.sweep_run import SweepRun
from analyses.token_checks import Pending, fetch
from probe.backbones.backbone import Backbone
from probe.backbones.pipeline_call import OnStep
from probe.backbones.settings import RunSettings, requested_size
from store.arguments import check_kind, checked_but
from store.clips.clip import Clip
from store.files.outputs import check_modes
from store.layout import GeometryPreset
from store.progress import progress_bar
from store.selection import Noise, Selection, check_noise

if TYPE_CHECKING:
    from probe.capture.capture import Capture

__all__ = ["sweep", "sweep_recording"]


@checked_but("seed", "threshold_cells")
def sweep(
    backbone: Backbone,
    clips_or_prompts: Any,
    selection: Selection,
    *,
    noise: Noise = "forward",
    seed: int | Sequence[int] = 0,
    draws: int = 1,
    steps: int = 50,
    threshold_cells: float | Sequence[float] = 0.5,
    preset: GeometryPreset = "exact",
    per_head: bool = False,
    features: bool = True,
    truth: Mapping[str, tuple[Any, Any]] | None = None,
    min_points: int = 4,
    size: tuple[int, int] | None = None,
    images: int | None = None,
    stride: int = 1,
    prompt: str | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    save: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    budget_bytes: int = BUDGET_BYTES,
    progress: Progress | bool | None = None,
) -> xr.Dataset:
    """Accuracy, confidence and attention score of every selected layer at every selected step.

    Queries and keys are not stored: each is measured as soon as it is computed.

    Parameters
    ----------
    backbone : Backbone
    clips_or_prompts : mapping of names to Clip or str, or a sequence, or one of them
        A clip is noised to each step's timestep. A prompt is analysed while it is generated. Clips of another size are
        resized with their tracks, longer ones cut into windows (:func:`probe.run.windows.cut_windows`); each window is
        an entry of ``clip``. A clip without tracks, and a prompt, get a grid of points and no accuracy.
    selection : Selection
        Steps, layers and heads; one branch. Heads that are left out do not count in the mean over heads.
    noise : "clean", "forward" or "inversion", see :func:`probe.run.run.run_states`
    seed : of the noise, or of the sampling; the same for every clip
        Several seeds give several draws; :func:`by_seed` gives them a separate dim.
    draws : number of noise draws for each clip, or of samples of a prompt; each is an entry of ``clip`` with a
        coordinate ``draw``, and the draws of a clip are averaged as its windows are. The first uses ``seed`` itself
    steps : denoising steps of the run
    threshold_cells : distance in cells within which a point counts as found; 0.5 is the published 8 px. Of several, the
        first applies to every accuracy; ``accuracy_within``, ``moving_accuracy_within``, ``static_accuracy_within``,
        ``blind_accuracy_within`` and ``moving_pairs_within`` hold all, over ``threshold``
    preset : "exact", or "difftrack" for the published geometry, indexing and counting
    per_head : also measure each head alone, as ``head_...`` variables with a dim ``head``
    features : also match features
    truth : mapping of names of ``clips_or_prompts`` to (tracks, visibility), for prompts; in pixels and images of the
        generated clip
    min_points : windows with fewer query points are skipped, as are those of one image; ``attrs["skipped"]`` lists them
    size, images, stride : how clips are cut, and the size of what prompts generate
    prompt : the text shown with every clip; by default the clip's own
    guidance_scale, negative_prompt, conditioning : as in :meth:`Backbone.generate`, the same for all clips and prompts;
        ``attrs["conditioning"]`` keeps a hash of each argument
    save : file to write after each finished clip, usually ``.nc``; read it with ``load_sweep``
    resume : continue that file, which must have the same settings and clips
    overwrite : replace that file once the first clip is finished
    budget_bytes : working memory of the measurements
    progress : called with (model steps done, total, name of the clip)
        By default a bar in notebooks and interactive sessions; False for none.

    Returns
    -------
    Dataset over ``clip``, ``step``, ``layer``, ``target`` (and ``head``)
        ``accuracy``, ``moving_accuracy``, ``feature_accuracy`` in percent; ``confidence`` and ``attention_score``
        (also over target); ``harmonic_mean`` (step, layer); ``static_accuracy`` ("nothing moves"),
        ``blind_accuracy`` (the highest score of a guess without direction on moving pairs), ``points``, ``pairs``
        and ``moving_pairs`` (clip). Its attrs hold the settings.

    Raises
    ------
    InvalidInputError, UnknownLayerError, OutputExistsError
        Before the model runs.
    RecordingError
        When the file cannot be written.

    Notes
    -----
    The query image and points hidden in it do not count (preset "difftrack" counts both).
    docs/definitions.md, sections 2 to 4.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scenes.scene import make_scene
    >>> mini = load_backbone(new_pipeline(MiniConfig(layers=2)))
    >>> found = sweep(mini, {"scene": make_scene(0)}, Selection(steps=[0, -1], layers="all"))
    >>> dict(found["accuracy"].sizes)
    {'clip': 1, 'step': 2, 'layer': 2}
    """
    check_noise(noise)
    check_run(seed, steps, draws)
    check_modes(save, resume=resume, overwrite=overwrite, argument="save")
    if not isinstance(threshold_cells, str):
        check_kind(threshold_cells, float | Sequence[float], "threshold_cells")
    how = measuring(preset, threshold_cells, per_head, min_points, budget_bytes)
    requested = requested_size(size, images=images)
    seeds = draw_seeds(seed, draws)
    settings = RunSettings(seeds[0], steps, requested, guidance_scale, negative_prompt, dict(conditioning or {}))
    run = SweepRun(backbone, selection, settings, noise, seeds, features, stride, prompt)
    check_selection(selection)
    resolved = run.resolved()
    backbone.check_ready()
    check_kind(clips_or_prompts, Clip | str | Mapping[Any, Any] | Iterable[Any], "clips_or_prompts")
    sources = named(clips_or_prompts, "clip")
    check_draws(len(run.seeds), noise, sources, truth or {})
    items, skipped = sweep_items(sources, run, truth or {}, how, digests=save is not None)
    items = repeat_for_draws(items, len(run.seeds))
    check_any_left(items, skipped)
    attrs = run.attrs(resolved) | how.attrs()
    names = tuple(backbone.layers[layer].name for layer in resolved.layers)
    grid = Grid(resolved.steps, resolved.layers, names, resolved.heads, how.thresholds)
    done = saved_sources(save, resume, overwrite, attrs, items)
    with progress_bar(progress, "sweeping") as tell:
        bar = SweepProgress(tell, items, {name: run.passes(source) for name, source in sources.items()})
        for source, group in groupby(items, key=lambda item: item.source):
            if source in done:
                bar.finish(source)
                continue
            done[source] = _run_source(run, sources[source], list(group), grid, how, bar)
            if save is not None:
                save_sweep(assemble_sweep(done, items, skipped, attrs), save)
    return assemble_sweep(done, items, skipped, attrs)


# Running -----------------------------------------------------------------------------------------------------------


def _run_source(
    run: SweepRun, source: str | Clip, items: list[SweepItem], grid: Grid, how: Measuring, bar: SweepProgress
) -> xr.Dataset:
    """All items of one clip or prompt."""
    windows = run.windows(source) if isinstance(source, Clip) else ()
    entries = []
    for number, item in enumerate(items):
        shown = windows[item.window].clip if isinstance(source, Clip) else source
        tell = partial(bar.tell, item.name, number * run.passes(source))
        entries.append(_run_item(run, shown, item, grid, how, tell))
    bar.finish(items[0].source)
    return concatenate(entries)


def _run_item(
    run: SweepRun, source: str | Clip, item: SweepItem, grid: Grid, how: Measuring, tell: OnStep
) -> xr.Dataset:
    targets: dict[torch.device, Target] = {}  # of each device that holds layers
    entries: list[Entry] = []
    waiting: list[tuple[int, int, Pending]] = []

    def sink(capture: Capture) -> None:
        device = capture.query.device
        if device not in targets:
            targets[device] = how.target(item.truth, capture.layout, device)
        if not entries:
            entries.append(new_entry(item, grid, targets[device]))
        found = how.pending(capture.query, capture.key, targets[device], capture.text_key, capture.features)
        waiting.append((capture.step, capture.layer, found))
        entries[0].timesteps[capture.step] = capture.timestep

    def take() -> None:
        for (step, layer, _), values in zip(waiting, fetch([found for *_, found in waiting]), strict=True):
            entries[0].add(step, layer, values)
        waiting.clear()

    def after_step(done: int, total: int) -> None:
        take()  # the run has just waited for the device, to check what it computed
        tell(done, total)

    run.run(source, sink, after_step, item.draw or 0)
    take()
    return entries[0].to_dataset()
