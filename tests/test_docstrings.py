"""Docstrings open with a noun phrase or an imperative, and hold no phrases of another language."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("store", "probe", "analyses", "generators", "ditprobe", "benchmarks")
NOT_YET: tuple[str, ...] = ()
"""Packages whose docstrings are not held to it."""

CLAUSE = re.compile(r"(what|where|how|which|whether|when|why|who|whose|whoever)\b", re.IGNORECASE)
PHRASES = re.compile(
    r"(?<!there )\b(is|are) no (?!longer\b|more than\b|larger\b|smaller\b)\w|\bof one's own\b|\bso many\b|\banew\b|"
    r"\bwhoever\b|"
    r"\bwhole or not at all\b|\bfor people\b",
    re.IGNORECASE,
)


def docstrings(package: str) -> Iterator[tuple[str, str]]:
    """Every docstring of a package with the place of what it belongs to."""
    for path in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    name = getattr(node, "name", "module")
                    yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)} {name}", text


@pytest.mark.parametrize("package", [package for package in PACKAGES if package not in NOT_YET])
def test_first_lines_are_noun_phrases_or_imperatives(package: str) -> None:
    wrong = [f"{place}: {text.splitlines()[0]}" for place, text in docstrings(package) if CLAUSE.match(text)]
    assert not wrong, "\n".join(["a clause opens:", *wrong])


@pytest.mark.parametrize("package", [package for package in PACKAGES if package not in NOT_YET])
def test_docstrings_are_idiomatic(package: str) -> None:
    wrong = [f"{place}: {found[0]!r}" for place, text in docstrings(package) if (found := PHRASES.search(text))]
    assert not wrong, "\n".join(["not English as it is written:", *wrong])


def test_the_rule_finds_what_it_is_for() -> None:
    for line in ("What a sweep goes through.", "Whether a step is done."):
        assert CLAUSE.match(line), line
    for line in ("Whole files.", "Ask for a path.", "Items of a sweep."):
        assert not CLAUSE.match(line), line
    for text in ("a file that is no clip", "every so many images", "it appears whole or not at all"):
        assert PHRASES.search(text), text
    for text in ("it is no longer there", "there is no limit", "at least one", "is not a clip"):
        assert not PHRASES.search(text), text
