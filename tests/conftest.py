"""The order of all tests: those that take longest first, so that no worker is left with them at the end."""

from __future__ import annotations

import pytest

LONGEST = ("test_notebooks.py", "test_readme.py", "test_website.py", "test_demo.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort stably by whether the module is one of the longest."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
