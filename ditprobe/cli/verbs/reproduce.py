"""``ditprobe reproduce``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from ditprobe.cli import inputs, options, parsing
from ditprobe.cli.console import progress, say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option, plan_backbone_option
from ditprobe.cli.text.estimates import tell_time
from ditprobe.cli.trackers import trackers_named, tracking_cost
from store.errors import InvalidInputError, OutputExistsError
from store.files.outputs import check_modes
from store.text import counted, listed

if TYPE_CHECKING:
    from ditprobe.reproduce.comparison import Comparison
    from probe.backbones.backbone import Backbone
    from store.clips.clip import Clip
    from store.tracks.point_tracks import Tracker

GROUP = "What a model knows"
EXAMPLES = """
\b
Examples:
  ditprobe reproduce difftrack-analysis --data cogvideox_t2v_2b -b THUDM/CogVideoX-2b --cotracker scaled_offline.pth
  ditprobe reproduce difftrack-davis --data tapvid_davis.pkl -b THUDM/CogVideoX-5b --out davis
  ditprobe reproduce ditflow --data davis-videos --prompts prompts.csv -b THUDM/CogVideoX-5b --dry-run
"""

Experiment = Literal["difftrack-analysis", "difftrack-davis", "ditflow"]
_ONLY = {
    "difftrack-analysis": ("at",),
    "difftrack-davis": ("layer",),
    "ditflow": ("prompts", "method", "grid"),
}


@dataclass(frozen=True)
class _Work:
    """The request, common to all experiments."""

    data: Path
    out: Path
    size: tuple[int | None, int | None, int | None]
    steps: int | None
    seed: int
    limit: int | None
    resume: bool
    overwrite: bool
    estimate: bool
    tracker: dict[str, Any]

    def make_tracker(self) -> Tracker:
        """Load CoTracker if its weights are given, otherwise use optical flow."""
        found = trackers_named([] if self.tracker["cotracker"] else ["flow"], None, **self.tracker)
        return next(iter(found.values()))

    @property
    def tracker_name(self) -> str:
        return "CoTracker" if self.tracker["cotracker"] else "optical flow"


@verb
@takes_groups
def reproduce(
    ctx: typer.Context,
    experiment: Annotated[
        Experiment, typer.Argument(help="difftrack-analysis, difftrack-davis or ditflow.", show_default=False)
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="Prompts and start points of DiffTrack; the TAP-Vid DAVIS pickle; reference videos or MTBench.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", help="Folder of the results.", rich_help_panel=options.OUTPUT),
    ] = Path("reproduction"),
    backbone: options.BackboneName = "mini",
    cotracker: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Weights of CoTracker3 offline; optical flow without.")
    ] = None,
    cotracker_code: Annotated[
        Path | None, typer.Option(metavar="PATH", help="CoTracker's repository, if it is not installed.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="NUMBER", help="Maximum number of prompts, clips or references.")
    ] = None,
    layer: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="difftrack-davis: layer; by default the published one.")
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="NUMBERS", help="difftrack-analysis: steps to measure: all or 0:50:7.")
    ] = "all",
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="ditflow: a CSV file with the columns reference, prompt and kind."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="ditflow: a transfer method; repeatable. All published ones by default."),
    ] = None,
    grid: Annotated[int, typer.Option(min=2, metavar="NUMBER", help="ditflow: tracked points along each axis.")] = 55,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="NUMBER", help="Denoising steps; as published by default.", rich_help_panel=options.RUN
        ),
    ] = None,
    seed: options.Seed = 0,
    size: options.SizeText = None,
    images: options.Images = None,
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Run a published experiment and compare its figures."""
    for other, names in _ONLY.items():
        if other != experiment:
            options.reject_options(ctx, names, f"applies to {other}. Leave it out.")
    inputs.check_exists(data, "the data")
    wanted = parsing.pixel_size(size) or (None, None)
    check_modes(out, overwrite=overwrite, resume=resume)
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out} is a file. Choose another --out.")
    if not dry_run and out.is_dir() and any(out.iterdir()) and not (resume or overwrite):
        raise OutputExistsError(f"{out} is not empty. Choose another --out, or add --resume or --overwrite.")
    work = _Work(
        data,
        out,
        (*wanted, images),
        steps,
        seed,
        limit,
        resume,
        overwrite,
        not no_estimate,
        {"cotracker": cotracker, "cotracker_code": cotracker_code, "device": loading.device},
    )
    model = plan_backbone_option(backbone, loading) if dry_run else load_backbone_option(backbone, loading)
    if dry_run:
        _tell_plan(model, work)
    else:
        out.mkdir(parents=True, exist_ok=True)
    if experiment == "difftrack-analysis":
        comparison = _analysis(model, work, at, dry_run)
    elif experiment == "difftrack-davis":
        comparison = _davis(model, work, layer, dry_run)
    else:
        comparison = _ditflow(model, work, prompts, method, grid, dry_run)
    if comparison is not None:
        comparison.save(out / "comparison.json")
        say(comparison.text())
        say(f"\nwritten to {out}")


def _tell_plan(model: Backbone, work: _Work) -> None:
    """Print the memory of the model at the size of the run."""
    from ditprobe.planning.model_plan import ModelPlan
    from probe.backbones.geometry import Size
    from probe.loading.model_facts import facts_of_backbone

    facts = facts_of_backbone(model)
    size = Size(*(given or own for given, own in zip(work.size, facts.size, strict=True)))
    model.check_size(*size)
    for line in ModelPlan(facts, facts.layout(size)).lines():
        say(line)


def _analysis(model: Backbone, work: _Work, at: str, dry_run: bool) -> Comparison | None:
    from itertools import islice

    from ditprobe.reproduce.analysis import AnalysisRun, calls_of_analysis, reproduce_analysis
    from ditprobe.reproduce.prompts import read_prompts

    run = AnalysisRun(work.steps or 50, parsing.numbers(at, "at"), work.size, work.seed, work.tracker_name)
    prompts = dict(islice(read_prompts(work.data).items(), work.limit))
    if dry_run:
        say(f"  experiment  {counted(len(prompts), 'prompt')}, each generated twice, tracked by {run.tracker}")
        tell_time(model, [calls_of_analysis(model, len(prompts), run)], steps=run.steps, estimate=work.estimate)
        return None
    with progress("sweeping") as bar:
        comparison, _ = reproduce_analysis(
            model,
            prompts,
            work.make_tracker(),
            work.out,
            run=run,
            resume=work.resume,
            overwrite=work.overwrite,
            progress=bar,
        )
    return comparison


def _davis(model: Backbone, work: _Work, layer: int | None, dry_run: bool) -> Comparison | None:
    from analyses.evaluation.files import save_evaluation
    from ditprobe.reproduce.davis import published_tracker, reproduce_davis

    height, width, images = work.size
    if images is not None:
        raise InvalidInputError("--images has no use with difftrack-davis: all images of a clip are tracked.")
    size = None if height is None or width is None else (height, width)
    tracker = published_tracker(model, layer=layer, steps=work.steps, size=size)
    if dry_run:
        _tell_tracking(model, tracker, work)
        return None
    saved: dict[str, Any] = {"resume": work.resume, "overwrite": work.overwrite}
    with progress("tracking") as bar:
        comparison, found = reproduce_davis(
            _clips(work), tracker, data=work.data.name, save=work.out / "clips.jsonl", progress=bar, **saved
        )
    save_evaluation(found, work.out / "tapvid.nc", overwrite=True)
    return comparison


def _clips(work: _Work) -> Iterator[tuple[str, Clip]]:
    from itertools import islice

    from ditprobe.reproduce.davis import CLIP_SIZE
    from store.datasets.tapvid import iter_tapvid

    return islice(iter_tapvid(work.data, size=CLIP_SIZE), work.limit)


def _tell_tracking(model: Backbone, tracker: Any, work: _Work) -> None:
    from ditprobe.reproduce.davis import has_queries

    asked = {name: (clip.images.shape[:3], has_queries(clip)) for name, clip in _clips(work)}
    shapes = [shape for shape, has in asked.values() if has]
    without = [name for name, (_, has) in asked.items() if not has]
    if not shapes:
        raise InvalidInputError(
            f"no clip of {work.data} has a point that is visible in image 0, so there is nothing to evaluate."
        )
    lengths, queries = [shape[0] for shape in shapes], np.zeros((1, 3))  # published queries are in image 0
    calls = [tracking_cost(model, tracker.options, shape, queries, tracker.size, tracker.layer) for shape in shapes]
    where = f"layer {tracker.layer} at step {tracker.step} of {tracker.steps}"
    say(f"  experiment  {counted(len(lengths), 'clip')} of {counted(sum(lengths), 'image')}, {where}")
    if without:
        say(f"  left out    {listed(without)}: no point is visible in image 0")
    extra = "; encoding the images and matching come on top"
    tell_time(model, calls, steps=tracker.steps, estimate=work.estimate, extra=extra)


def _ditflow(
    model: Backbone, work: _Work, prompts: Path | None, method: list[str] | None, grid: int, dry_run: bool
) -> Comparison | None:
    from itertools import islice

    from ditprobe.reproduce.ditflow import (
        METHODS,
        TransferRun,
        calls_of_transfers,
        read_transfer_prompts,
        reproduce_ditflow,
    )
    from store.datasets.read_clips import read_clips

    run = TransferRun(work.steps or 50, work.size, work.seed, grid, work.tracker_name)
    references = dict(islice(read_clips(work.data).items(), work.limit))
    asked = read_transfer_prompts(prompts, references)
    names = tuple(method or METHODS)
    if dry_run:
        transfers = counted(len(names) * len(asked), "transfer")
        say(f"  experiment  {transfers}: {counted(len(asked), 'prompt')} by {', '.join(names)}")
        calls = calls_of_transfers(model, len(asked), names, run)
        tell_time(model, [calls], steps=run.steps, estimate=work.estimate)
        return None
    with progress("transferring") as bar:
        comparison, _ = reproduce_ditflow(
            model,
            references,
            asked,
            work.make_tracker(),
            work.out,
            methods=names,
            run=run,
            resume=work.resume,
            progress=bar,
        )
    return comparison
