"""``ditprobe info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ditprobe.cli import inputs, options, parsing
from ditprobe.cli.console import say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.text.described import SUFFIXES, describe_file
from store.errors import InvalidInputError
from store.recordings.reader import Recording, open_recording
from store.recordings.sources import is_recording
from store.selection import Selection
from store.text import counted, pixels

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone

GROUP = "Anything"
EXAMPLES = """
\b
Examples:
  ditprobe info mini
  ditprobe info recording.zarr --verify
  ditprobe info dance.mp4
  ditprobe info THUDM/CogVideoX-5b --plan --size 480x720 --images 49
"""

PLAN = "Plan"
PLANNED = ("height", "width", "size", "images", "layers", "at", "branches")


@verb
@takes_groups
def info(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(help="A file that ditprobe writes or reads, or a backbone (name, folder, hub id)."),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the whole recording and verify its checksums.")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print what a model needs, from its configuration or the published one."),
    ] = False,
    height: options.Height = None,
    width: options.Width = None,
    size: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Size of the clip in pixels.", rich_help_panel=PLAN)
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, metavar="NUMBER", help="Number of images of the clip.", rich_help_panel=PLAN)
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS", help="Layers of a recording: all, 13,17 or 0:30:2.", rich_help_panel=PLAN),
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Steps of a recording: all, -1 or 0:50:5.", rich_help_panel=PLAN)
    ] = "all",
    branches: Annotated[
        str, typer.Option(metavar="NAMES", help="cond, uncond or cond,uncond.", rich_help_panel=PLAN)
    ] = "cond",
    loading: LoadingOptions = DEFAULTS,
) -> None:
    """Describe a model, or any file that ditprobe writes or reads."""
    if plan:
        asked = parsing.height_and_width(parsing.pixel_size(size), height, width)
        chosen = [] if layers is None else [parsing.selection(layers, at, branches)]
        _plan(what, (*asked, images), chosen, loading)
        return
    options.reject_options(ctx, PLANNED, "applies to --plan, which is not given. Add --plan, or leave it out.")
    path = Path(what)
    if path.suffix.lower() in SUFFIXES:
        inputs.check_exists(path, "a file")
    if path.is_dir() and is_recording(path):
        recording = open_recording(path)
        say(recording)
        if verify:
            _verify(recording)
    elif path.is_file() or (path.is_dir() and path.suffix == ".zarr"):
        say(describe_file(path))
    else:
        _describe(load_backbone_option(what, loading, plan=True))


def _plan(
    what: str, size: tuple[int | None, int | None, int | None], chosen: list[Selection], loading: LoadingOptions
) -> None:
    from ditprobe.planning.model_plan import plan_model

    height, width, images = size
    planned = plan_model(what, height=height, width=width, images=images, **loading.arguments())
    for line in planned.lines(chosen):
        say(line)


def _verify(recording: Recording) -> None:
    found = recording.verify()
    for damage in found:
        say(f"  {damage}")
    if found:
        say("  `ditprobe record` with the same options and --resume records damaged parts again")
        raise typer.Exit(1)
    old = recording.attributes["schema_version"] == 1
    say(f"  every record marked done is intact{', and so are metadata and coordinates' if not old else ''}")
    if old:
        say("  not verified: status, times and counts, which have no checksum in format 1")


def _describe(backbone: Backbone) -> None:
    say(repr(backbone))
    size = backbone.default_size
    say(f"  pipeline   {type(backbone.pipeline).__name__}, scheduler {type(backbone.pipeline.scheduler).__name__}")
    say(f"  clip       {size} by default")
    say(f"  tokens     {_tokens(backbone)}")
    say(f"  config     {backbone.config_hash}, revision {backbone.revision or 'unknown'}")
    say("  layers")
    for layer in backbone.layers:
        say(f"    {layer.index:3d}  {layer.name:40s} {layer.heads} heads x {layer.channels} channels")


def _tokens(backbone: Backbone) -> str:
    """Token layout of a clip of the default size, or the reason that there is none."""
    try:
        layout = backbone.layout(*backbone.default_size)
    except InvalidInputError as error:  # a default that its own position table does not reach
        return str(error)
    cells = f"{counted(layout.frames, 'frame')} of {layout.height} x {layout.width} cells"
    return f"{cells} of {pixels(*layout.cell_size)}, {counted(layout.text_tokens, 'text token')}"
