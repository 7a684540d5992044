"""``ditprobe track``."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from ditprobe.cli import inputs, options
from ditprobe.cli.console import complain, progress, say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.text.estimates import tell_time
from ditprobe.cli.trackers import MATCHING, MatchingOptions, tracking_cost
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.text import counted, duration, pixels

if TYPE_CHECKING:
    from store.tracks.point_tracks import PointTracks

GROUP = "Start here"
EXAMPLES = """
\b
Examples:
  ditprobe track clip.mp4 --grid 10
  ditprobe track clip.mp4 --grid 10 --levels 1,2
  ditprobe track clip.mp4 --points points.csv --out tracks.nc --no-overlay
  ditprobe track clip.mp4 --grid 6 --image 12 --stride 2 --trail 20
  ditprobe track clip.mp4 --grid 10 -b THUDM/CogVideoX-2b --preset difftrack-tracking --dry-run
"""

_COLUMNS = ("image", "x", "y")
MINIS, SEEN = ("mini", "mini-rope", "mini@1", "mini-rope@1"), (40, 40)
"""Backbones trained on scenes of one size only, and that size (height, width)."""


@verb
@takes_groups
def track(
    ctx: typer.Context,
    clip: Annotated[Path, typer.Argument(help="The video.", show_default=False)],
    grid: Annotated[
        int | None,
        typer.Option(min=1, metavar="NUMBER", help="Track NUMBER x NUMBER points, spread evenly over --image."),
    ] = None,
    points: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Track the points of a CSV file: image, x, y in pixels.")
    ] = None,
    image: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="The image that --grid is in.")] = 0,
    first: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="First image to use; it becomes image 0.")] = 0,
    last: Annotated[int | None, typer.Option(min=0, metavar="NUMBER", help="Last image to use.")] = None,
    stride: options.Stride = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="The tracks: .npz, .nc or .zarr; <clip>.tracks.npz by default.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Video with the points drawn on it; <clip>.tracks.mp4 by default.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    no_overlay: Annotated[
        bool, typer.Option("--no-overlay", help="Write no picture.", rich_help_panel=options.OUTPUT)
    ] = False,
    trail: Annotated[
        int,
        typer.Option(
            min=0, metavar="NUMBER", help="Length of a point's trail in images.", rich_help_panel=options.OUTPUT
        ),
    ] = 10,
    pixel_scale: Annotated[
        int | None,
        typer.Option(
            "--pixel-scale",
            min=1,
            metavar="NUMBER",
            help="Enlargement of each pixel; chosen for the clip by default.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    backbone: options.BackboneName = "mini",
    matching: MatchingOptions = MATCHING,
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Track points through a clip, and draw them on it."""
    tracks_path = out or Path(f"{clip.stem}.tracks.npz")
    overlay_path = None if no_overlay else overlay or Path(f"{clip.stem}.tracks.mp4")
    _check_given(ctx)
    inputs.check_exists(clip, "a video")
    inputs.check_exists(points, "a CSV file of points")
    matching.check(backbone)
    _check_paths(clip, tracks_path, overlay_path)
    if not dry_run:
        _check_free(tracks_path, overlay_path, overwrite)
    from store.tracks.queries import grid_queries

    wanted = np.zeros((0, 3)) if points is None else read_points(points)
    shown = inputs.read_part(clip, first, last, stride)
    queries = wanted if grid is None else grid_queries(grid, shown.height, shown.width, image)
    _check_queries(queries, shown, points)
    model = load_backbone_option(backbone, loading, plan=dry_run)
    run = matching.settings(model)
    if dry_run:
        size_of_clip = pixels(shown.height, shown.width)
        say(f"{model!r}\n  clip      {counted(len(shown), 'image')} of {clip}, {size_of_clip}")
        say(f"  points    {len(queries)}\n  tracks    {tracks_path}\n  overlay   {overlay_path or 'none'}")
        say(f"  run       layer {run['layer']} at step {run['step']} of {matching.steps}")
        calls = tracking_cost(
            model, run["options"], (len(shown), shown.height, shown.width), queries, run["size"], run["layer"]
        )
        extra = "; encoding the images and matching come on top"
        tell_time(model, [calls], steps=matching.steps, estimate=not no_estimate, extra=extra, use="track")
        return

    from analyses.tracking.track import track_points
    from store.tracks.files import save_tracks

    with progress("tracking") as bar:
        found = track_points(shown, queries, model, **run, progress=bar)
    taken = {"clip": clip.name, "first": first, "stride": stride}
    found = replace(found, details={**found.details, **taken})
    save_tracks(found, tracks_path, overwrite=overwrite)
    say(f"{tracks_path}: {counted(len(queries), 'point')} in {counted(len(shown), 'image')}")
    if overlay_path is not None:
        _write_overlay(overlay_path, shown, found, trail, pixel_scale, overwrite)
    _tell(found)
    if backbone in MINIS and (shown.height, shown.width) != SEEN:
        complain(
            f"note: {backbone} has seen synthetic scenes of {SEEN[0]} x {SEEN[1]} px only. On real video whole images "
            "do no better than 'nothing moves', and nearly every point is called visible. On two clips, "
            "--levels 1,2,4 and --visibility flow did better (docs/benchmarks/crops.md)."
        )


def read_points(path: Path) -> np.ndarray:
    """Read the points of a CSV file: (point, 3) float, (image, x, y), x and y in pixels of the clip.

    The first line names the columns, in any order; others than ``image``, ``x`` and ``y`` are not read.

    Raises
    ------
    InvalidInputError
        With the number of the invalid line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "points.csv"
    ...     _ = path.write_text("image,x,y\\n0,12.5,3\\n")
    ...     read_points(path)
    array([[ 0. , 12.5,  3. ]])
    """
    if not path.is_file():
        raise InvalidInputError(f"--points {path} is {'a folder' if path.is_dir() else 'missing'}. Give a CSV file.")
    found: list[list[float]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            names = [name.strip().lower() for name in next(rows, [])]
            if any(names.count(name) != 1 for name in _COLUMNS):
                raise InvalidInputError(
                    f"{path}, line 1: the columns are {', '.join(map(repr, names)) or 'none'}. The first line has to "
                    "name image, x and y, once each, with commas between them: 'image,x,y'."
                )
            for row in rows:
                if any(value.strip() for value in row):
                    found.append(_point(row, names, f"{path}, line {rows.line_num}"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path} is not a CSV file: {error}. Save it as UTF-8 text.") from error
    if not found:
        raise InvalidInputError(f"{path} holds no points below its first line.")
    return np.array(found)


def _point(row: list[str], names: list[str], where: str) -> list[float]:
    """Image, x and y of one row."""
    if len(row) != len(names):
        raise InvalidInputError(
            f"{where}: {len(row)} value{'s' * (len(row) != 1)} in {','.join(row)!r}, but {len(names)} columns."
        )
    values = []
    for name in _COLUMNS:
        text = row[names.index(name)].strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidInputError(f"{where}: {name} is {text!r}, which is not a number.")
        if name == "image" and (value < 0 or value != int(value)):
            raise InvalidInputError(f"{where}: image is {text!r}. Images are numbered 0, 1, 2 ...")
        values.append(value)
    return values


def _check_given(ctx: typer.Context) -> None:
    """Raise for missing points, points given twice, and options without effect."""
    given = ctx.params
    if (given["grid"] is None) == (given["points"] is None):
        what = "no points are given" if given["grid"] is None else "--grid and --points both say which points"
        raise InvalidInputError(f"{what}. Give one of --grid and --points.")
    if given["points"] is not None:
        options.reject_options(
            ctx, ("image",), "applies to --grid; each point of --points has its own image. Leave it out."
        )
    if given["no_overlay"]:
        options.reject_options(
            ctx, ("overlay", "trail", "pixel_scale"), "has no effect with --no-overlay. Leave one out."
        )


def _check_paths(clip: Path, tracks: Path, overlay: Path | None) -> None:
    """Raise for outputs that would replace the clip, its extra file, or each other."""
    from store.clips.video import extras_path

    for option, path in (("--out", tracks), ("--overlay", overlay)):
        if path is not None and path.resolve() in (clip.resolve(), extras_path(clip).resolve()):
            raise InvalidInputError(f"{option} {path} is the clip itself, or its extra file. Choose another path.")
    if overlay is not None and tracks.resolve() in (overlay.resolve(), extras_path(overlay).resolve()):
        raise InvalidInputError(f"--out {tracks} and --overlay {overlay} are the same file. Give them different paths.")


def _check_free(tracks: Path, overlay: Path | None, overwrite: bool) -> None:
    """Validate output paths before the model is loaded."""
    from store.clips.encoding import check_clip_path
    from store.tracks.files import check_tracks_path

    check_tracks_path(tracks, overwrite=overwrite)
    if overlay is not None:
        check_clip_path(overlay, overwrite=overwrite)


def _check_queries(queries: np.ndarray, clip: Clip, points: Path | None) -> None:
    from store.tracks.point_tracks import check_queries

    try:
        check_queries(queries, len(clip), clip.height, clip.width)
    except InvalidInputError as error:
        if points is None:
            raise
        raise InvalidInputError(f"{points}: {error} Query 0 is the first point of the file.") from error


def _write_overlay(path: Path, clip: Clip, tracks: PointTracks, trail: int, scale: int | None, overwrite: bool) -> None:
    """Draw and write one image at a time: the images of a long clip are never all in memory."""
    from analyses.plots.overlay import drawn_images, viewing_scale
    from store.clips.encoding import write_video

    scale = scale or viewing_scale(clip.height, clip.width)
    pictures = drawn_images(clip.images, tracks, trail=trail, scale=scale)
    with progress("drawing") as bar:
        write_video(path, _counted(pictures, bar, len(clip)), clip.fps, overwrite=overwrite)
    size = pixels(scale * clip.height, scale * clip.width)
    say(f"{path}: {counted(len(clip), 'image')} of {size} at {clip.fps:g} fps")


def _counted(pictures: Iterable[np.ndarray], bar: Callable[[int, int], None], total: int) -> Iterator[np.ndarray]:
    for done, picture in enumerate(pictures, 1):
        yield picture
        bar(done, total)


def _tell(found: PointTracks) -> None:
    """Print the number of visible points at the end, and the time of tracking."""
    details, visible = found.details, found.visibility[-1]
    say(f"{details['backbone']}, layer {details['layer']} at step {details['step']} of {details['steps']}")
    say(f"{visible.sum()} of {counted(len(visible), 'point')} visible in the last image; {_moved(found)}")
    if details["seconds"] > 0:
        share = 100 * details["seconds_in_model"] / details["seconds"]
        say(f"{duration(details['seconds'])} of tracking, {share:.0f} % of it in the model")


def _moved(found: PointTracks) -> str:
    """Describe the median displacement of visible points since their queries, in the last image, in pixels."""
    visible = found.visibility[-1]
    if not visible.any():
        return "none to say how far they moved"
    start = found.queries[visible, 1:]
    far = np.linalg.norm(found.tracks[-1, visible] - start, axis=-1)
    return f"the median of these moved {np.median(far):.1f} px"
