"""Classes of heads over clips: intervals, undecided heads, stability, rank correlations."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from analyses.heads.decide import decide_heads, head_log_ratio, head_rank_correlation, head_stability
from analyses.heads.sweep import sweep_heads
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from store import Clip, Selection, make_scene
from store.errors import EmptySelectionError, InvalidInputError


def masses(ratios: np.ndarray) -> xr.Dataset:
    """A sweep whose log ratios are (clip, step, layer, head) ``ratios``."""
    mass = np.stack([np.ones_like(ratios), np.exp(ratios)], -1) / 10
    clips, steps, layers, heads = ratios.shape
    return xr.Dataset(
        {
            "mass": (("clip", "step", "layer", "head", "target"), mass),
            "uniform": (("clip", "step", "layer", "target"), np.full((clips, steps, layers, 2), 0.1)),
        },
        {
            "clip": [f"clip {n}" for n in range(clips)],
            "source": ("clip", [f"clip {n}" for n in range(clips)]),
            "draw": ("clip", [0] * clips),
            "step": range(steps),
            "layer": range(layers),
            "head": range(heads),
            "target": ["own_frame", "same_place"],
        },
    )


def test_a_head_is_decided_only_where_the_interval_leaves_the_margin() -> None:
    rng = np.random.default_rng(0)
    means = np.array([1.0, -1.0, 0.0, 0.24])
    ratios = means + rng.normal(0, [0.1, 0.1, 0.1, 0.3], (12, 1, 1, 4))
    found = decide_heads(masses(ratios))
    assert found["class"].values.tolist() == [["temporal", "spatial", "undecided", "undecided"]]
    assert found["agreement"].values[0, :2].tolist() == [1.0, 1.0]
    assert (found["lower"] <= found["log_ratio"]).all()
    assert (found["log_ratio"] <= found["upper"]).all()
    wide = decide_heads(masses(ratios), margin=20)
    assert set(wide["class"].values.ravel()) == {"undecided"}


def test_one_clip_decides_nothing() -> None:
    assert set(decide_heads(masses(np.full((1, 1, 2, 2), 3.0)))["class"].values.ravel()) == {"undecided"}


def test_an_unmeasured_step_and_a_small_margin_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="step 7 was not measured"):
        decide_heads(masses(np.zeros((2, 1, 1, 1))), step=7)
    with pytest.raises(InvalidInputError, match="margin"):
        decide_heads(masses(np.zeros((2, 1, 1, 1))), margin=0.9)
    with pytest.raises(InvalidInputError, match="sweep_heads"):
        head_log_ratio(xr.Dataset())


def test_stability_tells_steps_of_another_order_apart() -> None:
    order = np.arange(6.0).reshape(1, 1, 2, 3) - 2.5
    ratios = np.concatenate([order, order, -order], 1) + np.random.default_rng(0).normal(0, 0.01, (4, 3, 2, 3))
    found = head_stability(masses(ratios))
    np.testing.assert_allclose(found["step_correlation"], [[1, 1, -1], [1, 1, -1], [-1, -1, 1]], atol=1e-9)
    assert found["count"].sum("kind").values.tolist() == [6, 6, 6]


def test_a_rank_correlation_has_an_interval_over_clips() -> None:
    rng = np.random.default_rng(1)
    ratio = masses(np.arange(8.0).reshape(1, 1, 2, 4) + rng.normal(0, 2, (9, 1, 2, 4)))
    one = head_log_ratio(ratio).isel(step=0, drop=True)
    two = one + rng.normal(0, 2, one.shape)
    value, lower, upper = head_rank_correlation(one, two)
    assert lower <= value <= upper
    assert 0 < value <= 1
    with pytest.raises(InvalidInputError, match="at least two clips"):
        head_rank_correlation(one.isel(clip=[0]), two)


def test_a_sweep_of_heads_has_windows_draws_and_motion() -> None:
    mini = load_backbone(new_pipeline(MiniConfig(layers=2, images=3)))
    clips = {"long": make_scene(0, 6), "short": make_scene(1, 3)}
    found = sweep_heads(mini, clips, Selection(steps=[0, -1], layers=[1]), draws=2, steps=5, progress=False)
    assert found["source"].values.tolist() == ["long"] * 4 + ["short"] * 2
    assert found["clip"].values[1] == "long, window 0, draw 1"
    assert found["mass"].notnull().sel(target=["own_frame", "same_place", "text"]).all()
    video = found["mass"].sel(target=["own_frame", "text"]).sum("target")
    assert ((video > 0) & (video < 1)).all()
    told: list[tuple[int, int, str]] = []
    sweep_heads(mini, clips, Selection(steps=[-1], layers=[0]), steps=5, progress=lambda *what: told.append(what))
    assert told[-1] == (3, 3, "short")
    assert decide_heads(found, step=4)["class"].sizes == {"layer": 1, "head": 4}


def test_bad_input_is_refused_before_the_model_runs() -> None:
    mini = load_backbone(new_pipeline(MiniConfig(layers=1)))
    with pytest.raises(EmptySelectionError):
        sweep_heads(mini, {}, Selection(steps=[-1], layers="all"))
    with pytest.raises(InvalidInputError, match="one branch"):
        sweep_heads(mini, {"a": make_scene(0)}, Selection(steps=[-1], layers="all", branches=("cond", "uncond")))
    still = Clip(make_scene(0, 1).images, fps=8)
    with pytest.raises(InvalidInputError, match="clip 'still' is one latent frame long"):
        sweep_heads(mini, {"a": make_scene(0), "still": still}, Selection(steps=[-1], layers="all"))
    with pytest.raises(InvalidInputError, match="draws"):
        sweep_heads(mini, {"a": make_scene(0)}, Selection(steps=[-1], layers="all"), draws=0)
