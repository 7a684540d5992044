"""Pages of the documentation site that are made from elsewhere: root pages, notebooks and the API reference."""

from __future__ import annotations

import gc
import os
import re
import sys
from pathlib import Path
from typing import Any

# jsonschema, which nbformat imports, compiles grammars of IRIs for more than a second where it finds this package
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import nbformat
from mkdocs.structure.files import File, Files
from mkdocstrings_handlers.python._internal import rendering
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import reference
import signatures

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "probe/mini/MODEL_CARD.md": "model_card.md",
}
"""Pages of the repository that lie outside of ``docs``, and their places on the site."""
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")


def on_startup(**_: Any) -> None:
    """Break the lines of signatures without a process for each, and let the garbage collector look less often."""
    signatures.install(rendering)
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


def on_config(config: Any) -> Any:
    """Put every room of every floor into the navigation."""
    for entry in config.nav:
        if "Reference" in entry:
            entry["Reference"] = [{"By task": "reference/index.md"}, *reference.navigation(ROOT)]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made here.

    Markdown files of ``docs`` are kept where they are; their links are rewritten by :func:`on_page_markdown`.
    """
    made = {target: _moved((ROOT / source).read_text(), source) for source, target in PAGES.items()}
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        text, pictures = notebook(path)
        made[f"notebooks/{path.stem}.md"] = _moved(text, f"notebooks/{path.stem}.md")
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    made |= reference.pages(ROOT)
    for target, text in made.items():
        files.append(File.generated(config, target, content=text))
    files.append(File.generated(config, "website.css", content=(Path(__file__).parent / "website.css").read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page of ``docs`` that lead out of it.

    The reference, nearly all of the site, is left out of the search index where ``SEARCH_REFERENCE`` is "no".
    """
    if os.environ.get("SEARCH_REFERENCE") == "no" and page.file.src_uri.startswith("reference/"):
        page.meta["search"] = {"exclude": True}
    source = Path("docs", page.file.src_uri)
    return _moved(markdown, source.as_posix()) if (ROOT / source).exists() else markdown


def notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by file name."""
    settings = Config({"NbConvertBase": {"display_data_priority": ["image/png", "text/markdown", "text/plain"]}})
    exporter = MarkdownExporter(config=settings)
    resources = {"unique_key": path.stem, "output_files_dir": path.stem}
    text, resources = exporter.from_notebook_node(nbformat.read(path, as_version=4), resources)
    return text, dict(resources["outputs"])


def _moved(markdown: str, source: str) -> str:
    """Rewrite the relative links of a page of the repository to the places of the site."""
    folder = Path(source).parent
    target = PAGES.get(source, Path(source).relative_to("docs").as_posix() if source.startswith("docs/") else source)

    def link(found: re.Match[str]) -> str:
        path = _normal(folder / found[2])
        if not (ROOT / path).exists():
            return found[0]
        place = PAGES.get(path, path.removeprefix("docs/"))
        if path.startswith("notebooks/") and path.endswith(".ipynb"):
            place = path.removesuffix("ipynb") + "md"
        up = "../" * target.count("/")
        return f"{found[1]}{up}{place}{found[3]}"

    return LINK.sub(link, markdown)


def _normal(path: Path) -> str:
    """Return a relative path without ``..``."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
