"""Figures as HTML with ditprobe's toolbar, and pages of a few figures, written atomically."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.files.outputs import OutputFile
from store.pages import render_page

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from markupsafe import Markup

    from ditprobe.report.views import View

REPORT_FILE = OutputFile("report", "report.html")
_FILE = OutputFile("picture", "page.html", (".html",))
_MOST_LETTERS = 60
_TITLE, _MARGIN = 46, 12
"""Heights in pixels of a title with its note, and of the space above a figure without them."""
_TALL = 450
"""Default height of a figure in pixels, as in plotly."""


def check_page(path: Path, *, overwrite: bool = False) -> None:
    """Validate a path of ``--picture`` before a model runs.

    Parameters
    ----------
    path : Path
    overwrite : whether an existing file may be replaced

    Raises
    ------
    InvalidInputError
        For a path that does not end in ``.html``.
    OutputExistsError
        For an existing file, a folder, or a path below a file.

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


def figure_note(figure: go.Figure) -> str:
    """Return the subtitle of a figure as plain text.

    Examples
    --------
    >>> import plotly.graph_objects as go
    >>> figure_note(go.Figure(layout={"title": {"text": "A<br><span>0 to 100 %</span>"}}))
    '0 to 100 %'
    """
    note = (figure.layout.title.text or "").partition("<br>")[2].replace("<br>", "; ")
    return unescape(re.sub(r"<[^>]*>", "", note))


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
    """Return a figure as HTML for a page that holds plotly.js and draws the figure once it comes near the screen.

    Its only button saves it as SVG under its title. No button uploads it, and drags are left to the page, so that it
    scrolls on a touch screen.

    Parameters
    ----------
    figure : a figure of plotly, not changed
    name : id in the page

    Examples
    --------
    >>> import plotly.graph_objects as go
    >>> 'id="figure-1"' in figure_html(go.Figure(), "figure-1")
    True
    """
    import plotly.graph_objects as go
    from markupsafe import Markup, escape

    config: dict[str, Any] = {
        "displaylogo": False,
        "responsive": True,
        "showSendToCloud": False,
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": {"format": "svg", "filename": figure_name(figure)},
    }
    heading, note = figure_title(figure), figure_note(figure)
    shown = go.Figure(figure).update_layout(dragmode=False)
    if heading:
        # the page wraps its lines on a narrow screen, unlike a figure's own title
        above = min(_TITLE, (shown.layout.margin.t or 0) - _MARGIN)
        shown.update_layout(title=None, margin={"t": (shown.layout.margin.t or 0) - above})
        shown.update_layout(height=(shown.layout.height or _TALL) - above)
    caption = f"<figcaption><strong>{escape(heading)}</strong>{escape(note)}</figcaption>" if heading else ""
    drawn = json.loads(shown.to_json())
    told = {"config": config, **drawn} if drawn.get("frames") else {"config": config, **drawn, "frames": None}
    text = json.dumps(told, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
    tall = float(shown.layout.height or _TALL)
    return Markup(
        f'{caption}<div id="{escape(name)}" class="lazy-figure" style="height:{tall:.0f}px">'
        f'<script type="application/json">{text}</script></div>'
    )


def write_page(
    path: Path,
    title: str,
    figures: Sequence[go.Figure | Part],
    *,
    width: int = 860,
    min_width: int = 0,
    intro: str = "",
) -> None:
    """Write figures and views below one another under a heading.

    Parameters
    ----------
    path : the file to write; an existing one is replaced
    title, figures, width, min_width, intro : as in :func:`render_figures`

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
    _FILE.write(path, render_figures(title, figures, width=width, min_width=min_width, intro=intro))


@dataclass(frozen=True)
class Part:
    """A view with its heading, an introduction, and notes on how to read it."""

    view: View
    heading: str = ""
    words: str = ""
    notes: tuple[str, ...] = ()


def render_figures(
    title: str, figures: Sequence[go.Figure | Part], *, width: int = 860, min_width: int = 0, intro: str = ""
) -> str:
    """Return a page with figures and views below one another under a heading; it needs no network.

    The template, the style and the scripts are those of the report. Without a figure of plotly, the page omits
    plotly.js and is small.

    Parameters
    ----------
    title : plain text
    figures : figures of plotly, and views that the page draws itself
    width : largest width of figures in pixels
    min_width : in pixels; on a narrower screen a figure scrolls sideways in its own frame
    intro : a line below the heading; plain text

    Examples
    --------
    >>> render_figures("two", []).count("<h1>two</h1>")
    1
    """
    from ditprobe.report.views import scripts, style

    shown = [
        each if isinstance(each, Part) else figure_html(each, f"figure-{number}")
        for number, each in enumerate(figures, 1)
    ]
    values = {
        "title": title,
        "summary": intro,
        "plotly_js": plotly_script() if any(not isinstance(each, Part) for each in figures) else "",
        "style": style(),
        "scripts": scripts(),
        "figures": shown,
        "width": width,
        "min_width": min_width,
    }
    return render_page(values, template="figures.html", package="ditprobe.report")


@cache
def plotly_script() -> Markup:
    """Return plotly.js."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())
