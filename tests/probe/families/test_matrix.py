"""The table of families in the documentation is what the families state."""

from __future__ import annotations

from pathlib import Path

from probe.families import families
from probe.families.matrix import family_matrix

PAGE = Path(__file__).parents[3] / "docs" / "families.md"


def test_the_page_holds_the_table_of_all_families() -> None:
    own = [family for family in families() if family.__module__.startswith("probe.families.")]
    assert family_matrix(own) in PAGE.read_text(encoding="utf-8"), "generate it with family_matrix()"


def test_pipelines_and_transformers_belong_to_one_family_each() -> None:
    for stated in ("pipelines", "transformers"):
        names = [name for family in families() for name in getattr(family, stated)]
        assert len(names) == len(set(names))


def test_image_pipelines_are_pipelines() -> None:
    for family in families():
        assert set(family.image_pipelines) <= set(family.pipelines)
