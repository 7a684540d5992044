"""Draws of the noise in a sweep, and checks of the settings that belong to no clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from analyses.layers.sweep_items import (
    SweepItem,
)
from store.checks import integer
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.selection import Selection
from store.wording import Wording


def check_run(seed: Any, steps: Any, draws: Any) -> None:
    """Raise for a seed, a number of steps or of noise draws that no run has."""
    if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str):
        raise InvalidInputError(
            "a sweep has one seed; got several. For several draws of the noise pass draws=, whose seeds follow from it."
        )
    integer(seed, "seed", least=0)
    integer(steps, "steps", least=1)
    integer(draws, "draws", least=1)


def check_draws(draws: int, noise: str, sources: Mapping[str, Any], truths: Mapping[str, Any]) -> None:
    """Raise for draws that would all be the same, and those of a prompt whose truth holds for one of them alone."""
    if draws == 1:
        return
    if noise != "forward" and any(isinstance(source, Clip) for source in sources.values()):
        raise InvalidInputError(
            Wording("{draws} draws noise, and {noise} has none.", draws=draws, noise=noise),
            remedy=Wording("Pass {noise}.", noise="forward"),
        )
    if truths:
        raise InvalidInputError(
            f"draws={draws} generates another clip in each draw, and truth follows the points of one. Leave out one of "
            f"them."
        )


def draw_seeds(seed: int, draws: int) -> tuple[int, ...]:
    """The seed of each draw: ``seed`` itself, then others that follow from it.

    Examples
    --------
    >>> draw_seeds(7, 1)
    (7,)
    >>> draw_seeds(7, 3) == (7, *draw_seeds(7, 3)[1:]), draw_seeds(7, 2) == draw_seeds(7, 3)[:2]
    (True, True)
    """
    later = (np.random.SeedSequence([seed, draw]).generate_state(1)[0] for draw in range(1, draws))
    return (seed, *(int(one) for one in later))


def repeat_for_draws(items: Sequence[SweepItem], draws: int) -> list[SweepItem]:
    """Each source's items once for each draw; one draw leaves them as they are."""
    if draws == 1:
        return list(items)
    found = []
    for _, group in groupby(items, key=lambda item: item.source):
        own = list(group)
        found += [replace(item, name=f"{item.name}, draw {n}", draw=n) for n in range(draws) for item in own]
    return found


def check_selection(selection: Selection) -> None:
    """Raise for several branches, and frames that are left out."""
    if len(tuple(selection.branches)) != 1:
        raise InvalidInputError(
            f"a sweep looks at one branch; got {', '.join(selection.branches)}.",
            remedy=Wording("Select {branches}, and sweep again for the other.", branches=("cond",)),
        )
    if selection.frames is not None:
        raise InvalidInputError(
            "a sweep needs every frame: its points are followed through all of them. Leave out frames."
        )
