"""The section of a report about the classes of heads: map, stability, and the attention of a head of each class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyses.attention.rows import attention_of_points
from analyses.heads.classify import CLASSES
from analyses.heads.decide import decide_heads, head_stability
from analyses.heads.words import classes_text
from analyses.plots.attention import plot_attention
from analyses.plots.heads import plot_head_classes
from ditprobe.report.sweep import NARROW, ReportFigure, embed
from ditprobe.report.tables import Table
from probe import Backbone, Capture, run_clip
from store.arguments import checked
from store.checks import integer
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.selection import Noise, Selection

_INTRO = (
    "A head is spatial if a cell of its own frame gets more attention, on average, than a cell at the same place in "
    "another frame, and temporal if it gets less; it is undecided if the interval over clips overlaps the margin."
)
_NOTES = (
    "Densities are relative to uniform attention, so large frames and long clips have no influence.",
    "A temporal head attends to the same place at other times. Whether it follows moving objects is a "
    "different question: see the accuracy of single heads.",
)


@dataclass(frozen=True, eq=False)
class HeadExample:
    """Attention of one point in one head.

    Parameters
    ----------
    kind : "spatial", "temporal" or "undecided"
    layer, head, step : int
    clip : Clip
    attention : DataArray (point, frame, y, x), as of :func:`analyses.attention.rows.attention_of_points`
    """

    kind: str
    layer: int
    head: int
    step: int
    clip: Clip
    attention: xr.DataArray


@dataclass(frozen=True)
class HeadsPart:
    """The section as the page shows it."""

    intro: str
    answer: tuple[str, ...]
    figures: tuple[ReportFigure, ...]
    table: Table
    examples: tuple[tuple[str, ReportFigure], ...]
    notes: tuple[str, ...]


@checked
def make_head_examples(
    backbone: Backbone,
    clip: Clip,
    masses: xr.Dataset,
    *,
    margin: float | None = None,
    points: int = 3,
    noise: Noise = "forward",
    seed: int = 0,
    steps: int = 50,
    prompt: str | None = None,
) -> list[HeadExample]:
    """Attention of the most certain spatial and temporal head, in one pass of a clip.

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
        A clip of a size that the backbone takes.
    masses : Dataset of :func:`analyses.heads.sweep.sweep_heads` on the same backbone
    margin : float, optional
        As of :func:`analyses.heads.decide.decide_heads`.
    points : int
        Number of points of image 0: those that move farthest if the clip has tracks, otherwise of a grid.
    noise, seed, steps, prompt
        Settings of the run in which the clip is shown, at the last step of ``masses``.

    Returns
    -------
    list of HeadExample
        One for each class; if no head is decided, those with the smallest and the largest ratio, as "undecided".

    Raises
    ------
    InvalidInputError
        For masses of another number of layers and heads, or a size that the backbone does not take.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from analyses.heads.sweep import sweep_heads
    >>> from store.scenes.scene import make_scene
    >>> mini = load_backbone(new_pipeline(MiniConfig(layers=2)))
    >>> scenes = {"a": make_scene(0), "b": make_scene(1)}
    >>> masses = sweep_heads(mini, scenes, Selection([-1], "all"), progress=False)
    >>> [example.attention.sizes["point"] for example in make_head_examples(mini, scenes["a"], masses, points=1)]
    [1, 1]
    """
    integer(points, "points", min_value=1)
    decided = decide_heads(masses, margin=margin)
    heads = max(layer.heads for layer in backbone.layers)
    if int(decided["layer"].max()) >= len(backbone.layers) or int(decided["head"].max()) >= heads:
        raise InvalidInputError(
            f"the masses are of layers and heads that {backbone.name} does not have. Measure them on this backbone."
        )
    step = int(decided.attrs["step"])
    chosen = [_surest(decided, "spatial"), _surest(decided, "temporal")]
    captures: dict[int, Capture] = {}

    def keep(capture: Capture) -> None:
        captures[capture.layer] = capture

    layers = sorted({layer for _, layer, _ in chosen})
    run_clip(backbone, clip, Selection([step], layers), keep, noise=noise, seed=seed, steps=steps, prompt=prompt)
    found = []
    for kind, layer, head in chosen:
        capture = captures[layer]
        text = None if capture.text_key is None else capture.text_key[head : head + 1]
        attention = attention_of_points(
            capture.query[head : head + 1],
            capture.key[head : head + 1],
            _points(clip, points),
            capture.layout,
            text_key=text,
        )
        found.append(HeadExample(kind, layer, head, step, clip, attention))
    return found


def _surest(decided: xr.Dataset, kind: str) -> tuple[str, int, int]:
    """The class, layer and head with the most extreme ratio for a class."""
    sign = 1.0 if kind == "temporal" else -1.0
    bound = "lower" if kind == "temporal" else "upper"
    right = decided["class"].values.astype(str) == kind
    values = sign * (decided[bound] if right.any() else decided["log_ratio"]).values
    values = np.where(np.isnan(values), -np.inf, values)
    layer, head = np.unravel_index(
        int(np.where(right, values, -np.inf if right.any() else values).argmax()), right.shape
    )
    return kind if right.any() else "undecided", int(decided["layer"][layer]), int(decided["head"][head])


def _points(clip: Clip, count: int) -> np.ndarray:
    """(point, 2): the points of image 0 that move farthest, or of a grid."""
    if clip.tracks is None or clip.visibility is None:
        side = int(np.ceil(np.sqrt(count)))
        x, y = np.meshgrid(*((np.arange(side) + 0.5) / side * length for length in (clip.width, clip.height)))
        return np.stack([x.ravel(), y.ravel()], -1)[:count]
    tracks = np.asarray(clip.tracks, np.float64)
    start = tracks[0]
    seen = np.asarray(clip.visibility, bool)[0] & ((start >= 0) & (start < [clip.width, clip.height])).all(-1)
    moved = np.where(seen, np.linalg.norm(tracks[-1] - start, axis=-1), -1.0)
    return start[np.argsort(-moved, kind="stable")[:count]]


def heads_part(masses: xr.Dataset | None, examples: Sequence[HeadExample], names: Iterator[str]) -> HeadsPart | None:
    """Return the section; None without masses.

    Raises
    ------
    InvalidInputError
        For a dataset without masses.
    """
    if masses is None:
        return None
    decided = decide_heads(masses)
    stable = head_stability(masses)
    answer = classes_text(decided).split("\n")
    answer += _stability(stable)
    width = min(NARROW, 110 + 28 * decided.sizes["head"])
    shown = []
    for example in examples:
        heading = f"{example.kind} head {example.head} of layer {example.layer} at step {example.step}"
        figure = plot_attention(example.attention, images=example.clip.images, normalise="point", title=heading)
        shown.append((heading, embed(figure, names, NARROW)))
    return HeadsPart(
        _INTRO, tuple(answer), (embed(plot_head_classes(decided), names, width),), _table(stable), tuple(shown), _NOTES
    )


def _stability(stable: xr.Dataset) -> list[str]:
    """Sentences on other steps and other draws of the noise."""
    found = []
    for dim, what in (("step", "steps"), ("draw", "draws of the noise")):
        values = stable[f"{dim}_correlation"].values
        if len(values) > 1:
            least = float(np.nanmin(values))
            found.append(f"The order of the heads at two {what} has a rank correlation of at least {least:.2f}.")
    return found


def _table(stable: xr.Dataset) -> Table:
    rows = tuple(
        (str(step), *(str(int(stable["count"].sel(step=step, kind=kind))) for kind in CLASSES))
        for step in stable["step"].values
    )
    return Table("table-head-classes", "Heads of each class by step.", ("step", *CLASSES), rows)
