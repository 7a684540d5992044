"""All tests: the longest first, so that no worker is left with them at the end; registries as they were.

Docstring examples are looked for in the packages alone: to look for them here takes longer than to run them there.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from _pytest.doctest import DoctestModule

# jsonschema, which nbformat imports, compiles grammars of IRIs for more than a second where it finds this package
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

# typer builds the commands of all verbs for every call of its runner; here once
typer.testing._get_command = functools.cache(typer.testing._get_command)

LONGEST = ("test_notebooks.py", "test_readme.py", "test_website.py", "test_demo.py")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Iterator[Any]:
    """Collect no docstring examples from the tests."""
    found = yield
    return [each for each in found if not isinstance(each, DoctestModule)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort stably by whether the module is one of the longest."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what was imported, and look less often: a tenth of all processor time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture
def registries_as_before() -> Iterator[None]:
    """Unregister what a test registers."""
    from analyses.metrics.registry import TRACKING_METRICS
    from analyses.trackers.registry import TRACKERS
    from generators.transfer.methods import METHODS
    from probe.families.registry import REGISTRY

    registries = (REGISTRY, TRACKERS, TRACKING_METRICS, METHODS)
    before = [set(registry) for registry in registries]
    yield
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry) - names:
            registry.unregister(name)
