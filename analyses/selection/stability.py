"""Stability of a choice of layers over the threshold, the steps, the averaging and the noise draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analyses.selection.layer_selection import Criterion, Pairs
from analyses.selection.select import check_sweep, in_top, select_layers
from store.arguments import checked
from store.checks import integer
from store.errors import InvalidInputError
from store.text import counted

_WITHIN = ("accuracy", "moving_accuracy", "static_accuracy", "blind_accuracy", "moving_pairs")


@checked
def stability(
    sweeps: xr.Dataset | Sequence[xr.Dataset],
    count: int = 3,
    *,
    criterion: Criterion = "harmonic",
    accuracy: Pairs = "all",
) -> xr.Dataset:
    """Count how often each layer is first, in the top ``count`` and a carrier, over settings that are arbitrary
    choices.

    A setting is one threshold of the sweep (see ``threshold_cells`` of :func:`analyses.layers.sweep.sweep`), one grid
    of its steps (all, every second, the later half, the last alone), the ranking at the last step or by the mean over
    the grid, and one draw of the noise. Combinations of steps and averaging that are equivalent count once.

    Parameters
    ----------
    sweeps : a sweep, or several of the same layers
    count : number of top layers in each setting
    criterion, accuracy : as in :func:`analyses.selection.select.select_layers`

    Returns
    -------
    Dataset over ``setting`` and ``layer``
        ``rank`` and ``carrier`` (setting, layer); ``first``, ``top`` and ``carries`` (layer), fractions of the
        settings; tied layers share the places they compete for. Coordinates of ``setting``: ``sweep``,
        ``threshold_cells``, ``grid``, ``by``, ``draw``.

    Raises
    ------
    InvalidInputError
        As :func:`analyses.selection.select.select_layers`, and for sweeps of different layers.

    Examples
    --------
    >>> score = np.linspace(0.1, 0.9, 4) + 0.01 * np.random.default_rng(0).random((5, 2, 4))
    >>> cross = (("clip", "step", "layer", "target"), score[..., None])
    >>> sweep = xr.Dataset(
    ...     {"accuracy": (("clip", "step", "layer"), score), "confidence": cross, "attention_score": cross},
    ...     {"layer": [2, 3, 5, 8], "step": [0, 49], "target": ["cross"]},
    ... )
    >>> stability(sweep, 2)["first"].values.tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
    listed = [sweeps] if isinstance(sweeps, xr.Dataset) else list(sweeps)
    if not listed:
        raise InvalidInputError("stability needs at least one sweep; got none.")
    for sweep in listed:
        check_sweep(sweep, accuracy)
    layers = listed[0]["layer"].values.tolist()
    for number, sweep in enumerate(listed):
        if sweep["layer"].values.tolist() != layers:
            raise InvalidInputError(
                f"sweep {number} has the layers {sweep['layer'].values.tolist()}, sweep 0 has {layers}. Compare sweeps "
                f"of the same layers."
            )
    integer(count, "count", min_value=1, max_value=len(layers))
    names, chosen = [], []
    for number, sweep in enumerate(listed):
        for setting, part in _settings(sweep):
            how: Any = {"by": setting["by"], "criterion": criterion, "accuracy": accuracy, "samples": 1}
            names.append({"sweep": number, **setting})
            chosen.append(select_layers(part, count, **how))
    means = np.array([selection.scores["mean"].values for selection in chosen])
    coords = {name: ("setting", [each[name] for each in names]) for name in names[0]}
    data = {
        "rank": (("setting", "layer"), np.array([_ranks(row) for row in means]), {"long_name": "rank, 1 is best"}),
        "carrier": (("setting", "layer"), np.array([selection.scores["carrier"].values for selection in chosen])),
        "first": ("layer", _places(means, 1), {"long_name": "share of settings in which the layer is first"}),
        "top": ("layer", _places(means, count), {"long_name": f"share of settings with the layer in the top {count}"}),
    }
    found = xr.Dataset(data, {"layer": layers, **coords}, {"count": count, "criterion": criterion})
    found["carries"] = found["carrier"].mean("setting")
    found["carries"].attrs["long_name"] = "share of settings in which the layer beats 'nothing moves'"
    return found


def stability_text(found: xr.Dataset) -> str:
    """The fractions of each layer, and the most frequent orders of the first layers, as text.

    Parameters
    ----------
    found : Dataset of :func:`stability`
    """
    count, settings = found.attrs["count"], found.sizes["setting"]
    varied = ", ".join(counted(len(np.unique(found[name])), noun) for name, noun in _VARIED.items())
    lines = [f"{counted(settings, 'setting')}: {varied}", f"layer  first   top {count}  carrier, % of the settings"]
    order = np.lexsort((-found["top"].values, -found["first"].values))
    for place in order:
        shares = [f"{100 * float(found[name][place]):5.0f}" for name in ("first", "top", "carries")]
        lines.append(f"{int(found['layer'][place]):5d}  {'  '.join(shares)}")
    lines += ["", f"the first {count} layers, in order"]
    lists = Counter(_first(found, place, count) for place in range(settings))
    return "\n".join([*lines, *(f"  {names}: {times} of {settings}" for names, times in lists.most_common(8))])


_VARIED = {
    "sweep": "sweep",
    "threshold_cells": "threshold",
    "grid": "step grid",
    "by": "averaging",
    "draw": "noise draw",
}


def _first(found: xr.Dataset, setting: int, count: int) -> str:
    ranks = found["rank"].values[setting]
    order = np.argsort(ranks, kind="stable")[:count]
    layers = found["layer"].values
    return ", ".join(f"{layers[at]}{'=' if (ranks == ranks[at]).sum() > 1 else ''}" for at in order)


def _settings(sweep: xr.Dataset) -> Iterator[tuple[dict[str, Any], xr.Dataset]]:
    """Each setting of a sweep, with the part of the sweep that it uses."""
    draws = [None] if "draw" not in sweep.coords else np.unique(sweep["draw"]).tolist()
    for threshold, within in at_thresholds(sweep):
        for grid, steps in _grids(sweep.sizes["step"]).items():
            for draw in draws:
                part = within.isel(step=steps)
                if draw is not None:
                    part = part.isel(clip=np.flatnonzero(sweep["draw"].values == draw))
                for by in ("last", "mean") if len(steps) > 1 else ("last",):
                    yield {"threshold_cells": threshold, "grid": grid, "by": by, "draw": draw or 0}, part


def at_thresholds(sweep: xr.Dataset) -> Iterator[tuple[float, xr.Dataset]]:
    """The sweep at each of its thresholds; only the sweep itself if it has one threshold."""
    if "threshold" not in sweep.dims:
        yield float(sweep.attrs.get("threshold_cells", np.nan)), sweep
        return
    names = [name for name in _WITHIN if f"{name}_within" in sweep]
    rest = sweep.drop_vars([f"{name}_within" for name in names])
    for place, threshold in enumerate(sweep["threshold"].values.tolist()):
        values = {name: sweep[f"{name}_within"].isel(threshold=place, drop=True) for name in names}
        yield threshold, rest.drop_vars("threshold").assign(values).assign_attrs(threshold_cells=threshold)


def _grids(steps: int) -> dict[str, list[int]]:
    """Grids of positions of steps, each ending with the last step; equal grids appear once."""
    every = list(range(steps))
    second, late = every[::-1][::2][::-1], every[steps // 2 :]
    grids = {"all": every, "every second": second, "later half": late, "last": every[-1:]}
    found: dict[str, list[int]] = {}
    for name, places in grids.items():
        if places not in found.values():
            found[name] = places
    return found


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 for the largest value; ties share a rank, NaN is last."""
    values = np.where(np.isnan(values), -np.inf, values)
    return 1 + (values[None, :] > values[:, None]).sum(1)


def _places(means: np.ndarray, count: int) -> np.ndarray:
    """The fraction of settings with each layer in the top ``count``; ties share the remaining places."""
    return np.asarray(in_top(np.where(np.isnan(means), -np.inf, means), count).mean(0))
