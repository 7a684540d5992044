"""Draws of the noise in a sweep, and checks of the settings that do not depend on a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import xarray as xr

from analyses.layers.sweep_items import (
    SweepItem,
)
from store.arguments import checked
from store.checks import integer
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.selection import Selection
from store.wording import Wording


def check_run(seed: Any, steps: Any, draws: Any) -> None:
    """Raise for an impossible seed, number of steps or number of noise draws."""
    integer(steps, "steps", min_value=1)
    integer(draws, "draws", min_value=1)
    if not (isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str)):
        integer(seed, "seed", min_value=0)
        return
    seeds = [integer(each, "seed", min_value=0) for each in seed]
    if not seeds or len(set(seeds)) < len(seeds):
        raise InvalidInputError(f"seeds must be one or several, each once; got {seeds}.")
    if draws not in (1, len(seeds)):
        raise InvalidInputError(f"{len(seeds)} seeds are {len(seeds)} draws; got draws={draws}. Leave draws out.")


def check_draws(draws: int, noise: str, sources: Mapping[str, Any], truths: Mapping[str, Any]) -> None:
    """Raise for draws that would all be the same, and for several draws of a prompt whose truth holds for only one."""
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


def draw_seeds(seed: int | Sequence[int], draws: int) -> tuple[int, ...]:
    """The seed of each draw: the given seeds, or ``seed`` itself followed by seeds derived from it.

    Examples
    --------
    >>> draw_seeds(7, 1)
    (7,)
    >>> draw_seeds(7, 3) == (7, *draw_seeds(7, 3)[1:]), draw_seeds(7, 2) == draw_seeds(7, 3)[:2]
    (True, True)
    >>> draw_seeds([3, 5], 1)
    (3, 5)
    """
    if not isinstance(seed, int | np.integer):
        return tuple(int(each) for each in seed)
    later = (np.random.SeedSequence([seed, draw]).generate_state(1)[0] for draw in range(1, draws))
    return (seed, *(int(one) for one in later))


@checked
def by_seed(sweep: xr.Dataset) -> xr.Dataset:
    """A sweep with its draws of the noise along the separate dim ``seed``.

    Parameters
    ----------
    sweep : Dataset of :func:`analyses.layers.sweep.sweep` with several seeds or draws

    Returns
    -------
    Dataset
        Every variable over ``clip`` is over (seed, clip); the coordinate ``seed`` holds the seeds. The clips have their
        names without the draw. A sweep with one seed gets a ``seed`` of one.

    Raises
    ------
    InvalidInputError
        For a dataset without clips, or whose draws do not have the same clips.

    Examples
    --------
    >>> swept = xr.Dataset({"accuracy": ("clip", [50.0, 60.0])}, {"clip": ["goat, draw 0", "goat, draw 1"]})
    >>> swept = swept.assign_coords(draw=("clip", [0, 1])).assign_attrs(draw_seeds=[3, 5])
    >>> found = by_seed(swept)
    >>> found["accuracy"].sel(clip="goat", seed=5).item(), float(found["accuracy"].std("seed").item())
    (60.0, 5.0)
    """
    if "clip" not in sweep.dims:
        raise InvalidInputError("the sweep has no clips. Pass what sweep returned.")
    if "draw" not in sweep.coords:
        return sweep.expand_dims(seed=[int(sweep.attrs.get("seed", 0))])
    draws = np.unique(sweep["draw"].values).tolist()
    seeds = list(sweep.attrs.get("draw_seeds", draws))
    parts = []
    for draw in draws:
        part = sweep.isel(clip=np.flatnonzero(sweep["draw"].values == draw)).drop_vars("draw")
        names = [str(name).removesuffix(f", draw {draw}") for name in part["clip"].values]
        parts.append(part.assign_coords(clip=names))
    if any(part["clip"].values.tolist() != parts[0]["clip"].values.tolist() for part in parts):
        raise InvalidInputError(
            "the draws of this sweep do not have the same clips, so they cannot become a dimension."
        )
    over = [str(name) for name, each in sweep.data_vars.items() if "clip" in each.dims]
    apart = xr.concat([part[over] for part in parts], xr.Variable("seed", [seeds[int(draw)] for draw in draws]))
    rest = sweep.drop_vars(over).drop_dims("clip")
    return apart.assign({name: rest[name] for name in rest.data_vars}).assign_attrs(sweep.attrs)


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
    """Raise for several branches, and for frames that are left out."""
    if len(tuple(selection.branches)) != 1:
        raise InvalidInputError(
            f"a sweep looks at one branch; got {', '.join(selection.branches)}.",
            remedy=Wording("Select {branches}, and sweep again for the other.", branches=("cond",)),
        )
    if selection.frames is not None:
        raise InvalidInputError(
            "a sweep needs every frame: its points are followed through all of them. Leave out frames."
        )
