"""Limits of the house: modules in a folder, circles, writers of files, lines of a test module."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("store", "probe", "analyses", "generators", "ditprobe", "benchmarks")
MAX_MODULES, MAX_LINES = 16, 500
COUNTS = runpy.run_path(str(ROOT / "docs" / "counts.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_holds_few_modules(package: str) -> None:
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    counts = {str(folder.relative_to(ROOT)): len([*folder.glob("*.py")]) - 1 for folder in folders}  # without __init__
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_a_test_module_is_short() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


def test_no_modules_import_each_other() -> None:
    assert COUNTS["circles"](ROOT) == 0


def test_no_packages_import_each_other() -> None:
    assert COUNTS["circles_of_packages"](ROOT) == 0


def test_files_are_replaced_in_one_place() -> None:
    assert COUNTS["modules_that_replace_files"](ROOT) == 1
