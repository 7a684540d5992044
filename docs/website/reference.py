"""Pages of the API reference: the names of the facade by task, and every public module by floor and room."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLOORS = ("ditprobe", "generators", "analyses", "probe", "store")
ROLE = re.compile(r":(func|class|meth|data|attr|mod|exc|obj):`([^`]+)`")
"""A Sphinx role in a docstring."""


def tasks(stub: str) -> dict[str, dict[str, str]]:
    """Return the names of the facade and the modules they come from by task, as the comments of its stub arrange them.

    Examples
    --------
    >>> tasks("# Clips\\nfrom store.clips.clip import Clip as Clip\\n# Models\\nfrom probe import (\\n    a as b,\\n)")
    {'Clips': {'Clip': 'store.clips.clip'}, 'Models': {'b': 'probe'}}
    """
    found: dict[str, dict[str, str]] = {}
    title = module = ""
    for line in stub.splitlines():
        if line.startswith("# "):
            title = line[2:].strip()
        if line.startswith("from "):
            module = line.split()[1]
        if name := re.search(r"\bas (\w+),?$", line):
            found.setdefault(title, {})[name[1]] = module
    return found


def rooms(root: Path, floor: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every package of a floor with its public modules, the floor itself first.

    Examples
    --------
    >>> dict(rooms(Path("."), "store"))["store.tracks"][0]
    'store.tracks.files'
    """
    for init in sorted((root / floor).rglob("__init__.py")):
        folder = init.parent
        package = ".".join(folder.relative_to(root).parts)
        modules = [f"{package}.{path.stem}" for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")]
        yield package, modules


def navigation(root: Path) -> list[dict[str, Any]]:
    """Return the entries of the navigation: one section for each floor, one page for each room."""
    return [{floor: [{package: f"reference/{package}.md"} for package, _ in rooms(root, floor)]} for floor in FLOORS]


def pages(root: Path) -> dict[str, str]:
    """Return the Markdown of every page by its path on the site."""
    made = {"reference/index.md": by_task(root)}
    for floor in FLOORS:
        for package, modules in rooms(root, floor):
            parts = [f"# {package}\n\n::: {package}\n    options: {{members: false, show_root_heading: false}}\n"]
            parts += [f"::: {module}\n" for module in modules]
            made[f"reference/{package}.md"] = "\n".join(parts)
    return made


def by_task(root: Path) -> str:
    """Return the page that lists what ``import ditprobe as dp`` has, by task."""
    import ditprobe

    lines = [
        "# Reference by task",
        "",
        "Names of `import ditprobe as dp`. Each links to its full documentation, which is arranged by floor and room.",
    ]
    for title, names in tasks((root / "ditprobe" / "__init__.pyi").read_text(encoding="utf-8")).items():
        lines += ["", f"## {title}", "", "| name | summary |", "|---|---|"]
        for name, module in names.items():
            path, documentation = described(getattr(ditprobe, name), name, module)
            summary = documentation.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            lines.append(f"| [`dp.{name}`][{path}] | {plain(summary)} |")
    return "\n".join(lines) + "\n"


def described(thing: Any, name: str, module: str) -> tuple[str, str]:
    """Return the dotted path under which a name of the facade is documented, and its documentation.

    A constant is documented by the text below its assignment; without one, by its class.
    """
    if hasattr(thing, "__qualname__"):
        return home(thing), inspect.getdoc(thing) or ""
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    for statement, after in itertools.pairwise(body):
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        if any(isinstance(each, ast.Name) and each.id == name for each in targets) and isinstance(after, ast.Expr):
            return f"{module}.{name}", inspect.cleandoc(ast.literal_eval(after.value))
    return home(type(thing)), inspect.getdoc(type(thing)) or ""


def home(thing: Any) -> str:
    """Return the dotted path under which an object is documented.

    Examples
    --------
    >>> from store import TokenLayout
    >>> home(TokenLayout), home(TokenLayout.to_cells)
    ('store.layout.TokenLayout', 'store.layout.TokenLayout.to_cells')
    """
    if inspect.ismodule(thing):
        return thing.__name__
    thing = inspect.unwrap(getattr(thing, "fget", None) or getattr(thing, "func", None) or thing)
    return f"{thing.__module__}.{thing.__qualname__}"


def plain(text: str) -> str:
    """Return the summary of a docstring without Sphinx roles and with single backticks."""
    return ROLE.sub(lambda found: f"`{found[2].lstrip('~').rpartition('.')[2]}`", text).replace("``", "`")
