"""``ditprobe eval-tapvid``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from ditprobe.cli import options, parsing
from ditprobe.cli.console import progress, say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.text.estimates import tell_time
from ditprobe.cli.trackers import (
    MATCHING,
    MatchingOptions,
    check_names,
    trackers_named,
    tracking_cost,
)
from store.clips.clip import Clip
from store.datasets.read_clips import read_clips
from store.datasets.tapvid import iter_tapvid
from store.errors import ClipError, InvalidInputError
from store.text import counted

if TYPE_CHECKING:
    import xarray as xr

    from analyses.metrics.tapvid import QueryMode
    from analyses.trackers.backbone import BackboneTracker
    from store.tracks.point_tracks import PointTracks, Tracker

GROUP = "What a model knows"
EXAMPLES = """
\b
Examples:
  ditprobe eval-tapvid --data tapvid_davis.pkl
  ditprobe eval-tapvid --data tapvid_rgb_stacking.pkl --mode strided --tracker flow --tracker patches --out table.csv
  ditprobe eval-tapvid --data tapvid_kinetics/ --limit 200 --out kinetics.nc --resume
  ditprobe eval-tapvid --data tapvid_davis.pkl -b THUDM/CogVideoX-2b --preset difftrack-tracking --first-image-only
    --clip-size 256x256 --dry-run
"""

DEFAULT_TRACKERS = ("backbone", "nothing-moves")
NOT_OF_BASELINES = (
    "backbone",
    *MatchingOptions.names(),
    *(name for name in LoadingOptions.names() if name != "device"),
)

Named = tuple[str, Clip]


@verb
@takes_groups
def eval_tapvid(
    ctx: typer.Context,
    data: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="A TAP-Vid pickle, a folder of them, a DiffTrack or MTBench folder, or videos with tracks.",
            show_default=False,
        ),
    ],
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="backbone, nothing-moves, patches, flow, backbone+lk or a registered one; repeatable.",
        ),
    ] = None,
    cotracker: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Weights of CoTracker3 offline, to evaluate it too.")
    ] = None,
    cotracker_code: Annotated[
        Path | None, typer.Option(metavar="PATH", help="CoTracker's repository, if it is not installed.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A further metric: median_error, visibility_brier or a registered one; repeatable."
        ),
    ] = None,
    mode: Annotated[
        Literal["first", "strided"],
        typer.Option(help="Queries where points are first visible, or in every fifth image."),
    ] = "first",
    first_image_only: Annotated[
        bool, typer.Option("--first-image-only", help="Query only points of image 0, as DiffTrack did.")
    ] = False,
    clip_size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Resize clips before they are tracked; 256x256 is usual."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only clips with this name or pattern: goat, 'dog*'.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="NUMBER", help="Maximum number of clips.")] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="PATH", help="The results: .nc, .csv or .json.", rich_help_panel=options.OUTPUT
        ),
    ] = Path("tapvid.nc"),
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="File of finished clips; <out>.clips.jsonl by default.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    backbone: options.BackboneName = "mini",
    matching: MatchingOptions = MATCHING,
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Evaluate trackers as TAP-Vid does."""
    names = tuple(tracker or DEFAULT_TRACKERS)
    check_names(names)
    _check_metrics(metric or ())
    kept = checkpoint or out.with_name(f"{out.name}.clips.jsonl")
    _check_given(ctx, names)
    matching.check(backbone)
    resized = parsing.pixel_size(clip_size, "clip-size")
    if not dry_run:
        _check_output(out, kept, overwrite, resume)
    clips = read_clips_with_tracks(data, resized, only, limit)
    attention = None
    if {"backbone", "backbone+lk"} & set(names):
        from analyses.trackers.backbone import BackboneTracker

        model = load_backbone_option(backbone, loading, plan=dry_run)
        attention = BackboneTracker(model, **matching.settings(model))
    trackers = trackers_named(
        names, attention, cotracker=cotracker, cotracker_code=cotracker_code, device=loading.device
    )
    asking: dict[str, Any] = {"mode": mode, "first_image_only": first_image_only, "metrics": tuple(metric or ())}
    if dry_run:
        _dry_run(data, clips, trackers, attention, asking, out, kept, not no_estimate)
        return
    from analyses.evaluation.files import save_evaluation
    from analyses.evaluation.tapvid import evaluate_tapvid

    called = data.name if resized is None else f"{data.name} at {resized[0]} x {resized[1]}"
    saved: dict[str, Any] = {"checkpoint": kept, "resume": resume, "overwrite": overwrite}
    with progress("tracking") as bar:
        found = evaluate_tapvid(clips, trackers, data=called, progress=bar, **asking, **saved)
    save_evaluation(found, out, overwrite=overwrite or resume)
    _tell(found, resized)
    say(f"\nwritten to {out}, finished clips in {kept}")


def read_clips_with_tracks(
    data: Path, size: tuple[int, int] | None, patterns: Sequence[str] | None, limit: int | None
) -> Iterator[Named]:
    """Read clips with tracks one at a time; the first is read at once, so that bad data is found before a model loads.

    Parameters
    ----------
    data : what :func:`store.datasets.tapvid.iter_tapvid` or :func:`store.datasets.read_clips.read_clips` reads; of the
    latter, clips without
        tracks are left out
    size : (height, width) to resize to
    patterns : names as in a shell; None is all
    limit : largest number of clips

    Raises
    ------
    ClipError
        When there are no clips, none has tracks, or the first is damaged.
    InvalidInputError
        When no clip has such a name.
    UnsafePickleError
        For a pickle with code in it, which is not run.

    Examples
    --------
    >>> read_clips_with_tracks(Path("tapvid_davis.pkl"), None, None, None)
    Traceback (most recent call last):
    ...
    store.errors.ClipError: tapvid_davis.pkl does not exist. Name a TAP-Vid pickle or a folder of them.
    """
    passed: list[str] = []
    chosen = islice(_matching(_read(data, size), patterns, passed), limit)
    try:
        first = [next(chosen)]
    except StopIteration:
        asked = " or ".join(map(repr, patterns or ()))
        some = ", ".join(passed[:8]) + (", ..." if len(passed) > 8 else "")
        raise InvalidInputError(f"{data} has no clip {asked}. It has {some}.") from None
    return chain(_given_away(first), chosen)


def _given_away(clips: list[Named]) -> Iterator[Named]:
    """Yield each clip and drop the reference to it."""
    while clips:
        yield clips.pop(0)


def _matching(clips: Iterable[Named], patterns: Sequence[str] | None, passed: list[str]) -> Iterator[Named]:
    for name, clip in clips:
        if patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns):
            yield name, clip
        else:
            passed.append(name)


def _read(data: Path, size: tuple[int, int] | None) -> Iterable[Named]:
    if not data.exists() or data.suffix == ".pkl" or (data.is_dir() and any(data.glob("*.pkl"))):
        return iter_tapvid(data, size=size)
    clips = {name: clip for name, clip in read_clips(data).items() if clip.tracks is not None}
    if not clips:
        raise ClipError(f"{data} holds no clip with tracks. Give a TAP-Vid pickle, or videos with tracks next to them.")
    return ((name, clip if size is None else clip.resized(*size)) for name, clip in clips.items())


def _check_given(ctx: typer.Context, names: Sequence[str]) -> None:
    """Raise for options without effect."""
    given = ctx.params
    if not {"backbone", "backbone+lk"} & set(names):
        why = "applies to --tracker backbone, which is not used. Leave it out."
        options.reject_options(ctx, NOT_OF_BASELINES, why)
        if given["cotracker"] is None:
            options.reject_options(ctx, ("device",), why)
    if given["cotracker"] is None:
        options.reject_options(ctx, ("cotracker_code",), "applies to --cotracker, which is not given. Leave it out.")
    if given["first_image_only"] and given["mode"] != "first":
        raise InvalidInputError("--first-image-only goes with --mode first. Leave one of them out.")


def _check_metrics(names: Sequence[str]) -> None:
    """Raise for metrics that are not registered, before the model is loaded."""
    if names:
        from analyses.metrics.registry import TRACKING_METRICS

        for name in names:
            TRACKING_METRICS[name]


def _check_output(out: Path, checkpoint: Path, overwrite: bool, resume: bool) -> None:
    """Validate output paths before the model is loaded."""
    from analyses.evaluation.checkpoint import KIND
    from analyses.evaluation.files import check_evaluation_path

    if out.absolute() == checkpoint.absolute():
        raise InvalidInputError(f"--out and --checkpoint are both {out}. Give them different paths.")
    check_evaluation_path(out, overwrite=overwrite or resume)
    KIND.check(checkpoint, resume=resume, overwrite=overwrite)


class _Work:
    """A tracker that only counts the work: the sizes of clips and their queries."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, int, int], np.ndarray]] = []

    def __call__(self, images: np.ndarray, queries: np.ndarray) -> PointTracks:
        from analyses.trackers.static import StaticTracker

        self.asked.append((images.shape[:3], queries))
        return StaticTracker()(images, queries)


def _dry_run(
    data: Path,
    clips: Iterable[Named],
    trackers: dict[str, Tracker],
    attention: BackboneTracker | None,
    asking: dict[str, QueryMode | bool | tuple[str, ...]],
    out: Path,
    checkpoint: Path,
    estimate: bool,
) -> None:
    from analyses.evaluation.tapvid import evaluate_tapvid

    work = _Work()
    with progress("reading") as bar:
        found = evaluate_tapvid(clips, {"work": work}, progress=bar, **asking)  # type: ignore[arg-type]
    counts = (
        f"{counted(int(found['images'].sum()), 'image')}, {counted(int(found['queries'].sum()), 'query', 'queries')}"
    )
    say(attention.backbone if attention is not None else "no backbone")
    say(f"  data        {counted(found.sizes['clip'], 'clip')} of {data}: {counts}")
    say(f"  trackers    {', '.join(trackers)}")
    if attention is not None:
        say(f"  backbone    layer {attention.layer} at step {attention.step} of {attention.steps}")
    say(f"  figures     {out}\n  finished    {checkpoint}")
    if attention is not None and attention.options is not None and isinstance(attention.layer, int):
        calls = [
            tracking_cost(attention.backbone, attention.options, clip, queries, attention.size, attention.layer)
            for clip, queries in work.asked
        ]
        extra = "; encoding the images and matching come on top"
        tell_time(attention.backbone, calls, steps=attention.steps, estimate=estimate, extra=extra, use="track")


def _tell(found: xr.Dataset, clip_size: tuple[int, int] | None) -> None:
    from ditprobe.cli.text.tapvid import clip_table, mean_table, skipped_line
    from ditprobe.reproduce.davis_figures import is_davis, published_figures

    say(f"{clip_table(found)}\n\n{mean_table(found)}")
    skipped = skipped_line(found)
    if skipped is not None:
        say(skipped)
    settings = json.loads(found.attrs["settings"])
    if is_davis(found["clip"].values.tolist() + json.loads(found.attrs["skipped"]), settings["data"]):
        say(f"\n{published_figures(found, clip_size=clip_size)}")
