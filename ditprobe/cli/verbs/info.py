"""``ditprobe info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ditprobe.cli import options
from ditprobe.cli.console import say, verb
from ditprobe.cli.described import SUFFIXES, describe_file
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, backbone_of
from store.errors import InvalidInputError
from store.recordings.reader import Recording, open_recording
from store.recordings.sources import is_recording
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
"""


@verb
@takes_groups
def info(
    what: Annotated[
        str,
        typer.Argument(help="A file that ditprobe writes or reads, or a backbone (name, folder, hub id)."),
    ],
    verify: Annotated[bool, typer.Option("--verify", help="Read a whole recording and compare its checksums.")] = False,
    loading: LoadingOptions = DEFAULTS,
) -> None:
    """Say what is in a model or in any file of ditprobe."""
    path = Path(what)
    if path.suffix.lower() in SUFFIXES:
        options.check_exists(path, "a file")
    if path.is_dir() and is_recording(path):
        recording = open_recording(path)
        say(recording)
        if verify:
            _verify(recording)
    elif path.is_file() or (path.is_dir() and path.suffix == ".zarr"):
        say(describe_file(path))
    else:
        _describe(backbone_of(what, loading, plan=True))


def _verify(recording: Recording) -> None:
    found = recording.verify()
    for damage in found:
        say(f"  {damage}")
    if found:
        say("  `ditprobe record` with the same options and --resume records again what is damaged")
        raise typer.Exit(1)
    old = recording.attributes["schema_version"] == 1
    say(f"  every record that is marked done is whole{', and so are metadata and coordinates' if not old else ''}")
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
    """The tokens of a clip of the default size, or why there are none."""
    try:
        layout = backbone.layout(*backbone.default_size)
    except InvalidInputError as error:  # a default that its own position table does not reach
        return str(error)
    cells = f"{counted(layout.frames, 'frame')} of {layout.height} x {layout.width} cells"
    return f"{cells} of {pixels(*layout.cell_size)}, {counted(layout.text_tokens, 'text token')}"
