"""Heads chosen by a test that holds for all of them at once, with intervals."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from analyses import select_heads, summarise_sweep
from store.errors import InvalidInputError

BEST = {(4, 1): 85.0, (5, 0): 75.0}


def swept(clips: int = 8, best: dict[tuple[int, int], float] = BEST, noise: float = 4.0) -> xr.Dataset:
    layers, heads, over = [3, 4, 5], [0, 1], ("clip", "step", "layer", "head")
    mean = np.array([[best.get((layer, head), 28.0) for head in heads] for layer in layers])
    single = mean + noise * np.random.default_rng(0).normal(size=(clips, 2, 3, 2))
    names = [f"clip {n}" for n in range(clips)]
    data = {
        "head_accuracy": (over, single, {"units": "%"}),
        "head_moving_accuracy": (over, single - 10),
        "accuracy": (over[:3], single.max(-1), {"units": "%"}),
        "static_accuracy": ("clip", np.full(clips, 30.0)),
        "blind_accuracy": ("clip", np.full(clips, 20.0)),
    }
    coords = {"clip": names, "source": ("clip", names), "step": [0, 49], "layer": layers, "head": heads}
    return xr.Dataset(data, coords, {"backbone": "mini"})


def test_the_heads_that_beat_the_baselines_are_chosen_with_their_intervals() -> None:
    found = select_heads(swept())
    assert found.heads == ((4, 1), (5, 0))
    assert (found.of_layer(5), found.of_layer(3), found.step, found.sources) == ((0,), (), 49, 8)
    rows = found.table()
    assert [(row["layer"], row["head"]) for row in rows[:2]] == [(4, 1), (5, 0)]
    assert len(rows) == 6
    for row in rows:
        expected = float(swept()["head_accuracy"].sel(step=49, layer=row["layer"], head=row["head"]).mean("clip"))
        assert row["accuracy"] == pytest.approx(expected)
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
        assert row["lead"] == pytest.approx(row["accuracy"] - 30)
        assert row["lead_low"] < row["accuracy_low"] - 30  # that for all heads at once reaches farther down
    assert "carrier" in repr(found)
    assert found._repr_html_().count("<tr>") >= 7


def test_a_count_chooses_heads_that_do_not_pass_and_says_so() -> None:
    found = select_heads(swept(), 3, accuracy="moving", by="mean")
    assert (len(found), found.step) == (3, None)
    assert "chosen, not above the baselines" in repr(found)


def test_one_clip_has_no_interval_and_no_carrier() -> None:
    found = select_heads(swept(clips=1))
    assert len(found) == 0
    assert np.isnan(found.table()[0]["lead_low"])


def test_what_holds_no_heads_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^the sweep holds no single heads\. Sweep with per_head=True\.$"):
        select_heads(swept().drop_vars(["head_accuracy", "head_moving_accuracy"]))
    with pytest.raises(InvalidInputError, match=r"^count must lie between 1 and the 6 heads of the sweep; got 7\.$"):
        select_heads(swept(), 7)
    blank = swept()
    for name in ("accuracy", "head_accuracy", "head_moving_accuracy"):
        blank[name] = blank[name] * np.nan
    with pytest.raises(InvalidInputError, match="no clip"):
        select_heads(blank)


def test_a_sweep_is_summarised_with_its_best_cells_and_its_verdict() -> None:
    one = swept()
    for name in ("confidence", "attention_score"):
        one[name] = (("clip", "step", "layer", "target"), one["accuracy"].values[..., None] / 100)
    one["moving_accuracy"] = one["accuracy"] - 10
    said = summarise_sweep(one.assign_coords(target=["cross"]))
    assert repr(said).startswith("Sweep of mini: 8 clips, 3 layers, 2 steps\n  accuracy  ")
    assert said.selection.layers == (4, 5)
    assert "LayerSelection: layers 4 and 5" in repr(said)
    assert "<table>" in said._repr_html_()
    without = summarise_sweep(one.assign_coords(target=["cross"]).drop_vars(["accuracy"]))
    assert without.selection is None
    with pytest.raises(InvalidInputError, match="the sweep needs clips"):
        summarise_sweep(xr.Dataset())
