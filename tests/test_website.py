"""The documentation site builds without warnings, holds every public name, and loads nothing from a network."""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import subprocess
import sys
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == "", run.stderr
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
