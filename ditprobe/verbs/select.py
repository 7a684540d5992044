"""``ditprobe select``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ditprobe import options
from ditprobe.console import say, verb
from store.errors import OutputExistsError

EXAMPLES = """
\b
Examples:
  ditprobe select sweep.nc --count 3
  ditprobe select sweep.nc --by mean --json
  ditprobe select sweep.nc --out layers.json
"""


@verb
def select(
    sweep: Annotated[Path, typer.Argument(help="A sweep that ditprobe sweep wrote.")],
    count: options.Count = None,
    by: options.By = "last",
    samples: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="Bootstrap samples over clips.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Seed of the bootstrap.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="Write the selection too, a JSON file that other verbs take.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Choose the layers that match best, and say how sure that is."""
    from analyses.checkpoint import load_sweep
    from analyses.selection import select_layers
    from analyses.selection_files import save_selection

    found = load_sweep(sweep)
    wanted = min(3, found.sizes.get("layer", 1)) if count is None else count
    chosen = select_layers(found, wanted, by=by, samples=samples, seed=seed)
    if out is not None:
        if out.exists() and out.samefile(sweep):
            raise OutputExistsError(f"{out} is the sweep itself. Choose another --out.")
        save_selection(chosen, out, overwrite=overwrite)
    if as_json:
        table = [{name: _or_null(value) for name, value in row.items()} for row in chosen.table()]
        say(json.dumps({"layers": list(chosen.layers), "by": by, "table": table}, indent=1))
        return
    say(chosen)
    if chosen.sources < 2:
        say("\n rank  layer  harmonic mean, no interval from one clip")
    else:
        say(f"\n rank  layer  harmonic mean  95 % interval      in top {wanted}")
    for row in chosen.table():
        line = f"{row['rank']:5d}  {row['layer']:5d}  {row['mean']:13.3f}"
        if math.isfinite(row["low"]):
            interval = f"{row['low']:.3f} to {row['high']:.3f}"
            line += f"  {interval:17s}  {row['probability']:.2f}"
        say(line)
    if out is not None:
        say(f"\nwritten to {out}")


def _or_null(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
