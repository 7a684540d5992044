"""Packages whose names load on first use, declared once in a stub.

A package lists its public names in ``__init__.pyi``, grouped by comments::

    # Clips
    from store.clips.clip import Clip as Clip

Type checkers and completion read that file as it is; at run time :func:`attach_stub` reads the same file and imports
a name when it is first used. So there is one list, and importing the package costs nothing. It does what
``lazy_loader.attach_stub`` does, and also takes names from other packages, which a facade over several needs.
"""

from __future__ import annotations

import ast
import difflib
import textwrap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the module-level ``__getattr__``, ``__dir__`` and ``__all__`` of a package with a stub.

    Parameters
    ----------
    package, file : str
        ``__name__`` and ``__file__`` of the package; the stub is the ``.pyi`` next to it.

    Returns
    -------
    __getattr__, __dir__ : callable
    __all__ : list of str
        Sorted. An unknown name is an ``AttributeError`` that suggests the nearest names.

    Examples
    --------
    >>> import store
    >>> load, names, public = attach_stub("store", store.__file__)
    >>> load("Clip"), "Clip" in names(), "Clip" in public
    (<class 'store.clips.clip.Clip'>, True, True)
    >>> load("Clop")
    Traceback (most recent call last):
    AttributeError: store has no 'Clop'. Did you mean 'Clip'? dir(store) lists every name.
    """
    homes = stub_homes(file)
    public = sorted(homes)

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f"{package} has no {name!r}.{_suggested(name, public)} dir({package}) lists every name."
            )
        return getattr(import_module(homes[name]), name)

    def names() -> list[str]:
        return sorted({*vars(import_module(package)), *public})

    return load, names, public


def stub_homes(file: str | Path) -> dict[str, str]:
    """Return the module of each name that a package's stub declares.

    Raises
    ------
    ValueError
        When the stub holds anything but ``from module import Name as Name``.

    Examples
    --------
    >>> import store
    >>> stub_homes(store.__file__)["Clip"]
    'store.clips.clip'
    """
    return {name: home for names in _statements(Path(file).with_suffix(".pyi")) for name, home in names[1]}


def stub_groups(file: str | Path) -> dict[str, tuple[str, ...]]:
    """Return the names of a package's stub by group: the comment above them.

    Examples
    --------
    >>> import store
    >>> stub_groups(store.__file__)["Token layout, selection and plan"]
    ('TokenLayout', 'Selection', 'Plan', 'PlannedArray')
    """
    stub = Path(file).with_suffix(".pyi")
    lines = stub.read_text(encoding="utf-8").splitlines()
    groups: dict[str, tuple[str, ...]] = {}
    for line, names in _statements(stub):
        heading = next((text[2:] for text in reversed(lines[: line - 1]) if text.startswith("# ")), "")
        groups[heading] = (*groups.get(heading, ()), *(name for name, _ in names))
    return groups


def names_by_task(file: str | Path) -> str:
    """Return the groups of a package's stub as the definition list that ends its docstring.

    Examples
    --------
    >>> import store
    >>> print(names_by_task(store.__file__).splitlines()[1])
        ``TokenLayout``, ``Selection``, ``Plan``, ``PlannedArray``
    """
    lines = []
    for group, names in stub_groups(file).items():
        listed = ", ".join(f"``{name}``" for name in names)
        lines += [group, *textwrap.wrap(listed, 116, initial_indent="    ", subsequent_indent="    ")]
    return "\n".join(lines) + "\n"


def _statements(stub: Path) -> list[tuple[int, list[tuple[str, str]]]]:
    found = []
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # the docstring
        if not isinstance(node, ast.ImportFrom) or node.level or any(each.asname != each.name for each in node.names):
            raise ValueError(f"{stub}:{node.lineno}: a stub holds 'from module import Name as Name' alone.")
        found.append((node.lineno, [(each.name, str(node.module)) for each in node.names]))
    return found


def _suggested(name: str, public: list[str]) -> str:
    lowered = {known.lower(): known for known in public}
    near = [lowered[each] for each in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.7)]
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
