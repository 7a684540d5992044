"""Figures as HTML with ditprobe's toolbar, and pages of a few figures, written atomically."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.files.outputs import OutputFile
from store.pages import render_page

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from markupsafe import Markup

REPORT_FILE = OutputFile("report", "report.html")
_FILE = OutputFile("picture", "page.html", (".html",))
_MOST_LETTERS = 60


def check_page(path: Path, *, overwrite: bool = False) -> None:
    """Validate a path of ``--picture`` before a model runs.

    Parameters
    ----------
    path : Path
    overwrite : whether a file that is there may be replaced

    Raises
    ------
    InvalidInputError
        For a path that does not end in ``.html``.
    OutputExistsError
        For one that is taken, is a folder, or lies below a file.

    Examples
    --------
    >>> check_page(Path("flow.png"))
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: flow.png cannot hold the picture: its suffix must be .html. Name it flow.html.
    """
    _FILE.check(path, overwrite=overwrite)


def figure_title(figure: go.Figure) -> str:
    """Return the title of a figure as plain text, without its subtitle.

    Examples
    --------
    >>> import plotly.graph_objects as go
    >>> figure_title(go.Figure(layout={"title": {"text": "A &amp; <b>B</b><br><span>0 to 100 %</span>"}}))
    'A & B'
    """
    return unescape(re.sub(r"<[^>]*>", "", (figure.layout.title.text or "").partition("<br>")[0]))


def figure_name(figure: go.Figure) -> str:
    """Return the title of a figure as the name of a file; ``figure`` without a title.

    Examples
    --------
    >>> import plotly.graph_objects as go
    >>> figure_name(go.Figure(layout={"title": {"text": "Accuracy of A &amp; B<br><span>0 to 100 %</span>"}}))
    'accuracy-of-a-b'
    """
    words = re.findall(r"[^\W_]+", figure_title(figure).lower())
    return "-".join(words)[:_MOST_LETTERS].strip("-") or "figure"


def figure_html(figure: go.Figure, name: str) -> Markup:
    """Return a figure as HTML for a page that holds plotly.js.

    Its one button saves it as SVG under its title. There is none that uploads, and drags are left to the page, which so
    scrolls on a touch screen.

    Parameters
    ----------
    figure : a figure of plotly; it is left as it is
    name : id in the page

    Examples
    --------
    >>> import plotly.graph_objects as go
    >>> 'id="figure-1"' in figure_html(go.Figure(), "figure-1")
    True
    """
    import plotly.graph_objects as go
    from markupsafe import Markup

    config: dict[str, Any] = {
        "displaylogo": False,
        "responsive": True,
        "showSendToCloud": False,
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": {"format": "svg", "filename": figure_name(figure)},
    }
    shown = go.Figure(figure).update_layout(dragmode=False)
    html = shown.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config, auto_play=False)
    return Markup(html)


def write_page(path: Path, title: str, figures: Sequence[go.Figure], *, width: int = 860, least: int = 0) -> None:
    """Write figures below one another under a heading.

    Parameters
    ----------
    path : the file to write; what is there is replaced
    title, figures, width, least : as in :func:`render_figures`

    Raises
    ------
    RecordingError
        When it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import plotly.graph_objects as go
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_page(Path(folder) / "page.html", "1 < 2", [go.Figure()])
    ...     "<h1>1 &lt; 2</h1>" in (Path(folder) / "page.html").read_text()
    True
    """
    _FILE.write(path, render_figures(title, figures, width=width, least=least))


def render_figures(title: str, figures: Sequence[go.Figure], *, width: int = 860, least: int = 0) -> str:
    """Return a page with figures below one another under a heading; it needs no network.

    Parameters
    ----------
    title : plain text
    figures : figures of plotly
    width : the most pixels that figures take
    least : on a screen of fewer pixels a figure scrolls sideways in its own frame

    Examples
    --------
    >>> render_figures("two", []).count("<h1>two</h1>")
    1
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    values = {
        "title": title,
        "plotly_js": Markup(get_plotlyjs()),
        "figures": [figure_html(figure, f"figure-{number}") for number, figure in enumerate(figures, 1)],
        "width": width,
        "least": least,
    }
    return render_page(values, template="figures.html", package="ditprobe.report")
