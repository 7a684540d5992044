"""``ditprobe select``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ditprobe.cli import options
from ditprobe.cli.console import say, verb
from store.errors import OutputExistsError

GROUP = "What a model knows"
EXAMPLES = """
\b
Examples:
  ditprobe select sweep.nc --count 3
  ditprobe select sweep.nc --by mean --json
  ditprobe select sweep.nc --out layers.json
  ditprobe select sweep.nc --accuracy moving --stability
"""


@verb
def select(
    sweep: Annotated[Path, typer.Argument(help="A sweep written by ditprobe sweep.")],
    count: options.Count = None,
    by: options.By = "last",
    rank_by: options.RankBy = "harmonic",
    accuracy: options.RankedPoints = "all",
    samples: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="Bootstrap samples over clips.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Seed of the bootstrap.")] = 0,
    stability: Annotated[
        bool, typer.Option("--stability", help="Show how much the choice depends on thresholds, steps and noise draws.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="Also write the selection to a JSON file, which other verbs accept.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Select the layers that demonstrably beat 'nothing moves'."""
    from analyses.layers.sweep_files import load_sweep
    from analyses.selection.files import save_selection
    from analyses.selection.select import select_layers
    from analyses.selection.words import verdict

    found = load_sweep(sweep)
    how: dict[str, Any] = {"criterion": rank_by, "accuracy": accuracy}
    chosen = select_layers(found, count, by=by, samples=samples, seed=seed, **how)
    if out is not None:
        if out.exists() and out.samefile(sweep):
            raise OutputExistsError(f"{out} is the sweep itself. Choose another --out.")
        save_selection(chosen, out, overwrite=overwrite)
    if as_json:
        table = [{name: _or_null(value) for name, value in row.items()} for row in chosen.table()]
        content = {"layers": list(chosen), "by": by, "carriers": list(chosen.carriers), "verdict": verdict(chosen)}
        say(json.dumps({**content, "table": table}, indent=1))
        return
    say(chosen)
    if stability:
        from analyses.selection.stability import stability as over_settings
        from analyses.selection.stability import stability_text

        say(f"\n{stability_text(over_settings(found, min(count or 3, found.sizes['layer']), **how))}")
    if out is not None:
        say(f"\nwritten to {out}")


def _or_null(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
