"""The loss of a mini backbone's training: ``python -m benchmarks.mini_quality.curve LOG LOG --out curve.png``.

The logs are those of stages that follow one another, with a column for the step and one for the loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

_LOGS = 3
"""Entries of a log, of 100 steps each, in the mean that is drawn."""


def loss_curve(logs: Sequence[Path]) -> go.Figure:
    """The loss over the steps of all stages, a line for each stage."""
    figure, start = go.Figure(), 0
    for path in logs:
        log = pd.read_csv(path)
        smooth = log["loss"].rolling(_LOGS, min_periods=1).mean()
        figure.add_scatter(x=start + log["step"], y=smooth, mode="lines", name=path.stem)
        start += int(log["step"].iloc[-1])
    figure.update_layout(
        template="simple_white",
        xaxis_title="step",
        yaxis_title="loss (v-prediction, mean square)",
        margin={"l": 70, "r": 10, "t": 10, "b": 50},
        font_size=14,
    )
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", nargs="+", type=Path, help=".csv files that the training wrote, in order")
    parser.add_argument("--out", type=Path, required=True, help="a .png file")
    options = parser.parse_args(arguments)
    loss_curve(options.logs).write_image(options.out, width=800, height=320, scale=2)
    print(options.out)


if __name__ == "__main__":
    main()
