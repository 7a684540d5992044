"""Figures as files: PDF and SVG for papers, PNG for slides, HTML for viewing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from ditprobe.report.page import figure_title, render_figures
from store.arguments import checked
from store.checks import finite
from store.errors import InvalidInputError, MissingFigureWriterError
from store.files.outputs import OutputFile

_FILE = OutputFile("figure", "figure.pdf", (".pdf", ".svg", ".png", ".html"))
_MM, _PIXELS = 25.4, 96.0
"""Millimetres per inch, and pixels of plotly per inch."""
_WIDTH_MM = 170.0
_FLAT = 0.62
"""Default height of a figure as a fraction of its width."""


@checked
def save_figure(
    figure: go.Figure,
    path: str | os.PathLike[str],
    *,
    width_mm: float = _WIDTH_MM,
    height_mm: float | None = None,
    dpi: float = 300,
    overwrite: bool = False,
) -> Path:
    """Write a figure at a size in millimetres, atomically.

    Text keeps its size: 12 px are 9 pt on paper, however wide the figure. Animations and choices are written in their
    initial state; an .html keeps them.

    Parameters
    ----------
    figure : a figure, such as ``dp.plot_layer_step`` returns
    path : path ending in .pdf, .svg, .png or .html
    width_mm, height_mm : of the figure; by default 170 mm, the width of an A4 page's text, and the figure's own height
    dpi : resolution of a .png in dots per inch
    overwrite : replace what is there

    Returns
    -------
    Path of the file.

    Raises
    ------
    InvalidInputError
        For another suffix, a size or a resolution that is not above 0, and for anything but a figure.
    OutputExistsError
        When the file exists and ``overwrite`` is False.
    MissingFigureWriterError
        For .pdf, .svg and .png, without kaleido or without a Chrome or Chromium that it can use.
    RecordingError
        When it cannot be written.

    Notes
    -----
    An .html needs no network, sends nothing, and has the same button as ditprobe's other pages, which saves it as SVG.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_figure(go.Figure(), f"{folder}/empty.html").name
    'empty.html'
    """
    path = Path(path)
    if not isinstance(figure, go.Figure):
        raise InvalidInputError(f"figure must be a plotly Figure; got {type(figure).__name__}.")
    width = finite(width_mm, "width_mm", min_value=10, max_value=10_000) / _MM * _PIXELS
    height = (
        _height(figure, width)
        if height_mm is None
        else finite(height_mm, "height_mm", min_value=10, max_value=10_000) / _MM * _PIXELS
    )
    dots = finite(dpi, "dpi", above=0)
    _FILE.check(path, overwrite=overwrite)
    kind = path.suffix.lower()[1:]
    if kind == "html":
        sized = go.Figure(figure).update_layout(height=height)
        written = render_figures(figure_title(figure) or path.stem, [sized], width=round(width)).encode()
    else:
        scale = dots / _PIXELS if kind == "png" else 1
        written = _drawn(figure, {"format": kind, "width": round(width), "height": round(height), "scale": scale})
    _FILE.write(path, written)
    return path


def _height(figure: go.Figure, width: float) -> float:
    return float(figure.layout.height or _FLAT * width)


def _drawn(figure: go.Figure, options: dict[str, Any]) -> bytes:
    """Draw a figure with kaleido, without MathJax, which would be fetched from the network."""
    try:
        import kaleido
        from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError
    except ImportError as error:
        raise MissingFigureWriterError(
            f"a .{options['format']} needs kaleido: pip install 'ditprobe[figures]'. An .html needs nothing more."
        ) from error
    try:
        return kaleido.calc_fig_sync(figure.to_dict(), opts=options, kopts={"mathjax": False})
    except (ChromeNotFoundError, BrowserClosedError, BrowserFailedError) as error:
        raise MissingFigureWriterError(
            f"a .{options['format']} needs a Chrome or Chromium that runs here: install one (on Debian and Ubuntu: apt "
            "install chromium), or name it in the environment variable BROWSER_PATH. An .html needs nothing more."
        ) from error
