"""Pictures of an evaluation show the means and intervals over clips, and say over how many."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from analyses.plots.evaluation import plot_accuracy_per_threshold, plot_clip_scores, plot_error_over_time
from analyses.statistics import bootstrap_mean
from store.errors import InvalidInputError

NAMES = ("ours", "<flow>")


def values(dim, coordinate, clips=6, names=NAMES, **attrs):
    data = np.random.default_rng(len(dim)).uniform(1, 99, (len(names), clips, len(coordinate)))
    coords = {"tracker": list(names), "clip": [f"clip {n}" for n in range(clips)], dim: list(coordinate)}
    attrs = {"long_name": "error", "units": "px"} | attrs
    return xr.DataArray(data, coords, ("tracker", "clip", dim), "error", attrs)


def curves(figure):
    return [trace for trace in figure.data if isinstance(trace, go.Scatter) and trace.name]


def bands(figure):
    return [trace for trace in figure.data if trace.fill == "tonexty"]


def note(figure):
    return figure.layout.title.text.split(">")[-2].split("<")[0]


def test_error_over_time_is_the_mean_over_clips_in_its_band():
    errors = values("lag", range(1, 8))
    figure = plot_error_over_time(errors)
    assert [trace.name for trace in curves(figure)] == ["ours", "&lt;flow&gt;"]
    for index, (curve, band) in enumerate(zip(curves(figure), bands(figure), strict=True)):
        lower, upper = bootstrap_mean(errors[index])
        np.testing.assert_allclose(curve.y, errors.values[index].mean(0))
        np.testing.assert_allclose(band.y, lower.values)
        np.testing.assert_allclose(curve.customdata, np.stack([lower.values, upper.values], -1))
        assert list(curve.x) == [1, 2, 3, 4, 5, 6, 7]
    assert figure.layout.yaxis.title.text == "error [px]"
    assert note(figure) == "bands: 95 % bootstrap interval over 6 clips"


def test_lags_that_few_clips_reach_have_their_own_interval_or_none():
    errors = values("lag", range(1, 6))
    errors[:, 3:, 3] = np.nan  # three clips reach lag 4
    errors[:, 1:, 4] = np.nan  # one reaches lag 5
    figure = plot_error_over_time(errors)
    curve, band = curves(figure)[0], bands(figure)[0]
    lower, _ = bootstrap_mean(errors[0, :3, 3:4])
    np.testing.assert_allclose(band.y[3], lower.item())
    assert list(band.x) == [1, 2, 3, 4]
    assert np.isnan(curve.customdata[4]).all()
    assert curve.y[4] == pytest.approx(errors.values[0, 0, 4])
    assert note(figure) == "bands: 95 % bootstrap interval over 1 to 6 clips"


def test_thresholds_have_bars_side_by_side():
    within = values("threshold", (1.0, 2.0, 4.0), units="%", long_name="points within the threshold")
    figure = plot_accuracy_per_threshold(within)
    first, second = curves(figure)
    for index, curve in enumerate((first, second)):
        lower, upper = bootstrap_mean(within[index])
        np.testing.assert_allclose(curve.y, within.values[index].mean(0))
        np.testing.assert_allclose(curve.y + curve.error_y.array, upper.values)
        np.testing.assert_allclose(curve.y - curve.error_y.arrayminus, lower.values)
        np.testing.assert_allclose(curve.x, [1, 2, 4], rtol=0.05)
    assert (first.x < second.x).all()
    assert list(figure.layout.xaxis.ticktext) == ["1", "2", "4"]
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.yaxis.title.text == "points within the threshold [%]"


def test_every_clip_is_a_dot_and_its_dots_are_joined():
    scores = values("threshold", [8])[..., 0].drop_vars("threshold")
    scores[1, 2] = np.nan
    figure = plot_clip_scores(scores)
    joined, *rest = curves(figure)
    np.testing.assert_array_equal(np.reshape(joined.y, (6, 3))[:, :2], scores.values.T)
    assert np.isnan(np.reshape(joined.y, (6, 3))[:, 2]).all()
    for index in range(2):
        dots, mean = rest[2 * index : 2 * index + 2]
        np.testing.assert_array_equal(dots.y, scores.values[index])
        assert dots.text[3] == "clip 3"
        lower, upper = bootstrap_mean(scores[index])
        np.testing.assert_allclose(mean.y[0], np.nanmean(scores.values[index]))
        np.testing.assert_allclose(mean.customdata, [[lower.item(), upper.item()]])
    assert list(figure.layout.xaxis.ticktext) == ["ours", "&lt;flow&gt;"]
    assert note(figure) == "lines: the same clip; black: mean and its 95 % bootstrap interval over 5 to 6 clips"


def test_what_was_chosen_is_said_and_long_names_are_wrapped():
    within = values("threshold", (1.0, 8.0), names=["<the> published procedure", ""])
    within["threshold"].attrs["units"] = "px"
    figure = plot_clip_scores(within.sel(threshold=8).assign_coords(split="<test>"))
    assert note(figure).startswith("threshold 8 px; split &lt;test&gt;; lines: the same clip; black: ")
    assert list(figure.layout.xaxis.ticktext) == ["&lt;the&gt;<br>published<br>procedure", " "]
    assert plot_error_over_time(values("lag", (1, 2))).layout.xaxis.dtick == 1


def test_windows_of_a_clip_count_once():
    errors = values("lag", (1, 2), clips=4).assign_coords(source=("clip", ["a", "a", "b", "c"]))
    figure = plot_error_over_time(errors)
    first = errors.values[0]
    np.testing.assert_allclose(curves(figure)[0].y, (first[:2].mean(0) + first[2] + first[3]) / 3)
    assert note(figure) == "bands: 95 % bootstrap interval over 3 clips"


@pytest.mark.parametrize("plot", [plot_error_over_time, plot_accuracy_per_threshold, plot_clip_scores])
def test_one_clip_and_no_value_are_said(plot):
    dim = {plot_error_over_time: "lag", plot_accuracy_per_threshold: "threshold"}.get(plot)
    given = values(dim or "lag", (1, 2))
    given = given if dim else given[..., 0].drop_vars("lag")
    assert note(plot(given[:, :1])) == "one clip: no interval over clips"
    assert note(plot(given * np.nan)) == "no clip has a value"
    figure = plot(given, title="Mine")
    assert figure.layout.title.text.startswith("Mine<br>")
    json.loads(figure.to_json())
    assert plot(given) == plot(given.transpose(*reversed(given.dims)))


@pytest.mark.parametrize("plot", [plot_error_over_time, plot_accuracy_per_threshold, plot_clip_scores])
def test_other_arrays_are_refused(plot):
    dim = {plot_error_over_time: "lag", plot_accuracy_per_threshold: "threshold"}.get(plot)
    given = values(dim or "lag", (1, 2), names=[f"tracker {n}" for n in range(7)])
    given = given if dim else given[..., 0].drop_vars("lag")
    with pytest.raises(InvalidInputError, match="7 trackers are too many to tell apart"):
        plot(given)
    with pytest.raises(InvalidInputError, match="clip missing"):
        plot(given.isel(clip=0, drop=True))
    with pytest.raises(InvalidInputError, match=r"must be a DataArray"):
        plot(given.values)
    with pytest.raises(InvalidInputError, match="is empty"):
        plot(given[:0])
