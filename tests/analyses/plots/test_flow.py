"""Flow pictures: the colours of the eight directions, what the traces hold, and what is rejected."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr
from PIL import Image

from analyses.plots.flow import flow_colours, plot_flow, plot_flow_arrows
from store.errors import InvalidInputError, UnknownLayerError

DIMS = ("frame", "frame_to", "y", "x", "xy")


def flow_of(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(
        values, {"image": ("frame", [0, 2, 6])}, DIMS, attrs={"long_name": "displacement", "units": "cells"}
    )


@pytest.fixture
def flow() -> xr.DataArray:
    values = np.random.default_rng(0).normal(size=(3, 3, 5, 7, 2))
    values[0, 2] *= 0.1
    values[0, 2, 1, 4] = 3, -4
    return flow_of(values)


def pixels(trace: go.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(trace.source.partition(",")[2]))))


# From the published table: 15 steps from red to yellow, 6 to green, 4 to cyan, 11 to blue, 13 to magenta, 6 to red,
# read at angle / 360 x 54 clockwise from the right.
CARDINAL = {
    (1, 0): (255, 0, 0),
    (1, 1): (255, 114, 0),  # 6.75 of 15
    (0, 1): (255, 229, 0),  # 13.5 of 15
    (-1, 1): (31, 255, 0),  # 20.25: 5.25 of 6, and the last step is a sixth
    (-1, 0): (0, 208, 255),  # 27: 2 of 11
    (-1, -1): (0, 52, 255),  # 33.75: 8.75 of 11
    (0, -1): (88, 0, 255),  # 40.5: 4.5 of 13
    (1, -1): (219, 0, 255),  # 47.25: 11.25 of 13
}


@pytest.mark.parametrize(("direction", "colour"), CARDINAL.items())
def test_the_hue_is_the_direction(direction: tuple[int, int], colour: tuple[int, int, int]) -> None:
    vector = np.array(direction) / np.hypot(*direction)
    found = flow_colours(vector * (1 - 1e-9), largest=1).astype(int)
    assert np.abs(found - colour).max() <= 1


def test_the_saturation_is_the_length_and_more_is_darker() -> None:
    lengths = np.array([[0.0, 0], [-0.0, -0.0], [1, 0], [2, 0], [4, 0]])
    assert flow_colours(lengths, largest=2).tolist() == [
        [255, 255, 255],
        [255, 255, 255],
        [255, 127, 127],
        [255, 0, 0],
        [191, 0, 0],
    ]


def test_the_picture_shows_the_pair_that_was_asked_for(flow: xr.DataArray) -> None:
    figure = plot_flow(flow)
    picture, hover, wheel = figure.data
    np.testing.assert_array_equal(pixels(picture), flow_colours(flow.values[0, 2], largest=5))
    np.testing.assert_allclose(hover.customdata, flow.values[0, 2])
    assert hover.z[1][4] == pytest.approx(5)
    middle, corner = pixels(wheel)[63, 63], pixels(wheel)[0, 0]
    assert middle.tolist() == corner.tolist() == [255, 255, 255]
    assert pixels(wheel)[63, 126].tolist() == [255, 0, 0]
    assert [note.text for note in figure.layout.annotations] == ["rim: 5 cells", "displacement [cells]"]
    assert "from frame 0 to frame 2" in figure.layout.title.text
    assert "from frame 1 to frame 0" in plot_flow(flow, frame=1, frame_to=0).layout.title.text


def test_a_scale_can_be_shared_and_no_motion_is_white(flow: xr.DataArray) -> None:
    figure = plot_flow(flow, largest=8)
    np.testing.assert_array_equal(pixels(figure.data[0]), flow_colours(flow.values[0, 2], largest=8))
    assert (pixels(plot_flow(0 * flow).data[0]) == 255).all()


def test_arrows_go_from_the_centre_of_a_cell_to_where_it_goes() -> None:
    values = np.zeros((3, 3, 5, 7, 2))
    values[1, 2, 4, 5] = 0.5, -2
    images = np.arange(9, dtype=np.uint8).reshape(9, 1, 1, 1) * np.ones((80, 112, 3), np.uint8)
    figure = plot_flow_arrows(flow_of(values), images, frame=1, frame_to=2)
    background, still, dark, bright = figure.data
    assert (pixels(background) == 2).all()  # the image of frame 1
    assert len(still.x) == 34
    for stroke in (dark, bright):
        np.testing.assert_allclose(stroke.x, [88, 96, np.nan])
        np.testing.assert_allclose(stroke.y, [72, 40, np.nan])
        assert stroke.marker.size[0] == stroke.marker.size[2] == 0 < stroke.marker.size[1]
    few = plot_flow_arrows(flow_of(values), images, every=3)
    assert len(few.data[1].x) == 2 * 3
    assert "one arrow for 3 x 3 cells" in few.layout.title.text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda flow: plot_flow(flow.isel(frame=0)),
            InvalidInputError,
            "flow needs dims (frame, frame_to, y, x, xy); got (frame_to, y, x, xy): frame missing.",
        ),
        (
            lambda flow: plot_flow(flow, frame_to=3),
            UnknownLayerError,
            "frame 3 does not exist. The flow has frames 0 to 2.",
        ),
        (
            lambda flow: plot_flow(flow / 0),
            InvalidInputError,
            "flow needs finite (dx, dy) along xy; got {'frame': 3, 'frame_to': 3, 'y': 5, 'x': 7, 'xy': 2}.",
        ),
        (lambda flow: plot_flow(flow, largest=0), InvalidInputError, "largest must be above 0; got 0."),
        (
            lambda flow: flow_colours(np.zeros((4, 3)), largest=1),
            InvalidInputError,
            "flow needs finite (dx, dy) along its last axis; got shape (4, 3).",
        ),
        (
            lambda flow: plot_flow_arrows(flow, np.zeros((6, 80, 112, 3), np.uint8)),
            InvalidInputError,
            "images holds 6 images and flow must say which image each frame shows in its coordinate 'image' (frame), "
            "within 0 to 5; labelled_flow writes it.",
        ),
        (
            lambda flow: plot_flow_arrows(flow, np.zeros((7, 80, 112, 3), np.uint8), every=0),
            InvalidInputError,
            "every must be at least 1; got 0.",
        ),
    ],
)
def test_bad_input_is_refused(
    flow: xr.DataArray, call: Callable[[xr.DataArray], object], error: type[Exception], message: str
) -> None:
    with np.errstate(divide="ignore"), pytest.raises(error, match=f"^{re.escape(message)}$"):
        call(flow)
