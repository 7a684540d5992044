"""``ditprobe explore``."""

from __future__ import annotations

import os
import time
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from ditprobe.cli import inputs
from ditprobe.cli.console import complain, say, verb
from store.errors import InvalidInputError

GROUP = "What a model knows"
EXAMPLES = """
\b
Examples:
  ditprobe explore recording.zarr                        # a page of this machine; recording.mp4 beside it is found
  ditprobe explore before.zarr --beside after.zarr       # two of them, and their difference
  ditprobe explore recording.zarr --sweep sweep.nc --open
  ditprobe explore recording.zarr --html view.html       # a file that needs no network and still responds
"""


def _stop(arguments: Any) -> str:
    return "The explorer is closed."


@verb(interrupted=_stop)
def explore(
    recording: Annotated[Path, typer.Argument(help="A recording written by ditprobe record.")],
    clip: Annotated[
        Path | None,
        typer.Option(
            "--clips",
            metavar="PATH",
            help="The recorded video or that of --save-clip; X.mp4 next to X.zarr is found.",
        ),
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A second recording, shown next to the first.")
    ] = None,
    beside_clip: Annotated[Path | None, typer.Option(metavar="PATH", help="The video of the second recording.")] = None,
    sweep: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A sweep; its map of layers and steps is used to navigate.")
    ] = None,
    port: Annotated[int, typer.Option(metavar="NUMBER", help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write an interactive file instead of serving a page.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file of --html.")] = False,
) -> None:
    """Explore a recording in the browser, read-only."""
    from ditprobe.explorer.controller import Explorer
    from ditprobe.explorer.opened import opened
    from store.clips.video import read_clip

    for path, what in (
        (recording, "a recording"),
        (beside, "a recording"),
        (clip, "a video"),
        (beside_clip, "a video"),
    ):
        if path is not None:
            inputs.check_exists(path, what)
    if beside is None and beside_clip is not None:
        raise InvalidInputError("--beside-clip is the video of --beside, which was not given.")
    if html is not None:
        from ditprobe.explorer.export import PAGE_FILE

        PAGE_FILE.check(html, overwrite=overwrite)
    pairs = [(recording, clip)] + ([] if beside is None else [(beside, beside_clip)])
    both = [opened(path, None if video is None else read_clip(video)) for path, video in pairs]
    for each in both:
        if each.doubt is not None:
            complain(f"warning: {each.doubt}")
    explorer = Explorer(both, sweep=_sweep(sweep))
    if html is not None:
        from ditprobe.explorer.export import write_page
        from ditprobe.explorer.view import View

        written = write_page(explorer, View.of(explorer.start()), html, overwrite=overwrite)
        say(f"{written}: {written.stat().st_size / 1e6:.1f} MB, opens without a network")
        return
    _serve(explorer, port, f"ditprobe: {both[0].name}", open_browser)


def _sweep(path: Path | None) -> Any:
    if path is None:
        return None
    from analyses.layers.sweep_files import load_sweep

    inputs.check_exists(path, "a sweep")
    return load_sweep(path)


def _serve(explorer: Any, port: int, title: str, open_browser: bool) -> None:
    from ditprobe.explorer.server import ExplorerServer

    explorer.start()  # raises here instead of in the browser
    _use_one_thread_when_busy()
    with ExplorerServer(explorer, port=port, title=title) as server:
        say(f"{server.address}")
        say("Read only, for this machine alone: anyone who has the address can see the recording. Ctrl-C closes it.")
        if open_browser:
            webbrowser.open(server.address)
        while True:
            time.sleep(3600)


def _use_one_thread_when_busy() -> None:
    """Let torch use one thread if other programs keep the processors busy: waiting for a second takes longer."""
    import torch

    if hasattr(os, "getloadavg") and os.getloadavg()[0] >= torch.get_num_threads():
        torch.set_num_threads(1)
