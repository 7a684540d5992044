"""Table of the families and what each can do, as Markdown; ``docs/families.md`` holds it."""

from __future__ import annotations

from collections.abc import Sequence

from probe.backbones.backbone import Backbone
from probe.backbones.family import Family
from probe.families.registry import families

_COLUMNS = (
    "family",
    "pipelines",
    "input besides text",
    "text in the self-attention",
    "branches of guidance",
    "schedule depends on size",
    "positions can be replaced",
    "self-attention",
)


def family_matrix(chosen: Sequence[type[Backbone]] | None = None) -> str:
    """Return a Markdown table with one row a family, from what the families state.

    Parameters
    ----------
    chosen : sequence of families, optional
        All registered ones by default.

    Examples
    --------
    >>> from probe.families import Mochi
    >>> print(family_matrix([Mochi]).splitlines()[-1])
    | Mochi | `MochiPipeline` | - | last | one call | - | yes | over all tokens |
    """
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *(_row(family) for family in chosen or families())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(family: type[Backbone]) -> tuple[str, ...]:
    given = ["an image"] * bool(family.image_pipelines) + ["a clip"] * bool(family.clip_arguments)
    return (
        family.family,
        ", ".join(f"`{name}`" for name in family.pipelines),
        ", ".join(given) or "-",
        family.text_position or "apart",
        {"batch": "one call", "calls": "a call each"}[family.guidance],
        "yes" if family.shifts_by_size else "-",
        "yes" if replaces_positions(family) else "-",
        "factorised" if family.factorised else "over all tokens",
    )


def replaces_positions(family: type[Family]) -> bool:
    """Return whether position tables of a family can be replaced.

    Examples
    --------
    >>> from probe.families import Mochi
    >>> replaces_positions(Mochi)
    True
    """
    return family.positions_replaced and family.replaced_positions is not Family.replaced_positions
