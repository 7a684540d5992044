"""HTML pages from one template; they need no network and forbid the browser to use one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""The Content-Security-Policy of every page: what is not in the file itself is not loaded, and nothing is sent."""


def render_page(values: Mapping[str, Any], *, template: str = "page.html", package: str = "store") -> str:
    """Return a page as text; the same values give the same bytes.

    Parameters
    ----------
    values : what the template shows
        Text is escaped; HTML is passed as ``markupsafe.Markup``. ``page.html`` takes ``title``, ``body`` and
        ``plotly_js``, the last one only where the page has figures.
    template, package : a template that extends ``page.html``, and the package whose folder ``templates`` has it

    Examples
    --------
    >>> page = render_page({"title": "1 < 2", "body": "a & b"})
    >>> "<h1>1 &lt; 2</h1>" in page, "a &amp; b" in page, POLICY.partition(";")[0] in page
    (True, True, True)
    """
    import jinja2
    from markupsafe import Markup

    folders = dict.fromkeys((package, "store"))
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in folders])
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    given: dict[str, Any] = {"version": metadata.version("ditprobe"), "policy": Markup(POLICY), "plotly_js": ""}
    return environment.get_template(template).render(given | dict(values))
