"""Differences: subtracted clip by clip, rejected where they mean nothing, and drawn as what they are."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr
from plotly.colors import sample_colorscale

from analyses.layers.differences import difference
from analyses.plots.evaluation import plot_accuracy_per_threshold, plot_clip_scores, plot_error_over_time
from analyses.plots.layers import plot_best_layers, plot_heads, plot_layer_step
from store.errors import InvalidInputError

DIMS = ("clip", "step", "layer")
RED, WHITE, BLUE = "rgb(103, 0, 31)", "rgb(247, 247, 247)", "rgb(5, 48, 97)"


def measure(seed: int, name: str = "accuracy", units: str = "%") -> xr.DataArray:
    coords = {"clip": ["a", "b", "c"], "step": [0, 49], "layer": [0, 1, 4], "timestep": ("step", [999.0, 19.0])}
    top = 100 if units == "%" else 1
    values = np.random.default_rng(seed).uniform(0, top, (3, 2, 3))
    attrs = {"units": units, "long_name": f"matching {name} of query-key matching"}
    return xr.DataArray(values, coords, DIMS, name, attrs)


A, B = measure(1), measure(2)


def heading(figure: go.Figure) -> str:
    return figure.layout.title.text.partition("<br>")[0]


def written(figure: go.Figure) -> go.Scatter:
    """The numbers in the cells."""
    return next(trace for trace in figure.data if isinstance(trace, go.Scatter) and trace.mode == "text")


def heat_map(figure: go.Figure) -> go.Heatmap:
    return next(trace for trace in figure.data if isinstance(trace, go.Heatmap))


@pytest.mark.parametrize("values", [A - B, difference(A, B), (A - B).mean("clip")])
def test_a_plot_of_a_difference_of_accuracies_says_so_and_parts_its_colours_at_zero(values: xr.DataArray) -> None:
    figure = plot_layer_step(values)
    cells = heat_map(figure)
    np.testing.assert_allclose(cells.z, (A - B).mean("clip").values.T, rtol=1e-5)
    assert heading(figure) == "Difference of accuracy, percentage points"
    assert cells.colorbar.title.text == "percentage points"
    assert "difference of accuracy [percentage points]" in cells.hovertemplate
    assert cells.zmin == -cells.zmax
    assert cells.zmax == pytest.approx(np.abs(cells.z).max())
    colours = [colour for _, colour in cells.colorscale]
    assert (colours[0], colours[5], colours[-1]) == tuple(name.replace(" ", "") for name in (RED, WHITE, BLUE))
    assert "white: 0" in figure.layout.title.text
    texts = written(figure).text
    assert sorted(text[0] for text in texts if float(text)) == sorted(
        "-" if value < 0 else "+" for value in np.ravel(cells.z)
    )


def test_an_accuracy_stays_an_accuracy() -> None:
    figure = plot_layer_step(A)
    assert heading(figure) == "Accuracy"
    assert (heat_map(figure).zmin, heat_map(figure).zmax) == (0, 100)


def test_a_difference_that_is_nowhere_negative_is_told_by_the_function_that_made_it() -> None:
    figure = plot_layer_step(difference(A, A - 10 * (A > 10)))
    assert heading(figure) == "Difference of accuracy, percentage points"
    assert heat_map(figure).zmin == -10


def test_what_may_be_negative_is_no_difference() -> None:
    figure = plot_layer_step((A - B).rename("displacement").assign_attrs(units="px", long_name="displacement"))
    assert heading(figure) == "Displacement"
    assert heat_map(figure).zmin == -heat_map(figure).zmax


def test_differences_without_a_unit_have_a_title_without_one() -> None:
    figure = plot_heads((measure(1, "confidence", "1") - measure(2, "confidence", "1"))[:, 0].expand_dims(head=[0]))
    assert heading(figure) == "Difference of confidence"
    assert heat_map(figure).colorbar.title.text == "difference of confidence"


def test_curves_of_a_difference_are_paired_by_clip_and_have_a_line_at_zero() -> None:
    figure = plot_best_layers(difference(A, B), [4])
    assert heading(figure) == "Difference of accuracy of the best layers"
    assert figure.layout.yaxis.title.text == "difference of accuracy [percentage points]"
    assert [line.y0 for line in figure.layout.shapes] == [0]
    (curve,) = (trace for trace in figure.data if trace.name == "layer 4")
    np.testing.assert_allclose(curve.y, (A - B).sel(layer=4).mean("clip"))
    with pytest.raises(InvalidInputError, match=r"^a difference has no baseline: 'nothing moves' scores the same"):
        plot_best_layers(A - B, [4], baseline=A[:, 0, 0])


@pytest.mark.parametrize(
    ("plot", "dim", "what"),
    [
        (plot_accuracy_per_threshold, "threshold", "accuracy per threshold"),
        (plot_error_over_time, "lag", "error over the time since the query"),
        (plot_clip_scores, None, "every clip"),
    ],
)
def test_pictures_of_trackers_tell_a_difference_and_show_what_is_below_zero(plot, dim, what) -> None:
    scores = {"tracker": ["ours", "flow"], "clip": ["a", "b", "c"]}
    parts = np.random.default_rng(0).uniform(0, 1, (2, 2, 3, 2))
    dims = ("tracker", "clip", dim or "layer")
    one, two = (xr.DataArray(part, scores, dims, "within", {"units": "%"}) for part in 100 * parts)
    values = one - two if dim else (one - two)[..., 0]
    figure = plot(values)
    assert heading(figure) == f"Difference of within, percentage points: {what}"
    assert figure.layout.yaxis.title.text == "difference of within [percentage points]"
    assert figure.layout.yaxis.range is None
    assert [line.y0 for line in figure.layout.shapes] == [0]


def test_order_does_not_matter_and_what_is_not_alike_is_left_out() -> None:
    other = B.isel(layer=[2, 0, 1], clip=[1, 2, 0]).assign_coords(timestep=("step", [1000.0, 1.0]))
    found = difference(A, other.transpose("layer", "clip", "step"))
    xr.testing.assert_allclose(found.drop_attrs(), (A - B).drop_vars("timestep").drop_attrs())
    assert found.name == "accuracy"
    assert (found.attrs["units"], found.attrs["difference_of"]) == ("percentage points", "accuracy")


def test_sweeps_are_subtracted_measure_by_measure() -> None:
    def sweep(seed: int, **attrs: object) -> xr.Dataset:
        names = {"confidence": measure(seed, "confidence", "1"), "points": xr.DataArray([1, 1, 1], dims="clip")}
        relative = measure(seed, "harmonic_mean", "1").mean("clip")
        return measure(seed).to_dataset().assign(names).assign(harmonic_mean=relative).assign_attrs(attrs)

    found = difference(sweep(1), sweep(2))
    assert list(found) == ["accuracy", "confidence"]
    xr.testing.assert_allclose(found["accuracy"].drop_attrs(), (A - B).drop_attrs())
    with pytest.raises(InvalidInputError, match=r"^the sweeps differ in their threshold in cells: 0\.5 and 1\.0, so "):
        difference(sweep(1, threshold_cells=0.5), sweep(2, threshold_cells=1.0))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (A, measure(1, "confidence", "1"), "two measures cannot be subtracted: accuracy [%] and confidence."),
        (
            A,
            B.sel(layer=[0, 1]),
            "only first has layer 4. Choose what both have with .sel(layer=[...]).",
        ),
        (
            A.sel(clip=["a"]),
            B.sel(clip=["b"]),
            "only first has clip a; only second has clip b. Choose what both have with .sel(clip=[...]), or subtract "
            "means over clips: mean_over_clips(...).",
        ),
        (
            A,
            B.mean("clip"),
            "both need the same dims; got (clip, step, layer) and (step, layer). Take the same means or selections of "
            "both.",
        ),
        (A, 3, "two DataArrays or two Datasets are needed; got DataArray and int."),
    ],
)
def test_differences_that_make_no_sense_are_refused(first: xr.DataArray, second: xr.DataArray, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        difference(first, second)
    assert str(caught.value) == message


def test_a_difference_of_harmonic_means_is_refused() -> None:
    one, two = (measure(seed, "harmonic_mean", "1").mean("clip") for seed in (1, 2))
    for call in (lambda: difference(one, two), lambda: plot_layer_step(one - two)):
        with pytest.raises(InvalidInputError, match=r"^harmonic means are scaled to the layers and steps of their own"):
            call()


def test_limits_of_a_difference_lie_evenly_about_zero() -> None:
    assert heat_map(plot_layer_step(A - B, limits=(-40, 40))).zmax == 40
    with pytest.raises(InvalidInputError, match=r"^limits of a difference lie as far below 0 as above it; got \(0, 10"):
        plot_layer_step(A - B, limits=(0, 100))


@pytest.mark.parametrize("values", [A, A - B])
def test_numbers_stand_out_from_their_cells(values: xr.DataArray) -> None:
    wide = xr.DataArray(np.linspace(-50 if values is not A else 0, 50 * (1 + (values is A)), 12).reshape(3, 4))
    wide = wide.rename(dim_0="step", dim_1="layer").rename("accuracy").assign_attrs(units="%")
    figure = plot_layer_step(wide)
    cells, text = heat_map(figure), written(figure)
    places = (np.array([float(each) for each in text.text]) - cells.zmin) / (cells.zmax - cells.zmin)
    scale = "RdBu" if values is not A else "Viridis"
    for ink, colour in zip(text.textfont.color, sample_colorscale(scale, places, colortype="tuple"), strict=True):
        assert contrast(ink, colour) >= 4.4  # the texts are rounded, the cells are not


def contrast(ink: str, colour: tuple[float, float, float]) -> float:
    def luminance(parts: tuple[float, ...]) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    first, second = luminance(tuple(int(ink[i : i + 2], 16) / 255 for i in (1, 3, 5))), luminance(colour)
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)
