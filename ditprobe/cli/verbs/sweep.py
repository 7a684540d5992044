"""``ditprobe sweep``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ditprobe.cli import inputs, options, parsing
from ditprobe.cli.console import progress, say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.layer_option import check_layers, layers_option
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.pseudo_truth import check_truth, with_truth
from ditprobe.cli.text.estimates import tell_time
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.files.outputs import check_modes
from store.text import counted

if TYPE_CHECKING:
    import xarray as xr

    from probe.backbones.backbone import Backbone

GROUP = "Start here"
EXAMPLES = """
\b
Examples:
  ditprobe sweep --scenes 0:16 --threshold-cells 1 --report sweep.html
  ditprobe sweep -b mini --clips ../shared/data/det --stride 4 --out det.nc
  ditprobe sweep --clips my.mp4 --last 95 --stride 4 --truth flow
  ditprobe sweep -b THUDM/CogVideoX-2b --prompt "a dog runs" --at 0:50:7 --dry-run
  ditprobe sweep --recording a.zarr --recording b.zarr --out stored.nc
  ditprobe sweep --scenes 0:8 --closer 2 --max-crops 5 --out closer.nc
"""


# Options that a recording determines, and options without use for a prompt, which is generated at full length.
NOT_OF_RECORDINGS = (
    *("backbone", "prompt", "layers", "at", "heads", "noise", "seed", "draws", "steps", "features", "size"),
    *("images", "first", "last", "stride", "truth", "cotracker", "cotracker_code"),
    *LoadingOptions.names(),
    "resume",
)
NOT_OF_PROMPTS = ("noise", "stride")
# A closer look measures tracking at one step, by default that of tracking, with all heads and no features.
NOT_OF_CLOSER = (
    *("at", "branches", "heads", "noise", "draws", "threshold_cells", "preset", "features", "images"),
    *("prompt", "recording", "count", "by", "report", "csv", "resume", "no_estimate"),
)


@verb
@takes_groups
def sweep(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PATH", help="The sweep, a .nc file.", rich_help_panel=options.OUTPUT)
    ] = Path("sweep.nc"),
    backbone: options.BackboneName = "mini",
    clips: options.Clips = None,
    scenes: Annotated[str | None, typer.Option(metavar="NUMBERS", help="Seeds of synthetic scenes: 0:16.")] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A prompt to analyse while it is generated; repeatable."),
    ] = None,
    recording: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="A recording to sweep instead of a model; repeatable."),
    ] = None,
    layers: options.Layers = "all",
    at: options.At = "0:50:7",
    branches: Annotated[str, typer.Option(metavar="NAME", help="cond or uncond; a sweep measures one.")] = "cond",
    heads: options.Heads = None,
    noise: options.ClipNoise = "forward",
    seed: options.Seed = 0,
    steps: options.Steps = 50,
    draws: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="Noise draws for each clip.")] = 1,
    threshold_cells: Annotated[
        str,
        typer.Option(
            metavar="NUMBERS",
            help="Largest error of a correct match, in cells; of several, the first is shown.",
        ),
    ] = "0.5",
    preset: Annotated[
        Literal["exact", "difftrack"], typer.Option(help="ditprobe's definitions, or those of DiffTrack's release.")
    ] = "exact",
    per_head: Annotated[bool, typer.Option("--per-head", help="Also measure each head alone.")] = False,
    features: Annotated[bool, typer.Option("--features/--no-features", help="Also match features.")] = True,
    size: options.SizeText = None,
    images: options.Images = None,
    first: options.First = 0,
    last: options.Last = None,
    stride: options.Stride = 1,
    truth: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Tracks for clips without any: flow, cotracker or a file."),
    ] = None,
    cotracker: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Weights of CoTracker3 offline, for --truth cotracker.")
    ] = None,
    cotracker_code: Annotated[
        Path | None, typer.Option(metavar="PATH", help="CoTracker's repository, if it is not installed.")
    ] = None,
    closer: Annotated[
        int | None,
        typer.Option(
            min=2, max=8, metavar="NUMBER", help="Measure in crops this many times closer, which follow the points."
        ),
    ] = None,
    max_crops: options.MaxCrops = None,
    count: options.Count = None,
    by: options.By = "last",
    report: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Also write a report with example clips.", rich_help_panel=options.OUTPUT),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Also write a table: a row for each clip, step and layer.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Measure how well each layer matches points at each step."""
    _check_given(ctx)
    for path in recording or ():
        inputs.check_exists(path, "a recording")
    inputs.check_exists(clips, "a video or of a folder of clips")
    wanted_layers = layers_option(layers) or ()
    chosen, wanted = parsing.selection(wanted_layers, at, branches, heads), parsing.pixel_size(size)
    options.check_size(wanted, backbone)
    if scenes is not None:
        parsing.scene_seeds(scenes)
    weights: dict[str, Any] = {"cotracker": cotracker, "cotracker_code": cotracker_code, "device": loading.device}
    if closer is not None:
        check_truth(truth, cotracker)
        _check_output(out, None, overwrite, False, dry_run)
        model = load_backbone_option(backbone, loading, plan=dry_run)
        check_layers(wanted_layers, model)
        layout = options.resolve_layout(model, wanted, None)
        sources = inputs.read_sources(clips, scenes, layout, stride, first=first, last=last)
        sources = sources if dry_run else with_truth(sources, truth, window=layout.images * stride, **weights)
        look: dict[str, Any] = {"level": closer, "max_crops": max_crops or 5, "per_head": per_head, "seed": seed}
        look |= {"layers": wanted_layers, "steps": steps, "size": wanted, "stride": stride}
        _sweep_closer(model, sources, look, out, dry_run)
        return
    if "," in branches:
        raise InvalidInputError(f"--branches {branches!r} names several; a sweep measures one.")
    check_truth(truth, cotracker)
    thresholds, tables = _thresholds(threshold_cells), _tables(csv, per_head)
    _check_output(out, report, overwrite, resume, dry_run)
    if not dry_run:
        _check_tables(tables, overwrite or resume)
    how: dict[str, Any] = {"threshold_cells": thresholds, "preset": preset, "per_head": per_head}
    if recording:
        found = _sweep_recordings(recording, clips, scenes, branches, how, count, dry_run)
        if found is not None:
            _finish(found, out, count, by, report, None, {})
            _write_tables(found, tables)
        return
    model = load_backbone_option(backbone, loading, plan=dry_run)
    check_layers(wanted_layers, model)
    run: dict[str, Any] = {"noise": noise, "seed": seed, "steps": steps, "images": images, "stride": stride}
    run["size"] = wanted
    options.check_count(count, len(chosen.resolve(len(model.layers), steps, 1).layers))
    layout = options.resolve_layout(model, run["size"], images)
    sources = inputs.joined(
        inputs.name_prompts(prompt), inputs.read_sources(clips, scenes, layout, stride, first=first, last=last)
    )
    if dry_run:
        _dry_run(model, sources, chosen, run, draws, estimate=not no_estimate)
        return
    sources = with_truth(sources, truth, window=layout.images * stride, **weights)
    from analyses.layers.sweep import sweep as run_sweep

    saved: dict[str, Any] = {"save": out, "resume": resume, "overwrite": overwrite}
    with progress("sweeping") as bar:
        found = run_sweep(model, sources, chosen, features=features, draws=draws, progress=bar, **run, **how, **saved)
    swept = set(found["source"].values.tolist())
    _finish(found, out, count, by, report, model, {name: sources[name] for name in sources if name in swept})
    _write_tables(found, tables)


def _sweep_closer(model: Backbone, sources: dict[str, Any], look: dict[str, Any], out: Path, dry_run: bool) -> None:
    """Measure layers in crops that follow the points, and print their order."""
    if dry_run:
        say(repr(model))
        most = max(1, look["max_crops"] * look["level"] ** 2 // 4)
        crops = f"at most {counted(most, 'pass', 'passes')} for its crops"
        say(f"  {counted(len(sources), 'clip')}: one pass of the model for each window of a clip, and {crops}")
        return
    from analyses.layers.sweep_closer import sweep_closer
    from analyses.layers.sweep_files import save_sweep
    from ditprobe.cli.text.sweep import closer_table

    with progress("looking closer") as bar:
        found = sweep_closer(model, sources, progress=bar, **look)
    save_sweep(found, out)
    say(closer_table(found))
    say(f"\nwritten to {out}")


def _tables(csv: Path | None, per_head: bool) -> dict[bool, Path]:
    """Return the paths of the table of layers and, if single heads are measured, of their table."""
    if csv is None:
        return {}
    return {False: csv, True: csv.with_stem(f"{csv.stem}-heads")} if per_head else {False: csv}


def _check_tables(tables: dict[bool, Path], overwrite: bool) -> None:
    if not tables:
        return
    from analyses.evaluation.tables import check_table_path

    for path in tables.values():
        check_table_path(path, overwrite=overwrite)


def _write_tables(found: xr.Dataset, tables: dict[bool, Path]) -> None:
    if not tables:
        return
    from analyses.evaluation.tables import write_table

    for heads, path in tables.items():
        say(f"table at {write_table(found, path, heads=heads, overwrite=True)}")


def _thresholds(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInputError(
            f"--threshold-cells {text!r} is not a number of cells. Write for example 1, or '1,0.5,2'."
        ) from error


def _check_output(out: Path, report: Path | None, overwrite: bool, resume: bool, dry_run: bool) -> None:
    """Validate output paths before the model is loaded."""
    check_modes(out, resume=resume, overwrite=overwrite)
    if out.suffix.lower() != ".nc" and not out.is_dir():
        raise InvalidInputError(
            f"--out {out} does not end in .nc: a sweep is a netCDF file. Name it {out.with_suffix('.nc')}; --csv "
            "writes a table."
        )
    if dry_run:
        return
    from analyses.layers.sweep_files import SWEEP_FILE
    from ditprobe.report.page import REPORT_FILE

    SWEEP_FILE.check(out, overwrite=overwrite, resume=resume)
    if report is None:
        return
    if report.absolute() == out.absolute():
        raise InvalidInputError(f"--report and --out are both {out}. Give them different paths.")
    REPORT_FILE.check(report, overwrite=overwrite or resume)


def _check_given(ctx: typer.Context) -> None:
    """Raise if there is nothing to sweep, and for options without effect on the given sources."""
    given = ctx.params
    if given["closer"] is not None:
        options.reject_options(ctx, NOT_OF_CLOSER, "has no use with --closer. Leave it out.")
    elif given["max_crops"] is not None:
        raise InvalidInputError("--max-crops counts the crops of a closer look. Add --closer 2.")
    if given["recording"]:
        options.reject_options(
            ctx, NOT_OF_RECORDINGS, "does not apply to recordings, which are finished runs. Leave it out."
        )
        return
    if not (given["clips"] or given["scenes"] or given["prompt"]):
        raise InvalidInputError("nothing to sweep. Give --clips, --scenes, --prompt or --recording.")
    if not given["clips"]:
        options.reject_options(
            ctx, ("first", "last", "truth"), "applies to the videos of --clips, which are not given. Leave it out."
        )
    if not (given["clips"] or given["scenes"]):
        options.reject_options(ctx, NOT_OF_PROMPTS, "does not apply to prompts, only to clips. Leave it out.")


def _sweep_recordings(
    recordings: list[Path],
    clips: Path | None,
    scenes: str | None,
    branch: str,
    how: dict[str, Any],
    count: int | None,
    dry_run: bool,
) -> xr.Dataset | None:
    from analyses.layers.sweep_recording import sweep_recording
    from store.recordings.reader import open_recording

    opened = {name: open_recording(path) for name, path in _names(recordings).items()}
    first = next(iter(opened.values()))
    options.check_count(count, len(first.layers))
    if dry_run:
        for item in opened.values():
            say(item)
        return None
    stride = int(first.provenance.extra.get("stride", 1))
    truth = list(inputs.read_sources(clips, scenes, first.layout, stride).values()) or None
    with progress("sweeping") as bar:
        return sweep_recording(opened, truth, branch=branch, progress=bar, **how)


def _names(recordings: list[Path]) -> dict[str, Path]:
    """Name recordings by their folder, or by their path if several have the same name."""
    stems = Counter(path.stem for path in recordings)
    found: dict[str, Path] = {}
    for path in recordings:
        name = path.stem if stems[path.stem] == 1 else str(path)
        if name in found:
            raise InvalidInputError(f"--recording {path} is given twice.")
        found[name] = path
    return found


def _dry_run(
    model: Backbone, sources: dict[str, Any], chosen: Any, run: dict[str, Any], draws: int, *, estimate: bool
) -> None:
    """Print what would run, and the time of the model."""
    from probe.recording.record import plan_recording
    from probe.run.windows import cut_windows

    say(repr(model))
    where = {"size": run["size"], "images": run["images"]}
    calls: list[tuple[Any, float]] = []
    for name, source in sources.items():
        if isinstance(source, str):
            model.check_prompt(source)
            job = plan_recording(model, source, chosen, steps=run["steps"], limit_bytes=None, **where)
            calls.append((job.size, job.passes))
            say(f"  {name!r}: {counted(job.passes, 'forward pass', 'forward passes')} at {job.size} (height x width)")
            continue
        windows = cut_windows(model, source, stride=run["stride"], **where)
        job = plan_recording(
            model,
            source,
            chosen,
            noise=run["noise"],
            steps=run["steps"],
            stride=run["stride"],
            limit_bytes=None,
            **where,
        )
        calls.append((job.size, draws * job.passes * len(windows)))
        each = f"{', each' * (len(windows) > 1)} of {counted(job.passes, 'forward pass', 'forward passes')}"
        say(f"  {name!r}: {counted(len(windows), 'window')}{each} at {job.size} (height x width)")
    tell_time(model, calls, steps=run["steps"], estimate=estimate, use="sweep")


def _finish(
    found: xr.Dataset,
    out: Path,
    count: int | None,
    by: Literal["last", "mean"],
    report: Path | None,
    model: Backbone | None,
    sources: dict[str, Any],
) -> None:
    from analyses.layers.sweep_files import save_sweep
    from ditprobe.cli.text.sweep import accuracy_table, select_from_sweep

    if model is None:
        save_sweep(found, out)
    say(accuracy_table(found))
    chosen = select_from_sweep(found, count, by=by)
    say(f"\n{chosen if chosen is not None else 'No clip has true tracks: no accuracy, no selection.'}")
    if chosen is None and any(isinstance(source, Clip) for source in sources.values()):
        say("Add --truth flow to measure accuracy against optical flow.")
    say(f"\nwritten to {out}")
    if report is not None:
        from ditprobe.cli.report_of_sweep import build

        say(f"report at {build(found, chosen, report, model, sources, examples=3, overwrite=True)}")
