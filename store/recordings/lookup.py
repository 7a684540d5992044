"""Records and heads of a recording, looked up by the numbers of the run and the backbone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from store.errors import InvalidInputError, NotRecordedError, UnknownLayerError
from store.plan import Plan
from store.recordings.sources import Position
from store.selection import BRANCHES, resolve_number
from store.wording import Wording


def position_of(plan: Plan, step: int, layer: int, branch: str) -> Position:
    """Position of a record along the recorded steps, branches and layers; negative numbers count from the end.

    Raises
    ------
    UnknownLayerError
        The backbone or the run has no such step, layer or branch.
    NotRecordedError
        It exists but was not recorded.
    """
    if branch not in BRANCHES:
        raise UnknownLayerError(f"branch {branch!r} does not exist. Branches are 'cond' and 'uncond'.")
    step = resolve_number("step", step, plan.run_steps, "run")
    layer = resolve_number("layer", layer, plan.layer_count)
    return (
        index_of("step", step, plan.steps),
        index_of("branch", branch, plan.branches),
        index_of("layer", layer, plan.layers),
    )


def rows_of(plan: Plan, heads: Iterable[int] | None) -> list[int] | None:
    """Rows of the given heads among the recorded ones, ascending; None for all of them.

    Raises
    ------
    InvalidInputError
        No heads, not an iterable, or a number that is not an int.
    UnknownLayerError, NotRecordedError
        As for :func:`position_of`.
    """
    if heads is None:
        return None
    if isinstance(heads, str) or not isinstance(heads, Iterable) or getattr(heads, "ndim", 1) == 0:
        raise InvalidInputError(f"heads must be an iterable of ints, such as heads=[0]; got {heads!r}.")
    asked = sorted({resolve_number("head", head, plan.head_count) for head in heads})
    if not asked:
        raise InvalidInputError("heads is empty: nothing would be read. Leave it out to read all of them.")
    return [index_of("head", head, plan.heads) for head in asked]


def index_of(kind: str, asked: Any, recorded: Sequence[Any]) -> int:
    """Index of a step, layer, head or branch among the recorded ones.

    Raises
    ------
    NotRecordedError
        Its remedy names the selection that records it too.
    """
    if asked in recorded:
        return recorded.index(asked)
    plural = "branches" if kind == "branch" else f"{kind}s"
    names = ", ".join(map(str, recorded))
    wanted = (
        [name for name in BRANCHES if name in (*recorded, asked)] if kind == "branch" else sorted((*recorded, asked))
    )
    raise NotRecordedError(
        f"{kind} {asked} was not recorded. Recorded {plural}: {names}.", remedy=again(**{plural: wanted})
    )


def again(**arguments: Any) -> Wording:
    """Remedy that consists of recording again with one argument."""
    (name,) = arguments
    return Wording(f"Record again with {{{name}}}.", **arguments)
