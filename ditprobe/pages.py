"""Pages of a few figures that verbs write: one HTML file that needs no network, seen whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from store.errors import InvalidInputError, OutputExistsError, RecordingError
from store.files.atomic import check_file
from store.shards import write_whole

if TYPE_CHECKING:
    import plotly.graph_objects as go

_STYLE = "body{{font-family:system-ui,sans-serif;max-width:{width}px;margin:24px auto;padding:0 12px;color:#1f2430}}"
_STYLE += "h1{{font-size:1.5rem;overflow-wrap:anywhere}}.scroll{{overflow-x:auto;overflow-y:hidden}}"


def check_page(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a path of ``--picture`` that no page can be written to, before a model runs.

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
    store.errors.InvalidInputError: --picture flow.png does not end in .html. Name it flow.html.
    """
    if path.suffix.lower() != ".html":
        raise InvalidInputError(f"--picture {path} does not end in .html. Name it {path.with_suffix('.html')}.")
    check_file(path, "page.html")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists already. Choose another path, or pass overwrite=True.")


def write_page(path: Path, title: str, figures: Sequence[go.Figure], *, width: int = 860, least: int = 0) -> None:
    """Write figures below one another under a heading.

    Parameters
    ----------
    path : the file to write; what is there is replaced
    title : plain text
    figures : figures of plotly
    width : the most pixels that figures take
    least : on a screen of fewer pixels a figure scrolls sideways in its own frame

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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _page(title, figures, width, least).encode())
    except OSError as error:
        raise RecordingError(f"the picture cannot be written to {path}: {error.strerror or error}.") from error


def _page(title: str, figures: Sequence[go.Figure], width: int, least: int) -> str:
    from plotly.offline import get_plotlyjs

    title = escape(title)
    scales = "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    head = f"<meta charset='utf-8'>{scales}<title>{title}</title><style>{_STYLE.format(width=width)}</style>"
    parts = [_embedded(figure, f"figure-{number}", least) for number, figure in enumerate(figures, 1)]
    return (
        f"<!doctype html><html lang='en'><head>{head}<script>{get_plotlyjs()}</script></head>"
        f"<body><h1>{title}</h1>{''.join(parts)}</body></html>\n"
    )


def _embedded(figure: go.Figure, name: str, least: int) -> str:
    config = {"displaylogo": False, "responsive": True}
    html = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config, auto_play=False)
    return f"<div class='scroll'><div style='min-width:{least}px'>{html}</div></div>"
