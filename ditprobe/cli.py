"""The command ``ditprobe``: one verb for each thing the library does."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from ditprobe.console import say
from ditprobe.verbs import amf, eval_tapvid, generate, guide, info, record, report, select, sweep, track, transfer

app = typer.Typer(
    name="ditprobe",
    help="Probe and analyse the attention of video diffusion transformers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for module in (generate, record, sweep, select, report, track, eval_tapvid, amf, guide, transfer, info):
    name = module.__name__.rpartition(".")[2]
    app.command(name.replace("_", "-"), epilog=module.EXAMPLES)(getattr(module, name))


def _version(asked: bool) -> None:
    if asked:
        say(f"ditprobe {metadata.version('ditprobe')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb."""


def main() -> None:
    """Entry point of the command."""
    app()
