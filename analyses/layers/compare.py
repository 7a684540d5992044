"""Comparison of two sweeps, recordings or prompts: paired differences with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from analyses.layers.differences import check_settings, difference
from analyses.layers.sweep import sweep
from analyses.layers.sweep_recording import sweep_recording
from analyses.statistics import bootstrap_mean, by_source, mean_over_clips
from probe.backbones.backbone import Backbone
from store.arguments import checked_but
from store.errors import InvalidInputError
from store.selection import Selection

Pairing = Literal["name", "order"]
_MEASURES = ("accuracy", "moving_accuracy", "feature_accuracy", "confidence", "attention_score")


@checked_but("first", "second", "seed", "clips")
def compare(
    first: Any,
    second: Any,
    *,
    measure: str | None = None,
    names: Sequence[str] | None = None,
    pair: Pairing = "name",
    clips: Any = None,
    backbone: Backbone | None = None,
    selection: Selection | None = None,
    seed: int | Sequence[int] = (0, 1, 2, 3, 4, 5, 6, 7),
    progress: Any = None,
    **options: Any,
) -> xr.Dataset:
    """Compare two sweeps, two recordings (or lists of them), or two prompts, entry by entry.

    Parameters
    ----------
    first, second : Datasets of :func:`analyses.layers.sweep.sweep`; Recordings, paths of them, or lists; or prompts
        The difference is ``first`` minus ``second``.
    measure : a measure of a sweep, such as "accuracy", "head_accuracy", "confidence"
        By default the accuracy, and the confidence if there is none: prompts and recordings without clips have no
        truth. Where there are several targets, the cross target is compared.
    names : names of both in pictures
    pair : "name" pairs clips of the same name, "order" the first with the first; recordings and prompts pair by order
    clips : clips of recordings, as in :func:`analyses.layers.sweep_recording.sweep_recording`; the same for both
    backbone, selection : for prompts; both prompts are sampled with the same seeds
    seed : seed or seeds with which prompts are sampled
    progress, options : as in :func:`analyses.layers.sweep.sweep`, for recordings and prompts

    Returns
    -------
    Dataset over (step, layer), and head for measures of heads
        ``difference``, the mean over pairs; ``lower`` and ``upper``, its 95 % interval, which resamples whole pairs;
        ``apart``, whether the interval excludes 0. Attributes: ``measure``, ``first``, ``second``, ``pairs``.

    Raises
    ------
    InvalidInputError
        For different kinds, sweeps that do not fit one another, an unknown measure, and prompts without a backbone and
        a selection.

    Notes
    -----
    Each interval holds for one cell at a time: of 300 cells, about 15 exclude 0 by chance. A single pair gives no
    interval.

    Examples
    --------
    >>> values = np.array([[[60.0]], [[70.0]], [[80.0]]])
    >>> a = xr.Dataset({"accuracy": (("clip", "step", "layer"), values, {"units": "%"})}, {"clip": list("abc")})
    >>> a = a.assign_coords(step=[49], layer=[4])
    >>> found = compare(a, a.assign(accuracy=a["accuracy"] - [[[10.0]], [[11.0]], [[12.0]]]))
    >>> found["difference"].item(), bool(found["apart"])
    (11.0, True)
    """
    sampling = _Sampling(backbone, selection, [seed] if isinstance(seed, int) else list(seed))
    swept, pair = _swept(first, second, pair, clips, sampling, progress, options)
    ours, theirs = swept
    check_settings(ours, theirs)
    chosen = _measure(ours, theirs, measure)
    one, other = (_values(each, chosen) for each in swept)
    if pair == "order":
        other = _renamed(one, other)
    ahead = by_source(difference(one, other))
    lower, upper = bootstrap_mean(ahead)
    mean = mean_over_clips(ahead)
    found = xr.Dataset({"difference": mean, "lower": lower, "upper": upper})
    found["apart"] = (found["lower"] > 0) | (found["upper"] < 0)
    labels = list(names) if names is not None else _names(first, second)
    pairs = int(np.isfinite(ahead.values.reshape(ahead.sizes["clip"], -1)).any(1).sum())
    return found.assign_attrs(measure=chosen, first=labels[0], second=labels[1], pairs=pairs)


@dataclass(frozen=True)
class _Sampling:
    """Sampling of prompts; recordings and sweeps need none of it."""

    backbone: Backbone | None
    selection: Selection | None
    seeds: list[int]


def _swept(
    first: Any, second: Any, pair: Pairing, clips: Any, sampling: _Sampling, progress: Any, options: dict[str, Any]
) -> tuple[tuple[xr.Dataset, xr.Dataset], Pairing]:
    """Both as sweeps, and the way they are paired."""
    backbone, selection = sampling.backbone, sampling.selection
    kinds = [isinstance(each, xr.Dataset) for each in (first, second)]
    if all(kinds):
        if options or clips is not None or backbone is not None or selection is not None:
            raise InvalidInputError(
                "sweeps are compared as they are: leave out clips, backbone, selection and options."
            )
        return (first, second), pair
    if any(kinds):
        raise InvalidInputError("a sweep can be compared with a sweep alone; sweep_recording makes one of recordings.")
    if backbone is None and selection is None:
        found = [sweep_recording(_listed(each), clips, progress=progress, **options) for each in (first, second)]
        return (found[0], found[1]), "order"
    if backbone is None or selection is None or not (isinstance(first, str) and isinstance(second, str)):
        raise InvalidInputError(
            "two prompts need backbone and selection: compare(prompt, other, backbone=, selection=)."
        )
    made = [
        sweep(backbone, {prompt: prompt}, selection, seed=sampling.seeds, progress=progress, **options)
        for prompt in (first, second)
    ]
    return (made[0], made[1]), "order"


def _listed(recordings: Any) -> Any:
    return list(recordings) if isinstance(recordings, list | tuple) else [recordings]


def _measure(ours: xr.Dataset, theirs: xr.Dataset, measure: str | None) -> str:
    def held(name: str) -> bool:
        return all(name in each and np.isfinite(each[name].values).any() for each in (ours, theirs))

    known = [str(name) for name in ours.data_vars if str(name).removeprefix("head_") in _MEASURES and held(str(name))]
    if measure is None:
        measure = next((name for name in _MEASURES if name in known), "")
    if measure not in known:
        asked = f"both hold no {measure!r}" if measure else "the two share no measure"
        raise InvalidInputError(f"{asked}. Both hold: {', '.join(known) or 'none'}.")
    return measure


def _values(swept: xr.Dataset, measure: str) -> xr.DataArray:
    values = swept[measure]
    values = values.sel(target="cross", drop=True) if "target" in values.coords else values
    draws = "draw" in values.coords
    # draws of the noise are separate pairs, with the same seed in both
    return values.assign_coords(source=("clip", values["clip"].values)) if draws else values


def _renamed(one: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """The second sweep with the clip names of the first."""
    if one.sizes["clip"] != other.sizes["clip"]:
        raise InvalidInputError(
            f"entries are paired in order, but there are {one.sizes['clip']} and {other.sizes['clip']}. Give as many "
            "of both."
        )
    other = other.drop_vars([name for name, each in other.coords.items() if name != "clip" and each.dims == ("clip",)])
    return other.assign_coords({name: each for name, each in one.coords.items() if each.dims == ("clip",)})


def _names(first: Any, second: Any) -> list[str]:
    found = []
    for each, general in ((first, "first"), (second, "second")):
        named = each.attrs.get("backbone") if isinstance(each, xr.Dataset) else each if isinstance(each, str) else None
        found.append(str(named or general))
    return found if found[0] != found[1] else ["first", "second"]
