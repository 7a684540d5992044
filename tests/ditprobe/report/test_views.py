"""What the views of a page hold: the numbers of the sweep and of the clip, and nothing that ends their script."""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
from report_helpers import EVIL, example, sweep

from analyses.flow.attention_flow import labelled_flow
from analyses.selection.select import select_layers
from ditprobe.report.flows import default_choices, flow_part
from ditprobe.report.linked import linked_data
from ditprobe.report.page import render_figures
from ditprobe.report.views import clip_data, json_of
from store import Clip, TokenLayout
from store.errors import InvalidInputError


def unpacked(packed):
    whole = np.frombuffer(base64.b64decode(packed["bytes"]), "<i2" if packed["kind"] == "i2" else "u1")
    return whole.reshape(packed["shape"]) * packed["scale"]


def test_the_linked_view_holds_the_means_and_opens_at_the_best_layer():
    found = sweep(heads=3)
    found["accuracy"][:, 1, 2] = np.nan
    data = linked_data(found, select_layers(found, 1))
    assert (data["layers"][data["layer"]], data["steps"][data["step"]]) == (4, 49)
    assert (data["heads"], data["headSteps"], data["selected"]) == ([0, 1, 2], [0, 20, 49], [4])
    accuracy, moving = data["measures"][:2]
    assert (accuracy["heading"], accuracy["unit"], accuracy["high"], accuracy["baseline"]) == (
        "Accuracy",
        "%",
        100,
        29.5,
    )
    assert moving["baseline"] == 20.0
    expected = found["accuracy"].mean("clip").transpose("layer", "step").values.ravel()
    assert accuracy["mean"][2 * 3 + 1] is None
    np.testing.assert_allclose([math.nan if v is None else v for v in accuracy["mean"]], expected, rtol=1e-3)
    assert all(
        low <= mean <= high for low, mean, high in zip(*(moving[k] for k in ("lower", "mean", "upper")), strict=True)
    )
    heads = found["head_accuracy"].mean("clip").transpose("step", "layer", "head").values.ravel()
    np.testing.assert_allclose(accuracy["heads"], heads, rtol=1e-3)
    json_of(data)  # no NaN, which JSON does not have


def test_heads_of_many_steps_are_thinned_with_the_last_kept(monkeypatch):
    monkeypatch.setattr("ditprobe.report.linked.MOST_HEAD_VALUES", 2 * 4 * 3)
    data = linked_data(sweep(heads=3), None)
    assert data["headSteps"] == [0, 49]
    assert len(data["measures"][0]["heads"]) == 2 * 4 * 3


def test_one_clip_has_no_interval_in_the_linked_view():
    data = linked_data(sweep(count=1), None)
    assert "lower" not in data["measures"][0]


def test_a_clip_is_held_with_its_tracks_and_the_shares_of_attention():
    one = example()
    data = clip_data(one.clip, one.predicted, attention=one.attention)
    np.testing.assert_allclose(unpacked(data["predicted"]), one.predicted, atol=data["predicted"]["scale"])
    np.testing.assert_allclose(unpacked(data["truth"]), one.clip.tracks, atol=data["truth"]["scale"])
    held = data["attention"]
    assert held["points"] == [0, 1, 2, 3]
    assert held["frameOf"] == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    np.testing.assert_allclose(held["shares"], one.attention.sum(["y", "x"]).values.ravel(), rtol=1e-3)
    largest = np.reshape(held["largest"], (4, 3, 1, 1))
    assert np.abs(unpacked(held["levels"]) ** 2 * largest - one.attention.values).max() < 0.01 * largest.max()
    assert data["labels"] == [str(image) for image in range(9)]


def test_a_prediction_that_does_not_fit_is_refused():
    one = example()
    with pytest.raises(InvalidInputError, match=r"^predicted needs dims \(image, point, 2\) with 9 images"):
        clip_data(one.clip, one.predicted[1:])
    with pytest.raises(InvalidInputError, match=r"the prediction has shape \(9, 3, 2\) and the truth \(9, 4, 2\)"):
        clip_data(one.clip, one.predicted[:, 1:])
    with pytest.raises(InvalidInputError, match="not finite"):
        clip_data(one.clip, np.full_like(one.predicted, np.nan))


def test_a_page_of_a_flow_holds_every_layer_and_step_and_no_plotly():
    clip = Clip(np.zeros((9, 80, 112, 3), np.uint8), 8)
    layout = TokenLayout(3, 5, 7, 80, 112, 9)
    rng = np.random.default_rng(0)
    flows = [
        [
            labelled_flow(
                rng.normal(size=(3, 3, 5, 7, 2)), layout, details={"backbone": EVIL, "layer": n, "step": step}
            )
            for n in (2, 5)
        ]
        for step in (0, 40, 49)
    ]
    part = flow_part(clip, flows, layer=1, step=2)
    data = json.loads(part.view.data)
    assert (data["layers"], data["steps"]) == (["2", "5"], ["0", "40", "49"])
    assert (data["layer"], data["step"], len(data["flows"])) == (1, 2, 6)
    np.testing.assert_allclose(unpacked(data["flows"][3]), flows[1][1].values, atol=data["flows"][3]["scale"])
    page = render_figures(EVIL, [part], intro=EVIL)
    assert "plotly.js v" not in page
    assert "<script>alert" not in page
    assert page.count('data-view="flow"') == 1


def test_a_large_clip_is_shown_by_one_layer_unless_asked_for_more():
    assert default_choices(30, 17550, 17, 40, 50) == ([17], [40])
    assert default_choices(2, 600, 1, 3, 4) == ([0, 1], [0, 1, 2, 3])
