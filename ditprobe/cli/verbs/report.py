"""``ditprobe report``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ditprobe.cli import inputs, options, parsing
from ditprobe.cli.console import say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.report_of_sweep import best_layer, build
from ditprobe.cli.trackers import MatchingOptions
from store.clips.clip import Clip
from store.errors import InvalidInputError, OutputExistsError
from store.text import counted

if TYPE_CHECKING:
    import xarray as xr

    from analyses.selection.layer_selection import LayerSelection
    from ditprobe.report.transfer import TransferredClip
    from probe.backbones.backbone import Backbone

GROUP = "What a model knows"
EXAMPLES = """
\b
Examples:
  ditprobe report sweep.nc --out sweep.html
  ditprobe report sweep.nc --scenes 0:3 --backbone mini --levels 1,2 --out sweep.html
  ditprobe report sweep.nc --tracking tapvid.nc --heads heads.nc
  ditprobe report sweep.nc --transfer reference.mp4 transferred.mp4
"""


@verb
@takes_groups
def report(
    sweep: Annotated[Path, typer.Argument(help="A sweep written by ditprobe sweep.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", help="The HTML file to write.", rich_help_panel=options.OUTPUT),
    ] = Path("report.html"),
    count: options.Count = None,
    by: options.By = "last",
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Heading of the page.")] = None,
    clips: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Clips to show as examples: needs the backbone.")
    ] = None,
    scenes: Annotated[str | None, typer.Option(metavar="NUMBERS", help="Synthetic scenes to show as examples.")] = None,
    examples: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Number of examples.")] = 3,
    levels: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Also track the examples coarsely and by a closer look: 1,2."),
    ] = None,
    tracking: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Trackers to compare: the .nc of ditprobe eval-tapvid.")
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Spatial and temporal heads: the .nc of ditprobe heads.", show_default=False),
    ] = None,
    transfer: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="REFERENCE RESULT",
            help="Two videos, shown next to their flow: needs the backbone.",
            show_default=False,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", "-b", metavar="NAME", help="By default the sweep's own.", rich_help_panel=options.MODEL
        ),
    ] = None,
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what the page would contain, write nothing.", rich_help_panel=options.OUTPUT
        ),
    ] = False,
) -> None:
    """Write an HTML report of a sweep, with example clips."""
    inputs.check_exists(clips, "a video or of a folder of clips")
    if scenes is not None:
        parsing.scene_seeds(scenes)
    looks = _levels(levels, clips is not None or scenes is not None)
    from analyses.layers.sweep_files import load_sweep
    from ditprobe.cli.text.sweep import select_from_sweep
    from ditprobe.report.page import REPORT_FILE

    found = load_sweep(sweep)
    trackers = None if tracking is None else _evaluation(tracking)
    videos = dict(zip(("reference", "result"), transfer or (), strict=False))
    masses = None if heads is None else _masses(heads)
    pair, resized = _read_pair(videos)
    for what, taken in {"sweep": sweep, "evaluation": tracking, "sweep of heads": heads, **videos}.items():
        if taken is not None and out.exists() and out.samefile(taken):
            raise OutputExistsError(f"{out} is the {what} itself. Choose another --out.")
    REPORT_FILE.check(out, overwrite=overwrite)
    options.check_count(count, found.sizes["layer"])
    chosen = select_from_sweep(found, count, by=by)
    if dry_run:
        some = f"up to {examples} examples" if clips is not None or scenes is not None else "no examples"
        some += "" if trackers is None else f", {trackers.sizes['tracker']} trackers"
        some += "" if masses is None else ", classes of heads"
        some += f", a motion transfer seen by {backbone or found.attrs['backbone']}" if pair else ""
        held = ", ".join(counted(found.sizes[each], each) for each in ("clip", "step", "layer"))
        say(f"{out}: {held}, {some}")
        say(chosen if chosen is not None else "No clip has true tracks: no accuracy, no selection.")
        return
    model, sources, transfers = None, {}, []
    wants_examples = examples > 0 and (clips is not None or scenes is not None)
    if wants_examples or pair:
        from ditprobe.report.examples import SweepSettings

        # reject a sweep with arguments that no option gives before a model is loaded
        name, settings = backbone or found.attrs["backbone"], SweepSettings.of_sweep(found.attrs)
        model = load_backbone_option(name, loading)
        if wants_examples:
            layout = options.resolve_layout(model, settings.size, settings.images)
            sources = inputs.read_sources(clips, scenes, layout, settings.stride)
        if pair:
            transfers = [_transferred(model, pair, videos, found, chosen, resized)]
    say(
        build(
            found,
            chosen,
            out,
            model,
            sources,
            examples=examples,
            tracking=trackers,
            transfers=transfers,
            heads=masses,
            levels=looks,
            title=title,
            overwrite=overwrite,
        )
    )


def _levels(text: str | None, examples: bool) -> tuple[int, ...] | None:
    """Return the levels of a closer look; None without one."""
    if text is None:
        return None
    found = MatchingOptions(levels=text).level_numbers
    if len(found) < 2:
        raise InvalidInputError(f"--levels {text!r} takes no closer look. Write '1,2'.")
    if not examples:
        raise InvalidInputError("--levels looks closer at examples, which need --clips or --scenes.")
    return found


def _evaluation(path: Path) -> xr.Dataset:
    from analyses.evaluation.files import load_evaluation

    return load_evaluation(path)


def _masses(path: Path) -> xr.Dataset:
    from analyses.heads.files import load_heads

    return load_heads(path)


def _read_pair(videos: Mapping[str, Path]) -> tuple[tuple[Clip, ...], str]:
    """Return reference and result at one size, and a note on which was resized; nothing without videos."""
    if not videos:
        return (), ""
    from analyses.evaluation.transfer import fit_pair
    from store.clips.video import read_clip

    read = {what: read_clip(path) for what, path in videos.items()}
    pair = fit_pair(*read.values())
    resized = [
        f"the {what} was resized from {clip.height} x {clip.width} px"
        for (what, clip), fitted in zip(read.items(), pair, strict=True)
        if fitted is not clip
    ]
    return pair, "".join(resized)


def _transferred(
    model: Backbone,
    pair: tuple[Clip, ...],
    videos: Mapping[str, Path],
    found: xr.Dataset,
    chosen: LayerSelection | None,
    resized: str,
) -> TransferredClip:
    """Return the first window of both clips as seen by the best layer of the sweep at its last step."""
    from ditprobe.report.examples import SweepSettings
    from ditprobe.report.transfer import transferred_clip
    from probe.run.windows import cut_windows

    settings = SweepSettings.of_sweep(found.attrs)
    windows = [
        cut_windows(model, clip, size=settings.size, images=settings.images, stride=settings.stride)[0] for clip in pair
    ]
    layer, step = best_layer(found, chosen)
    cut = "" if windows[0].size == windows[0].original else str(windows[0])
    return transferred_clip(
        model,
        f"{videos['reference'].name} in {videos['result'].name}",
        *(window.clip for window in windows),
        layer=layer,
        step=step,
        steps=settings.steps,
        method="; ".join(filter(None, (cut, resized))),
    )
