"""``ditprobe select``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from ditprobe.console import say, verb

EXAMPLES = """
\b
Examples:
  ditprobe select sweep.nc --count 3
  ditprobe select sweep.nc --by mean --json
"""


@verb
def select(
    sweep: Annotated[Path, typer.Argument(help="A sweep that ditprobe sweep wrote.")],
    count: Annotated[int, typer.Option(min=1, help="How many layers.")] = 3,
    by: Annotated[Literal["last", "mean"], typer.Option(help="Rank at the last step, or by the mean.")] = "last",
    samples: Annotated[int, typer.Option(min=1, help="Bootstrap samples over clips.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Choose the layers that match best, and say how sure that is."""
    from analyses.checkpoint import load_sweep
    from analyses.selection import select_layers

    chosen = select_layers(load_sweep(sweep), count, by=by, samples=samples, seed=seed)
    if as_json:
        say(json.dumps({"layers": list(chosen.layers), "by": by, "table": chosen.table()}, indent=1))
        return
    say(chosen)
    say("\n rank  layer  harmonic mean  95 % interval      in top " + str(count))
    for row in chosen.table():
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        say(f"{row['rank']:5d}  {row['layer']:5d}  {row['mean']:13.3f}  {interval:17s}  {row['probability']:.2f}")
