"""Griffe extension: turn Sphinx roles of docstrings into cross-references of the site."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from reference import FLOORS, ROLE, home  # noqa: E402


class Roles(griffe.Extension):
    """Rewrites the docstrings of every package that is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Visit every object of the package."""
        _visit(pkg, pkg.path)


def _visit(thing: Any, module: str) -> None:
    if thing.docstring is not None:
        thing.docstring.value = plain_types(linked(thing.docstring.value, module))
    for member in thing.members.values():
        if not member.is_alias:
            _visit(member, member.path if member.is_module else module)


def plain_types(text: str) -> str:
    """Return a docstring whose types, which the site shows as code, have no code marks of their own.

    Examples
    --------
    >>> plain_types("Parameters\\n----------\\nx : like ``y``\\n    As ``y`` is.")
    'Parameters\\n----------\\nx : like y\\n    As ``y`` is.'
    """
    section, lines = "", text.splitlines()
    for number, line in enumerate(lines):
        if number and set(line.strip()) == {"-"}:
            section = lines[number - 1].strip()
        if not line.startswith(" ") and (section in ("Returns", "Yields") or " : " in line) and section:
            lines[number] = line.replace("``", "")
    return "\n".join(lines)


def linked(text: str, module: str) -> str:
    """Return a docstring of a module with each role as a Markdown reference, or as code where it has no page."""

    def link(found: re.Match[str]) -> str:
        name = found[2].lstrip("~")
        shown = name.rpartition(".")[2] if found[2].startswith("~") or name.count(".") > 1 else name
        target = resolve(name, module)
        return f"`{shown}`" if target is None else f"[`{shown}`][{target}]"

    return ROLE.sub(link, text)


def resolve(name: str, module: str) -> str | None:
    """Return the dotted path of what a role names from within a module; None if nothing public is found.

    Examples
    --------
    >>> resolve("TokenLayout.to_cells", "store.layout"), resolve("store.make_scene", "store.layout")
    ('store.layout.TokenLayout.to_cells', 'store.scenes.scene.make_scene')
    """
    found = find(name, module)
    if found is None:
        return None
    thing, path = found
    target = home(thing) if hasattr(thing, "__qualname__") or hasattr(thing, "__path__") else path
    parts = target.split(".")
    return target if parts[0] in FLOORS and not any(part.startswith("_") for part in parts) else None


def find(name: str, module: str) -> tuple[Any, str] | None:
    """Return the object that a role names, looked up in the module, its classes and as a whole path."""
    scopes = [importlib.import_module(module)]
    scopes += [each for each in vars(scopes[0]).values() if isinstance(each, type) and each.__module__ == module]
    for scope in scopes:
        thing, here = scope, True
        for part in name.split("."):
            here = here and hasattr(thing, part)
            thing = getattr(thing, part, None)
        if here:
            inside = module if scope is scopes[0] else f"{module}.{scope.__qualname__}"
            return thing, f"{inside}.{name}"
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            if not hasattr(thing, part):
                return None
            thing = getattr(thing, part)
        return thing, name
    return None
