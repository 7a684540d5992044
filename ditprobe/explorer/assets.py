"""The front end: one script and one style sheet, used by the page, the exported file and the widget."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from store.pages import POLICY, render_page

_SCRIPTS = ("core.js", "draw.js", "app.js", "pictures.js", "panels.js", "page.js", "output.js", "start.js")
_SERVED_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'"
)


@cache
def script() -> str:
    """All of the front end's JavaScript; it defines ``startExplorer`` and the transports."""
    folder = resources.files("ditprobe.explorer").joinpath("static")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS)


@cache
def style() -> str:
    """The style sheet; every rule is below the class ``dpx``."""
    return resources.files("ditprobe.explorer").joinpath("static", "explorer.css").read_text(encoding="utf-8")


def module() -> str:
    """The front end as the module that anywidget loads."""
    return (
        script()
        + """
function render({ model, el }) {
  const root = document.createElement("div");
  el.append(root);
  const app = startExplorer(root, widgetTransport(model));
  return () => { app.resized?.disconnect(); app.close(); };
}
export default { render };
"""
    )


def served_page(title: str) -> str:
    """The page of the local server, which sends requests to its own server only."""
    begin = (
        'startExplorer(document.getElementById("explorer"), serverTransport(location.pathname.replace(/[^/]*$/, "")));'
    )
    return _page(title, begin, _SERVED_POLICY)


def stored_page(title: str, stored: dict[str, Any]) -> str:
    """A page that contains its answers and sends no requests."""
    values = json.dumps(stored, allow_nan=False).replace("</", "<\\/")
    begin = (
        f'replayTransport({values}).then((transport) => startExplorer(document.getElementById("explorer"), transport));'
    )
    return _page(title, begin, POLICY)


def _page(title: str, begin: str, policy: str) -> str:
    from markupsafe import Markup

    values = {
        "title": title,
        "css": Markup(style()),
        "script": Markup(script()),
        "begin": Markup(begin),
        "policy": Markup(policy),
    }
    return render_page(values, template="explorer.html", package="ditprobe.explorer")
