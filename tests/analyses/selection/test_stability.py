"""How far a choice of layers depends on what nobody has to choose."""

from functools import cache

import numpy as np
import pytest
import xarray as xr

from analyses.selection.select import select_layers
from analyses.selection.stability import at_thresholds, stability, stability_text
from store.errors import InvalidInputError


def planted(draws: int = 2) -> xr.Dataset:
    """Layer 5 is best in any setting; layer 2 is second within a half cell, layer 3 within two."""
    rng = np.random.default_rng(0)
    clips, steps, thresholds = 6, 5, [0.5, 2.0]
    base = np.array([[60.0, 40, 20, 90], [40.0, 60, 20, 90]])  # (threshold, layer)
    dims = ("clip", "step", "layer")
    within = base.T + rng.normal(0, 0.5, (clips * draws, steps, 4, 2))
    cross = np.array([0.4, 0.4, 0.1, 0.9]) + rng.normal(0, 0.001, (clips * draws, steps, 4))
    still = np.full((clips * draws, 2), 30.0)
    data = {
        "accuracy": (dims, within[..., 0]),
        "moving_accuracy": (dims, within[..., 0]),
        "accuracy_within": ((*dims, "threshold"), within),
        "moving_accuracy_within": ((*dims, "threshold"), within),
        "static_accuracy": ("clip", still[:, 0]),
        "static_accuracy_within": (("clip", "threshold"), still),
        "blind_accuracy": ("clip", still[:, 0]),
        "blind_accuracy_within": (("clip", "threshold"), still),
        "confidence": ((*dims, "target"), cross[..., None]),
        "attention_score": ((*dims, "target"), cross[..., None]),
    }
    coords = {
        "source": ("clip", [f"clip {n}" for n in range(clips) for _ in range(draws)]),
        "draw": ("clip", list(range(draws)) * clips),
        "step": [0, 10, 20, 30, 49],
        "layer": [2, 3, 4, 5],
        "threshold": thresholds,
        "target": ["cross"],
    }
    return xr.Dataset(data, coords, {"threshold_cells": 0.5})


@cache
def stability_of_two() -> xr.Dataset:
    """How stable the two best layers of the planted sweep are; made once, as it is a selection for every setting."""
    return stability(planted(), 2)


def test_every_setting_is_a_selection_of_its_own() -> None:
    found = stability_of_two()
    # 2 thresholds, 4 grids of which one is a single step and has no averaging, 2 draws
    assert found.sizes["setting"] == 2 * (3 * 2 + 1) * 2
    assert found["first"].sel(layer=5) == 1
    assert found["top"].sel(layer=2) == pytest.approx(0.5)
    assert found["top"].sel(layer=3) == pytest.approx(0.5)
    assert found["carries"].values.tolist() == [1, 1, 0, 1]
    for place in range(found.sizes["setting"]):
        setting = found.isel(setting=place)
        order = [int(layer) for layer in found["layer"].values[np.argsort(setting["rank"].values, kind="stable")]]
        second = 2 if setting["threshold_cells"] == 0.5 else 3
        assert order[:2] == [5, second]


def test_a_setting_is_the_sweep_at_its_threshold_grid_and_draw() -> None:
    sweep = planted()
    found = stability(sweep, 2, criterion="accuracy", accuracy="moving")
    (wide,) = [part for threshold, part in at_thresholds(sweep) if threshold == 2.0]
    part = wide.isel(step=[2, 3, 4], clip=np.flatnonzero(sweep["draw"].values == 1))
    alone = select_layers(part, 2, by="mean", criterion="accuracy", accuracy="moving", samples=1)
    wanted = {"threshold_cells": 2.0, "grid": "later half", "by": "mean", "draw": 1}
    where = np.all([found[name].values == value for name, value in wanted.items()], axis=0)
    assert where.sum() == 1
    ranks = found["rank"].values[where][0]
    assert [int(layer) for layer in found["layer"].values[np.argsort(ranks)]] == list(alone.ranked)


def test_several_sweeps_are_settings_too_and_must_have_the_same_layers() -> None:
    sweep = planted(draws=1)
    found = stability([sweep, sweep], 1)
    assert found["sweep"].values.tolist() == [0] * 14 + [1] * 14
    with pytest.raises(InvalidInputError) as error:
        stability([sweep, sweep.isel(layer=[0, 1])])
    assert str(error.value) == (
        "sweep 1 has the layers [2, 3], sweep 0 has [2, 3, 4, 5]. Compare sweeps of the same layers."
    )
    with pytest.raises(InvalidInputError, match="needs at least one sweep; got none"):
        stability([])
    with pytest.raises(InvalidInputError, match="count must lie between 1 and 4; got 5"):
        stability(sweep, 5)


def test_the_text_counts_orders() -> None:
    text = stability_text(stability_of_two())
    assert text.splitlines()[0] == ("28 settings: 1 sweep, 2 thresholds, 4 step grids, 2 averagings, 2 noise draws")
    assert text.endswith("5, 2: 14 of 28\n  5, 3: 14 of 28")
