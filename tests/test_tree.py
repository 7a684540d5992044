"""The tree of rooms in ``docs/architecture.md`` is that of the code."""

from __future__ import annotations

import runpy
from pathlib import Path

TREE = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "tree.py"))


def test_the_page_has_the_tree_of_the_code() -> None:
    assert TREE["PAGE"].read_text(encoding="utf-8") == TREE["page"](), "run `python docs/tree.py`"


def test_every_package_says_in_a_line_what_it_is() -> None:
    lines = [line for line in TREE["tree"]().splitlines() if line]
    assert all(len(line.split("/", 1)[1].strip()) > 10 for line in lines)
    assert max(map(len, lines)) < 150
