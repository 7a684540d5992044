"""Pictures show what the arrays hold: orientation, missing cells, intervals, what sliders and dropdowns choose."""

import json
from statistics import NormalDist

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from analyses.attention.rows import attention_of_text
from analyses.attention.text_maps import map_attention_to_text
from analyses.plots.attention import plot_attention, plot_pca
from analyses.plots.layers import plot_best_layers, plot_heads, plot_layer_step
from analyses.plots.selection import plot_selection
from analyses.plots.tracks import plot_tracks
from analyses.selection.select import select_layers
from analyses.statistics import bootstrap_mean
from store.errors import InvalidInputError, UnknownLayerError
from store.layout import TokenLayout
from store.tracks.point_tracks import PointTracks

DIMS = ("clip", "step", "layer")
IMAGES = np.random.default_rng(5).integers(0, 256, (9, 80, 112, 3), dtype=np.uint8)


def measure(clips=5, steps=(0, 20, 49), layers=(1, 2, 4, 7), seed=0, **attrs):
    values = np.random.default_rng(seed).uniform(1, 99, (clips, len(steps), len(layers)))
    coords = {
        "clip": [f"clip {i}" for i in range(clips)],
        "step": list(steps),
        "timestep": ("step", [999.0 - 20 * step for step in steps]),
        "layer": list(layers),
        "layer_name": ("layer", [f"blocks.{layer}.<attn>" for layer in layers]),
    }
    return xr.DataArray(values, coords, DIMS, "accuracy", {"long_name": "matching accuracy", "units": "%"} | attrs)


def sweep():
    cross = np.stack([measure(seed=seed).values / 100 for seed in (1, 2)], axis=-1)
    data = {
        name: ((*DIMS, "target"), cross[..., [index]]) for index, name in enumerate(("confidence", "attention_score"))
    }
    return measure().to_dataset().assign(data).assign_coords(target=["cross"])


def heat_maps(figure):
    return [trace for trace in figure.data if isinstance(trace, go.Heatmap)]


def refused(text, function, *args, error=InvalidInputError, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    assert str(caught.value) == text


# Heat maps ---------------------------------------------------------------------------------------------------------


def test_cells_are_means_over_clips_with_layers_downwards_and_steps_rightwards():
    values = measure()
    figure = plot_layer_step(values)
    (trace,) = heat_maps(figure)
    np.testing.assert_allclose(trace.z, values.values.mean(0).T, rtol=1e-6)
    assert list(trace.x) == ["step 0, timestep 999", "step 20, timestep 599", "step 49, timestep 19"]
    assert trace.y[0] == "layer 1, blocks.1.&lt;attn&gt;"
    assert (figure.layout.xaxis.range, figure.layout.yaxis.range) == ((-0.5, 2.5), (3.5, -0.5))
    assert [text.split("<")[0] for text in figure.layout.xaxis.ticktext] == ["0", "20", "49"]


def test_order_of_dims_does_not_matter():
    values = measure()
    assert plot_layer_step(values) == plot_layer_step(values.transpose("layer", "clip", "step"))


def test_scale_unit_and_normalisation_are_stated():
    figure = plot_layer_step(measure())
    (trace,) = heat_maps(figure)
    assert (trace.zmin, trace.zmax, trace.colorbar.title.text) == (0, 100, "%")
    assert "colour from 0 to 100 %" in figure.layout.title.text
    figure = plot_layer_step(measure(units="1", long_name="confidence"))
    (trace,) = heat_maps(figure)
    assert trace.zmax == pytest.approx(measure().values.mean(0).max())
    assert trace.colorbar.title.text == "confidence"
    assert "colour from 0 to the largest value" in figure.layout.title.text


def test_missing_cells_are_hatched_and_zero_is_not():
    values = measure().mean("clip", keep_attrs=True)
    values[{"step": 1, "layer": 2}] = np.nan
    values[{"step": 0, "layer": 0}] = 0
    figure = plot_layer_step(values)
    shown, grey = heat_maps(figure)
    assert np.argwhere(np.isnan(shown.z)).tolist() == np.argwhere(~np.isnan(grey.z)).tolist() == [[2, 1]]
    (hatch,) = (trace for trace in figure.data if isinstance(trace, go.Scatter) and trace.mode == "markers")
    assert (hatch.x, hatch.y, hatch.name) == ((shown.x[1],), (shown.y[2],), "not recorded")
    assert hatch.showlegend


def test_one_step_and_one_layer_keep_their_rank():
    figure = plot_layer_step(measure(clips=1, steps=(49,), layers=(3,)))
    assert heat_maps(figure)[0].z.shape == (1, 1)


def test_all_missing_is_drawn_as_missing():
    figure = plot_layer_step(measure() * np.nan)
    assert np.isnan(heat_maps(figure)[0].z).all()


def test_selected_layers_are_bold_and_ticks_stop_at_recorded_values():
    figure = plot_layer_step(measure(layers=range(42), steps=range(50)), selected=[0, 41])
    texts = figure.layout.yaxis.ticktext
    assert (texts[0], texts[-1]) == ("<b>0</b>", "<b>41</b>")
    assert set(figure.layout.xaxis.tickvals) <= set(heat_maps(figure)[0].x)
    assert len(figure.layout.xaxis.tickvals) <= 13


def test_heads_are_layers_by_heads():
    values = xr.DataArray(np.arange(8.0).reshape(2, 4), dims=("head", "layer"), name="accuracy")
    (trace,) = heat_maps(plot_heads(values))
    np.testing.assert_array_equal(trace.z, values.values.T)
    assert list(trace.x) == ["head 0", "head 1"]


def test_heat_maps_refuse_other_arrays():
    refused("values must be a DataArray; got ndarray of float64 (3, 4, 2).", plot_best_layers, np.zeros((3, 4, 2)), [0])
    refused("values must be a DataArray; got ndarray of float64 (3, 4).", plot_heads, np.zeros((3, 4)))
    refused(
        "values needs dims (layer, step); got (layer): step missing.", plot_layer_step, measure().mean(["clip", "step"])
    )
    refused(
        "values needs dims (layer, step); got (step, layer, target). Choose one first, e.g. values.sel(target=...).",
        plot_layer_step,
        measure().mean("clip").expand_dims(target=2, axis=2),
    )
    refused("limits must rise from low to high; got (1, 1).", plot_layer_step, measure(), limits=(1, 1))
    refused("values is empty: {'step': 0, 'layer': 4}.", plot_layer_step, measure().mean("clip")[:0])


# Curves and selection ----------------------------------------------------------------------------------------------


def test_intervals_draw_whole_clips():
    values = measure(clips=6).assign_coords(source=("clip", ["a", "a", "a", "b", "c", "c"]))
    lower, upper = bootstrap_mean(values, resamples=300, seed=3)
    groups = [values.values[:3].mean(0), values.values[3], values.values[4:].mean(0)]
    means = []
    for draw in np.random.default_rng(3).multinomial(3, [1 / 3] * 3, size=300):
        means.append(np.mean([group for group, n in zip(groups, draw, strict=True) for _ in range(n)], axis=0))
    level = NormalDist().cdf(-4.302653 * 1.5**0.5)  # 4.302653: Student's t at 97.5 % with 2 degrees of freedom
    np.testing.assert_allclose(lower, np.quantile(means, level, axis=0))
    np.testing.assert_allclose(upper, np.quantile(means, 1 - level, axis=0))
    assert lower.dims == ("step", "layer")


def test_intervals_leave_out_clips_without_values():
    values = measure(clips=4)
    padded = xr.concat([values, values[:2].assign_coords(clip=["x", "y"]) * np.nan], "clip")
    for ours, theirs in zip(bootstrap_mean(padded), bootstrap_mean(values), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_one_clip_has_no_interval():
    lower, upper = bootstrap_mean(measure(clips=1))
    assert np.isnan(lower).all()
    assert np.isnan(upper).all()
    assert "one clip: no interval over clips" in plot_best_layers(measure(clips=1), [2]).layout.title.text


def test_curves_follow_the_chosen_layers():
    values = measure()
    static = xr.DataArray([10.0, np.nan, 20.0, 30.0, 20.0], dims="clip")
    figure = plot_best_layers(values, [7, 1], baseline=static)
    curves = {trace.name: trace for trace in figure.data if trace.name}
    np.testing.assert_allclose(curves["layer 7"].y, values.sel(layer=7).mean("clip"))
    np.testing.assert_allclose(curves["layer 1"].y, values.sel(layer=1).mean("clip"))
    lower, upper = bootstrap_mean(values)
    np.testing.assert_allclose(curves["layer 7"].customdata[:, 0], lower.sel(layer=7))
    bands = [trace for trace in figure.data if trace.fill == "tonexty"]
    np.testing.assert_allclose(bands[0].y, lower.sel(layer=7))
    np.testing.assert_allclose(figure.data[list(figure.data).index(bands[0]) - 1].y, upper.sel(layer=7))
    (line,) = figure.layout.shapes
    assert (line.y0, line.name) == (20, "nothing moves: 20 %")
    assert sum(trace.name == "other layers" for trace in figure.data) == 2


def test_one_step_has_error_bars_instead_of_bands():
    figure = plot_best_layers(measure(steps=(49,)), [2])
    assert figure.data[-1].error_y.visible
    assert not [trace for trace in figure.data if trace.fill]


def test_curves_refuse_unknown_and_too_many_layers():
    refused(
        "layer 3 is not in this sweep. Layers: 1, 2, 4, 7.", plot_best_layers, measure(), [3], error=UnknownLayerError
    )
    refused("layers must name 1 to 6 layers; got 0.", plot_best_layers, measure(), [])


def test_selection_shows_its_table_and_accuracy_leads():
    found = sweep()
    found["static_accuracy"] = ("clip", np.full(found.sizes["clip"], 12.5))
    selection = select_layers(found, 2)
    figure = plot_selection(selection, max_layers=3)
    table = selection.table()[:3]
    assert list(figure.data[0].y) == [str(row["layer"]) for row in table]
    np.testing.assert_allclose(figure.data[0].x, [row["accuracy"] for row in table])
    assert figure.layout.xaxis.title.text == "accuracy [%]"
    assert figure.layout.shapes[0].x0 == 12.5
    ranked = figure.data[-1]
    np.testing.assert_allclose(ranked.x, [row["mean"] for row in table])
    np.testing.assert_allclose(ranked.error_x.array, [row["high"] - row["mean"] for row in table])
    np.testing.assert_allclose(ranked.customdata[:, 2], [row["probability"] for row in table])
    assert len(set(ranked.marker.color[:2])) == 1
    assert ranked.marker.color[2] != ranked.marker.color[0]
    assert set(ranked.marker.symbol) == {"circle-open"}  # none is shown to beat the baseline
    assert "the best 3 of 4 layers" in figure.layout.title.text
    refused("max_layers must be at least 1; got 0.", plot_selection, selection, max_layers=0)


def test_selection_from_one_clip_claims_no_interval():
    figure = plot_selection(select_layers(sweep().isel(clip=[0]), 1))
    assert "one clip: neither interval nor probability" in figure.layout.title.text
    assert np.isnan(figure.data[0].error_x.array).all()


def test_an_empty_selection_is_drawn_too():
    figure = plot_selection(select_layers(sweep()))
    assert len(figure.data[0].y) == 4
    assert len(set(figure.data[0].marker.color)) == 1


# Frames ------------------------------------------------------------------------------------------------------------


def rows(points=2):
    values = np.random.default_rng(4).random((points, 3, 5, 7)).astype(np.float32)
    values /= values.sum((1, 2, 3), keepdims=True)
    coords = {
        "point_x": ("point", np.arange(points) * 16.0 + 8),
        "point_y": ("point", [40.0] * points),
        "row": ("point", [2] * points),
        "column": ("point", np.arange(points)),
        "image": ("frame", [0, 2, 6]),
    }
    return xr.DataArray(values, coords, ("point", "frame", "y", "x"), "attention")


def test_attention_is_sent_as_whole_percents_of_the_largest_value():
    attention = rows()
    maps = heat_maps(plot_attention(attention))
    assert len(maps) == 6
    for trace, cells in zip(maps, attention.values.reshape(6, 5, 7), strict=True):
        assert trace.z.dtype == np.uint8
        np.testing.assert_array_equal(trace.z, np.round(100 * cells / cells.max()))
    whole = heat_maps(plot_attention(attention, normalise="point"))
    np.testing.assert_array_equal(whole[4].z, np.round(100 * attention.values[1, 1] / attention.values[1].max()))


@pytest.mark.parametrize("images", [None, IMAGES])
def test_each_choice_shows_one_point_with_its_own_titles(images):
    attention = rows(points=4)
    figure = plot_attention(attention, images=images)
    behind = 0 if images is None else 3
    for point, button in enumerate(figure.layout.updatemenus[0].buttons):
        shown = np.flatnonzero(button.args[0]["visible"]).tolist()
        assert shown == [*range(behind), *range(behind + 4 * point, behind + 4 * point + 4)]
        square = figure.data[shown[-1]]
        assert (np.mean(square.x[:4]), np.mean(square.y[:4])) == (point, 2)
        share = 100 * float(attention[point, 1].sum())
        assert button.args[1]["annotations"][1]["text"] == f"frame 1 ({share:.3g} %)"
        assert button.label == f"point {point} at x {16 * point + 8}, y 40 px"
    assert [bool(trace.visible) for trace in figure.data] == figure.layout.updatemenus[0].buttons[0].args[0]["visible"]


def test_images_lie_under_the_cells_they_cover():
    figure = plot_attention(rows(), images=IMAGES)
    picture = figure.data[0]
    assert (picture.x0 - picture.dx / 2, picture.y0 - picture.dy / 2) == pytest.approx((-0.5, -0.5))
    assert (picture.dx * 112, picture.dy * 80) == pytest.approx((7, 5))


def test_one_point_and_one_frame_keep_their_rank():
    figure = plot_attention(rows().isel(point=[1], frame=[0]))
    assert len(heat_maps(figure)) == len(figure.layout.updatemenus[0].buttons) == 1


def test_attention_refuses_what_it_cannot_show():
    refused("unknown normalise 'row'. Known: 'frame', 'point'.", plot_attention, rows(), normalise="row")
    refused("attention holds negative values or values that are not finite.", plot_attention, -rows())
    refused(
        "images holds 4 images and attention must say which image each frame shows in its coordinate 'image' (frame), "
        "within 0 to 3; attention_of_points writes it.",
        plot_attention,
        rows(),
        images=IMAGES[:4],
    )
    refused(
        "images must be uint8 (image, y, x, 3) with at least one image; got float64 (9, 80, 112, 3).",
        plot_attention,
        rows(),
        images=IMAGES / 255,
    )


def test_components_become_colours_of_one_scale():
    values = np.zeros((3, 5, 7, 3))
    values[..., 0] = np.arange(7)
    values[..., 1] = np.arange(5)[:, None]
    components = xr.DataArray(values, {"explained": ("component", [0.5, 0.3, 0.1])}, ("frame", "y", "x", "component"))
    figure = plot_pca(components, components[..., ::-1])
    assert len(figure.data) == 6
    red, green, blue = np.moveaxis(figure.data[1].z, -1, 0)
    assert (red[0].tolist(), green[:, 0].tolist()) == (red[4].tolist(), green[:, 6].tolist())
    assert red[0, 0] == 0
    assert red[0, 6] == 255
    assert (np.diff(red[0].astype(int)) > 0).all()
    assert (np.diff(green[:, 0].astype(int)) > 0).all()
    assert not blue.any()
    assert "query: 90 % of the variance (50, 30, 10); key: 90 % of the variance" in figure.layout.title.text
    refused(
        "query and key differ in grid: (3, 5, 7) and (2, 5, 7).", plot_pca, components, components.isel(frame=slice(2))
    )


# Tracks ------------------------------------------------------------------------------------------------------------


def test_maps_of_text_tokens_are_named_and_averaged():
    rng = np.random.default_rng(0)
    layout = TokenLayout(3, 5, 7, 80, 112, 9)
    video, text = rng.standard_normal((2, 3, 5, 7, 4)), rng.standard_normal((2, 6, 4))
    looks = attention_of_text(text, video, text, layout)[[4]]
    looked_at = map_attention_to_text(video, video, text, layout, tokens=[4])
    for maps, share in ((looks, looks[0, 1].sum()), (looked_at, looked_at[0, 1].mean())):
        figure = plot_attention(maps)
        assert figure.layout.updatemenus[0].buttons[0].label.startswith("text token 4")
        assert figure.layout.annotations[1].text == f"frame 1 ({100 * float(share):.3g} %)"


def tracks(seed=0, points=4):
    return np.random.default_rng(seed).uniform(0, 80, (9, points, 2))


def test_slider_stops_at_the_images_drawn_and_shows_their_points():
    predicted, truth = tracks(0), tracks(1)
    visibility = np.ones((9, 4), bool)
    visibility[4, 2] = False
    figure = plot_tracks(IMAGES, predicted, tracks=truth, visibility=visibility, max_images=3)
    stops = figure.layout.sliders[0].steps
    assert [stop.label for stop in stops] == [stop.args[0][0] for stop in stops] == ["0", "4", "8"]
    assert [frame.name for frame in figure.frames] == ["0", "4", "8"]
    _, _, line, cross, rim, disc = figure.frames[1].data
    np.testing.assert_allclose(disc.x, predicted[4, :, 0], atol=0.005)
    np.testing.assert_allclose(disc.y, predicted[4, :, 1], atol=0.005)
    assert list(disc.marker.symbol) == list(rim.marker.symbol) == ["circle", "circle", "circle-open", "circle"]
    np.testing.assert_array_equal(rim.x, disc.x)
    assert rim.marker.line.width[2] > disc.marker.line.width[2]  # dark on both sides of the ring
    np.testing.assert_allclose(cross.x, np.where(visibility[4], truth[4, :, 0], np.nan), atol=0.005)
    ends = np.stack([truth[4, :, 0], predicted[4, :, 0], [np.nan] * 4], axis=-1)
    ends[2] = np.nan
    np.testing.assert_allclose(line.x, ends.ravel(), atol=0.005)
    assert figure.layout.sliders[0].active == 2
    np.testing.assert_array_equal(figure.data[5].x, figure.frames[2].data[5].x)
    assert figure.frames[1].traces == tuple(range(6))
    assert "3 of 9 images" in figure.layout.title.text
    play, pause = figure.layout.updatemenus[0].buttons
    assert play.args[0] == 5 * ("0", "4", "8")
    assert play.args[1]["frame"]["duration"] == 125
    assert pause.args[0] == (None,)
    assert [trace.legendgroup for trace in figure.data[1:] if trace.mode == "lines"] == ["errors"] * 3


def test_without_truth_only_the_prediction_is_drawn():
    seen = np.zeros((9, 4), bool)
    figure = plot_tracks(IMAGES, tracks(), predicted_visibility=seen)
    assert np.isnan(figure.data[3].x).all()
    assert set(figure.data[5].marker.symbol) == {"circle-open"}
    assert [trace.name for trace in figure.data if trace.name] == ["predicted", "predicted, hidden"]
    assert "no truth for this clip" in figure.layout.title.text


def test_what_a_tracker_returns_is_drawn_with_its_visibility():
    found = PointTracks.still(np.array([[3, 20.0, 10.0], [0, 50.0, 60.0]]), 9)
    found.visibility[8, 1] = False
    disc = plot_tracks(IMAGES, found).data[5]
    assert (list(disc.x), list(disc.y)) == ([20, 50], [10, 60])
    assert list(disc.marker.symbol) == ["circle", "circle-open"]
    seen = plot_tracks(IMAGES, found, predicted_visibility=np.ones((9, 2), bool)).data[5]
    assert set(seen.marker.symbol) == {"circle"}


def test_one_image_has_no_slider_and_many_points_are_thinned():
    figure = plot_tracks(IMAGES[:1], tracks(points=40)[:1], max_points=10)
    assert not figure.layout.sliders
    assert len(figure.data[5].x) == 10
    assert figure.data[5].customdata[-1] == 39  # the point's own number
    assert "10 of 40 points" in figure.layout.title.text


def test_pixels_are_drawn_where_they_are():
    figure = plot_tracks(np.repeat(np.repeat(IMAGES, 5, 1), 5, 2), tracks(), max_images=2)
    picture = figure.data[0]
    assert picture.source.startswith("data:image/jpeg;base64,")
    assert picture.x0 - picture.dx / 2 == pytest.approx(0)
    assert picture.dx * 384 == pytest.approx(560)
    assert list(figure.layout.xaxis.range) == [0, 560]
    assert list(figure.layout.yaxis.range) == [400, 0]


def test_tracks_refuse_what_does_not_fit():
    refused(
        "predicted needs dims (image, point, 2) with 9 images; got shape (8, 4, 2).", plot_tracks, IMAGES, tracks()[:8]
    )
    refused(
        "predicted has 4 points and tracks 3. Pass the same points in both.",
        plot_tracks,
        IMAGES,
        tracks(),
        tracks=tracks()[:, :3],
    )
    refused(
        "visibility needs bool (image, point) (9, 4); got int64 (9, 4).",
        plot_tracks,
        IMAGES,
        tracks(),
        visibility=np.ones((9, 4), np.int64),
    )
    refused("max_images must be at least 1; got 0.", plot_tracks, IMAGES, tracks(), max_images=0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot_layer_step(measure()),
        lambda: plot_best_layers(measure(), [7, 1]),
        lambda: plot_selection(select_layers(sweep(), 2)),
        lambda: plot_attention(rows(), images=IMAGES),
        lambda: plot_tracks(IMAGES, tracks(0), tracks=tracks(1)),
    ],
)
def test_the_same_input_gives_the_same_figure_and_leaves_it_alone(draw):
    first, second = draw(), draw()
    assert isinstance(first, go.Figure)
    assert first.to_json() == second.to_json()
    assert json.loads(first.to_json())["layout"]["height"] > 100


def test_attention_lies_over_the_colours_of_the_clip_and_tells_the_share_of_the_row():
    rows = np.zeros((1, 3, 5, 7))
    rows[0, 1, 2, 3], rows[0, 2, 0, 0] = 0.2, 0.04
    coords = {"row": ("point", [2]), "column": ("point", [3]), "image": ("frame", [0, 1, 2]), "source_frame": 1}
    attention = xr.DataArray(rows, dims=("point", "frame", "y", "x"), coords=coords)
    images = np.zeros((3, 10, 14, 3), np.uint8)
    images[..., 0] = 200
    for normalise, share in (("frame", "4 % of the row"), ("point", "20 % of the row")):
        figure = plot_attention(attention, images=images, normalise=normalise)
        maps = [trace for trace in figure.data if trace.type == "heatmap"]
        assert share in maps[2].hovertemplate
        assert maps[0].colorscale[0][1].endswith(", 0)")  # no attention, no colour
    (square,) = [trace for trace in figure.data if trace.type == "scatter"]
    assert square.xaxis == "x2"  # in the frame of the point
