"""The report of a layer sweep: one HTML file that needs no network and is the same for the same input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from analyses.evaluation.compare import TrackedClip
from analyses.plots.selection import plot_selection, selection_panels
from analyses.selection.layer_selection import LayerSelection
from ditprobe.report import words
from ditprobe.report.closer import CloserClip, closer_part
from ditprobe.report.heads import HeadExample, heads_part
from ditprobe.report.linked import linked_data
from ditprobe.report.page import REPORT_FILE, plotly_script
from ditprobe.report.sweep import (
    MEASURES,
    Example,
    ReportFigure,
    curves,
    embed,
    heads,
    maps,
    measures,
    show_example,
)
from ditprobe.report.tables import Table, clip_table, layer_step_table, selection_table
from ditprobe.report.tracking import tracking_part
from ditprobe.report.transfer import TransferredClip, transfer_part
from ditprobe.report.views import scripts, style, view
from store.arguments import checked
from store.errors import InvalidInputError
from store.pages import render_page


@checked
def write_report(
    path: str | Path,
    sweep: xr.Dataset,
    selection: LayerSelection | None,
    *,
    examples: Sequence[Example] = (),
    tracking: xr.Dataset | None = None,
    tracked: Sequence[TrackedClip] = (),
    closer: Sequence[CloserClip] = (),
    transfers: Sequence[TransferredClip] = (),
    head_masses: xr.Dataset | None = None,
    head_examples: Sequence[HeadExample] = (),
    title: str = "Which layers carry temporal correspondence",
    overwrite: bool = False,
) -> Path:
    """Write the report of a sweep as one HTML file; the answer comes first.

    Parameters
    ----------
    path : the file to write; it is written atomically
    sweep : Dataset of :func:`analyses.layers.sweep.sweep`
    selection : LayerSelection, or None where no clip has true tracks
    examples : clips with predicted tracks
    tracking : Dataset of :func:`analyses.evaluation.tapvid.evaluate_tapvid`, optional
        If it also holds the variables of :func:`analyses.metrics.track_errors.gather_errors`, like that of
        :func:`analyses.evaluation.compare.compare_trackers`, the error over time is drawn as well.
    tracked : clips with the tracks of a tracker
    closer : clips with coarse and closer tracks, of :func:`ditprobe.report.closer.closer_clip`
    transfers : clips with the motion of a reference, of :func:`ditprobe.report.transfer.transferred_clip`
    head_masses : Dataset of :func:`analyses.heads.sweep.sweep_heads`, optional
        For a section on spatial and temporal heads.
    head_examples : attention of single heads, of :func:`ditprobe.report.heads.make_head_examples`
    title : heading of the page; plain text
    overwrite : replace an existing file

    Returns
    -------
    Path of the file.

    Raises
    ------
    OutputExistsError
        When the path is taken and ``overwrite`` is False, or is a folder, or lies below a file.
    RecordingError
        When it cannot be written.
    InvalidInputError
        When the sweep lacks a dim, the selection names a layer that the sweep does not have, an example's tracks do
        not fit its clip, ``tracking`` or ``head_masses`` is of another kind, or the clips and flows of a transfer do
        not fit each other.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from analyses.selection.select import select_layers
    >>> cross = np.arange(24.0).reshape(2, 3, 4, 1) / 100
    >>> measures = {name: (("clip", "step", "layer", "target"), cross) for name in ("confidence", "attention_score")}
    >>> measures["accuracy"] = (("clip", "step", "layer"), 100 * cross[..., 0], {"units": "%"})
    >>> names = {"clip": ["a", "b"], "step": [0, 20, 49], "layer": [0, 1, 2, 3], "target": ["cross"]}
    >>> found = xr.Dataset(measures, names)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(f"{folder}/report.html", found, select_layers(found, 2)).name
    'report.html'
    """
    path = Path(path)
    REPORT_FILE.check(path, overwrite=overwrite)
    text = render_report(
        sweep,
        selection,
        examples=examples,
        tracking=tracking,
        tracked=tracked,
        closer=closer,
        transfers=transfers,
        head_masses=head_masses,
        head_examples=head_examples,
        title=title,
    )
    REPORT_FILE.write(path, text)
    return path


def render_report(
    sweep: xr.Dataset,
    selection: LayerSelection | None,
    *,
    examples: Sequence[Example] = (),
    tracking: xr.Dataset | None = None,
    tracked: Sequence[TrackedClip] = (),
    closer: Sequence[CloserClip] = (),
    transfers: Sequence[TransferredClip] = (),
    head_masses: xr.Dataset | None = None,
    head_examples: Sequence[HeadExample] = (),
    title: str,
) -> str:
    """Render the page as text; the same input gives the same bytes. See :func:`write_report`."""
    _check(sweep, selection)
    names = (f"figure-{number}" for number in range(1, 10_000))
    selected = selection.layers if selection is not None else ()
    page: dict[str, Any] = {
        "title": title,
        "plotly_js": plotly_script(),
        "style": style(),
        "scripts": scripts(),
        "summary": words.summary(sweep),
        "answer": words.answer(sweep, selection),
        "linked": view("linked", linked_data(sweep, selection), names),
        "answer_figures": _selection_figures(selection, names),
        "answer_note": words.interval_note(selection) if selection is not None else "",
        "facts": words.facts(sweep),
        "clips": clip_table(sweep, words.clip_details(sweep)),
        "maps": maps(sweep, selected, names),
        "curves": curves(sweep, selected, names),
        "heads": heads(sweep, selection, names),
        "classes": heads_part(head_masses, head_examples, names),
        "examples": [show_example(example, names) for example in examples],
        "tracking": tracking_part(tracking, tracked, names),
        "closer": closer_part(closer, names),
        "transfer": transfer_part(transfers, names),
        "tables": _tables(sweep, selection),
        "notes": words.notes(sweep, selection),
    }
    return render_page(page | {"contents": _contents(page)}, template="report.html", package="ditprobe.report")


def _selection_figures(selection: LayerSelection | None, names: Iterator[str]) -> list[ReportFigure]:
    """A figure for each panel, so that a narrow screen can stack them."""
    if selection is None:
        return []
    found = []
    for panel in selection_panels(selection):
        figure = plot_selection(selection, panels=[panel])
        figure.update_layout(title=None, margin={"t": 14}, height=(figure.layout.height or 0) - 52)
        found.append(embed(figure, names))
    return found


def _contents(page: dict[str, Any]) -> list[tuple[str, str]]:
    parts = [
        ("answer", "Answer"),
        ("selection", "How sure this is"),
        ("curves", "Best layers"),
        ("classes", "Spatial and temporal heads"),
        ("examples", "Example clips"),
        ("tracking", "Tracking points"),
        ("closer", "Looking closer"),
        ("transfer", "Motion transfer"),
        ("tables", "Figures and tables"),
        ("notes", "Notes and limits"),
        ("run", "What was run"),
    ]
    optional = ("curves", "classes", "examples", "tracking", "closer", "transfer")
    return [(key, text) for key, text in parts if key not in optional or page[key]]


def _check(sweep: xr.Dataset, selection: LayerSelection | None) -> None:
    missing = [dim for dim in ("clip", "step", "layer") if dim not in sweep.dims]
    if missing:
        raise InvalidInputError(
            f"the sweep needs dims (clip, step, layer); got ({', '.join(map(str, sweep.dims))}): "
            f"{', '.join(missing)} missing."
        )
    for name, *_ in MEASURES:
        if name in sweep and sweep[name].dtype.kind not in "biuf":
            raise InvalidInputError(f"the sweep's {name} must hold numbers; got {sweep[name].dtype}.")
    sizes = {dim: sweep.sizes[dim] for dim in ("clip", "step", "layer")}
    if not all(sizes.values()):
        raise InvalidInputError(f"the sweep is empty: {sizes}. Sweep at least one clip, step and layer.")
    layers = sweep["layer"].values.tolist()
    unknown = [layer for layer in (selection.layers if selection else ()) if layer not in layers]
    if unknown:
        raise InvalidInputError(
            f"the selection names layer {unknown[0]}, which this sweep does not have. Layers of the sweep: "
            f"{', '.join(map(str, layers))}. Select from this sweep."
        )
    if selection is not None:
        _check_step(sweep, selection)


def _check_step(sweep: xr.Dataset, selection: LayerSelection) -> None:
    steps = sweep["step"].values.tolist()
    if selection.step is not None and selection.step not in steps:
        raise InvalidInputError(
            f"the selection ranks by step {selection.step}, which this sweep does not have. Steps of the sweep: "
            f"{', '.join(map(str, steps))}. Select from this sweep."
        )


def _tables(sweep: xr.Dataset, selection: LayerSelection | None) -> list[Table]:
    selected = selection.layers if selection is not None else ()
    tables = [selection_table(selection)] if selection is not None else []
    for name, digits, heading, values in measures(sweep):
        unit = " [%]" if name.endswith("accuracy") else ""
        caption = f"{heading}{unit} by layer and step" + (", mean over clips." if "clip" in values.dims else ".")
        tables.append(layer_step_table(f"table-{name.replace('_', '-')}", values, caption, digits, selected))
    return tables
