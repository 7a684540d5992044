"""The documentation site builds without warnings, holds every public name, and loads nothing from a network."""

from __future__ import annotations

import doctest
import importlib.util
import multiprocessing
import os
import re
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType

import pytest

import ditprobe

ROOT = Path(__file__).parents[1]
WEBSITE = ROOT / "docs" / "website"
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?([^\"' >]+)|<link\b[^>]*\bhref=[\"']?([^\"' >]+)"
)
IN_STYLES = re.compile(r"@import[^;]*|url\(([^)]*)\)")


def load(name: str) -> ModuleType:
    """A script of the site, which is in no package."""
    spec = importlib.util.spec_from_file_location(name, WEBSITE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def build(folder: Path, messages: Path) -> int:
    """Build the site as ``make docs`` does, except for the search index of the reference; return the exit status.

    On Linux it is built in a fork of this process, which has already imported what the site documents.
    """
    command = ["build", "--strict", "--quiet", "--site-dir", str(folder)]
    if sys.platform != "linux":
        with messages.open("w") as file:
            return subprocess.run([sys.executable, "-m", "mkdocs", *command], stdout=file, stderr=file).returncode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # since Python 3.12, of a fork where there are threads
        process = multiprocessing.get_context("fork").Process(target=run_mkdocs, args=(command, messages))
        process.start()
    process.join()
    return process.exitcode


def run_mkdocs(command: list[str], messages: Path) -> None:
    """Run MkDocs in this process, with the warnings of a new interpreter and all that it prints in a file."""
    from mkdocs.__main__ import cli

    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    with messages.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        cli(command)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    messages = tmp_path_factory.mktemp("messages") / "messages.txt"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name, value in {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT), "SEARCH_REFERENCE": "no"}.items():
            patch.setenv(name, value)
        status = build(folder, messages)
    assert status == 0, messages.read_text()
    assert messages.read_text() == ""
    return folder


def test_the_site_loads_nothing_from_a_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        found = [first or second for first, second in LOADED.findall(page.read_text(encoding="utf-8"))]
        assert found, page
        assert [each for each in found if re.match(r"(https?:)?//", each)] == [], page
    for style in site.rglob("*.css"):
        found = IN_STYLES.findall(style.read_text(encoding="utf-8"))
        assert [each for each in found if "//" in each and not each.strip("\"'").startswith("data:")] == [], style


def test_the_reference_holds_every_public_name(site: Path) -> None:
    reference = load("reference")
    listed = [
        name for names in reference.tasks((ROOT / "ditprobe/__init__.pyi").read_text()).values() for name in names
    ]
    assert sorted(listed) == sorted(ditprobe.__all__)
    by_task = (site / "reference/index.html").read_text(encoding="utf-8")
    for name in ditprobe.__all__:
        assert f"<code>dp.{name}</code>" in by_task, name
    for floor in reference.FLOORS:
        for package, modules in reference.rooms(ROOT, floor):
            page = (site / f"reference/{package}.html").read_text(encoding="utf-8")
            assert [module for module in modules if f'id="{module}"' not in page] == []


def test_notebooks_and_pictures_are_on_the_site(site: Path) -> None:
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        page = (site / f"notebooks/{path.stem}.html").read_text(encoding="utf-8")
        pictures = re.findall(r'<img [^>]*src="([^"]+)"', page)
        assert pictures, path
        assert [each for each in pictures if not (site / "notebooks" / each).is_file()] == []


@pytest.mark.parametrize("name", ["reference", "roles", "signatures"])
def test_examples_of_the_scripts_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    module = load(name)
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
