"""The section on heads: the map of classes, their stability, and the attention of a head of each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from report_helpers import Page, sweep

from analyses.heads.sweep import sweep_heads
from analyses.selection.select import select_layers
from ditprobe.report.heads import _points, _surest, heads_part, make_head_examples
from ditprobe.report.report import render_report, write_report
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from store import Clip, make_scene
from store.errors import InvalidInputError
from store.selection import Selection


@pytest.fixture(scope="module")
def mini() -> Any:
    return load_backbone(new_pipeline(MiniConfig(layers=2)))


@pytest.fixture(scope="module")
def masses(mini: Any) -> xr.Dataset:
    scenes = {str(seed): make_scene(seed) for seed in range(3)}
    return sweep_heads(mini, scenes, Selection([0, -1], "all"), draws=2, progress=False)


def decided(classes: list[list[str]], ratios: list[list[float]]) -> xr.Dataset:
    over = ("layer", "head")
    values = {name: (over, np.asarray(ratios, float) + shift) for name, shift in _BOUNDS.items()}
    return xr.Dataset({**values, "class": (over, classes)}, {"layer": [0, 4], "head": [0, 1]}, {"step": 49})


_BOUNDS = {"log_ratio": 0.0, "lower": -0.1, "upper": 0.1}


def test_the_surest_head_of_each_class_is_shown_and_extremes_where_none_is_decided() -> None:
    found = decided([["temporal", "spatial"], ["temporal", "undecided"]], [[1.0, -2.0], [2.0, 9.0]])
    assert _surest(found, "temporal") == ("temporal", 4, 0)
    assert _surest(found, "spatial") == ("spatial", 0, 1)
    open_ones = decided([["undecided"] * 2] * 2, [[0.1, -0.2], [0.3, np.nan]])
    assert _surest(open_ones, "temporal") == ("undecided", 4, 0)
    assert _surest(open_ones, "spatial") == ("undecided", 0, 1)


def test_points_that_move_farthest_are_looked_at_or_a_grid() -> None:
    scene = make_scene(3)
    moved = np.linalg.norm(scene.tracks[-1] - scene.tracks[0], axis=-1)
    first = _points(scene, 1)[0]
    assert np.array_equal(first, scene.tracks[0][moved.argmax()])
    assert _points(Clip(scene.images, 8.0), 3).shape == (3, 2)


def test_page_has_map_stability_and_attention_and_is_the_same_twice(mini: Any, masses: xr.Dataset) -> None:
    found = sweep()
    examples = make_head_examples(mini, make_scene(0), masses, points=1)
    options: dict[str, Any] = {"head_masses": masses, "head_examples": examples, "title": "Report"}
    text = render_report(found, select_layers(found, 2), **options)
    page = Page(text)
    assert {"classes", "table-head-classes"} <= set(page.ids)
    assert "8 heads at step 49, 3 clips:" in text
    assert "The order of the heads at two steps has a rank correlation of at least" in text
    assert "The order of the heads at two draws of the noise has a rank correlation of at least" in text
    assert "Spatial and temporal heads</a>" in text
    for example in examples:
        assert f"head {example.head} of layer {example.layer} at step 49" in text
    assert render_report(found, select_layers(found, 2), **options) == text
    without = render_report(found, select_layers(found, 2), title="Report")
    assert "classes" not in Page(without).ids


def test_what_is_no_measurement_of_heads_is_refused(mini: Any, masses: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="pass what sweep_heads returns"):
        write_report(tmp_path / "a.html", sweep(), None, head_masses=sweep())
    assert not (tmp_path / "a.html").exists()
    with pytest.raises(InvalidInputError, match="layers and heads that"):
        make_head_examples(mini, make_scene(0), masses.assign_coords(layer=[3, 4]))
    assert heads_part(None, (), iter(())) is None
