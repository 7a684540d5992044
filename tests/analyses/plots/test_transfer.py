"""A transfer as a video: planted flows with the colours they must have, image by image, and what is rejected."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr
from PIL import Image

from analyses.plots.transfer import plot_transfer
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.layout import TokenLayout

DIMS = ("frame", "frame_to", "y", "x", "xy")
WHITE = [255, 255, 255]
IMAGES = np.random.default_rng(0).integers(0, 256, (9, 80, 112, 3), np.uint8)
OTHERS = 255 - IMAGES


def still(frames: int = 3, images: tuple[int, ...] = (0, 2, 6)) -> xr.DataArray:
    """No motion in frames whose middle images are these."""
    return xr.DataArray(np.zeros((frames, frames, 5, 7, 2), np.float32), {"image": ("frame", list(images))}, DIMS)


@pytest.fixture
def reference_flow() -> xr.DataArray:
    """What is in cell (3, 2) of frame 2 came from ten cells further left; other pairs of frames do not matter."""
    flow = still()
    flow.values[0, 1:] = 50
    flow.values[2, 0, 3, 2] = -10, 0
    return flow


@pytest.fixture
def flow() -> xr.DataArray:
    """In frame 1 something has come five cells from above, in frame 2 five cells from the left."""
    flow = still()
    flow.values[1, 0, 1, 4] = 0, -5
    flow.values[2, 0, 4, 6] = -5, 0
    return flow


def pixels(trace: go.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(trace.source.partition(",")[2]))))


def coloured(trace: go.Image) -> dict[tuple[int, ...], list[int]]:
    """Cells that are not white, (y, x), and their colours."""
    found = pixels(trace)
    return {tuple(cell.tolist()): found[tuple(cell)].tolist() for cell in np.argwhere((found != 255).any(-1))}


def test_a_cell_has_the_colour_of_how_far_it_has_come(reference_flow: xr.DataArray, flow: xr.DataArray) -> None:
    figure = plot_transfer(Clip(IMAGES, 8), OTHERS, reference_flow, flow)
    red, half_red, half_yellow = [255, 0, 0], [255, 127, 127], [255, 242, 127]
    theirs = [coloured(frame.data[1]) for frame in figure.frames]
    ours = [coloured(frame.data[4]) for frame in figure.frames]
    assert theirs == 5 * [{}] + 4 * [{(3, 2): red}]
    assert ours == [{}] + 4 * [{(1, 4): half_yellow}] + 4 * [{(4, 6): half_red}]
    hover = figure.frames[7].data[5]
    assert (hover.customdata[4, 6].tolist(), hover.z[4, 6]) == ([5, 0], 5)
    assert not np.signbit(figure.frames[0].data[2].customdata).any()


def test_the_images_are_those_of_the_clips_pixel_by_pixel(reference_flow: xr.DataArray, flow: xr.DataArray) -> None:
    figure = plot_transfer(IMAGES, Clip(OTHERS, 8), reference_flow, flow)
    for image, frame in enumerate(figure.frames):
        np.testing.assert_array_equal(pixels(frame.data[0]), IMAGES[image])
        np.testing.assert_array_equal(pixels(frame.data[3]), OTHERS[image])
    assert [trace.xaxis for trace in figure.data] == ["x", "x2", "x2", "x3", "x4", "x4", "x5"]
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["reference", "its flow", "result", "its flow", "rim:<br>10<br>cells"]
    np.testing.assert_array_equal(pixels(figure.data[0]), IMAGES[8])  # the last image first
    assert coloured(figure.data[1]) == {(3, 2): [255, 0, 0]}
    assert (figure.layout.xaxis.range, figure.layout.yaxis.range) == ((0, 112), (80, 0))
    assert (figure.layout.xaxis2.range, figure.layout.yaxis2.range) == ((-0.5, 6.5), (4.5, -0.5))


def test_cells_that_are_not_square_fill_the_same_panel() -> None:
    tall = np.zeros((9, 90, 70, 3), np.uint8)
    assert plot_transfer(tall, tall, still(), still()).layout.yaxis4.scaleratio == pytest.approx(18 / 10)


def test_the_wheel_ends_at_the_largest_of_both_or_what_is_asked_for(
    reference_flow: xr.DataArray, flow: xr.DataArray
) -> None:
    figure = plot_transfer(IMAGES, IMAGES, reference_flow, flow, largest=20)
    assert coloured(figure.data[1]) == {(3, 2): [255, 127, 127]}
    assert figure.layout.annotations[4].text == "rim:<br>20<br>cells"
    wheel = pixels(figure.data[6])
    assert (wheel[63, 126].tolist(), wheel[63, 63].tolist()) == ([255, 0, 0], WHITE)
    assert plot_transfer(IMAGES, IMAGES, still(), still()).layout.annotations[4].text == "rim:<br>1<br>cells"


def test_it_plays_and_stops_and_a_slider_chooses_the_image(reference_flow: xr.DataArray, flow: xr.DataArray) -> None:
    figure = plot_transfer(
        IMAGES, OTHERS, reference_flow, flow, max_images=3, images_per_second=5, title="<b>one</b> & two"
    )
    assert [frame.name for frame in figure.frames] == ["0", "4", "8"]
    assert {frame.traces for frame in figure.frames} == {tuple(range(6))}
    assert [stop.args[0] for stop in figure.layout.sliders[0].steps] == [("0",), ("4",), ("8",)]
    play, pause = figure.layout.updatemenus[0].buttons
    assert play.args[0] == 5 * ("0", "4", "8")
    assert play.args[1]["frame"] == {"duration": 200, "redraw": True}
    assert pause.args[0] == (None,)
    assert figure.layout.title.text.startswith("&lt;b&gt;one&lt;/b&gt; &amp; two<br>")
    assert "since image 0; 3 of 9 images" in figure.layout.title.text


def test_one_image_has_nothing_to_play() -> None:
    figure = plot_transfer(IMAGES[:1], IMAGES[:1], still(1, (0,)), still(1, (0,)))
    assert not figure.frames
    assert not figure.layout.sliders
    assert not figure.layout.updatemenus


@pytest.mark.parametrize(
    ("images", "spans"),
    [
        (6, [range(n, n + 1) for n in range(6)]),  # a frame an image
        (9, [range(1), range(1, 5), range(5, 9)]),  # causal, four to a frame
        (13, [range(5), range(5, 13)]),  # two latent frames to a patch
        (9, [range(1), range(1, 9)]),  # the same, padded in front
        (12, [range(4), range(4, 8), range(8, 12)]),
    ],
)
def test_an_image_shows_the_frame_that_it_belongs_to(images: int, spans: list[range]) -> None:
    layout = TokenLayout(len(spans), 5, 7, 80, 112, images, spans=spans)
    flow = still(len(spans), tuple(np.floor(layout.frame_centres).astype(int).tolist()))
    flow.values[:, 0] = -np.arange(1.0, len(spans) + 1)[:, None, None, None]
    clip = np.zeros((images, 80, 112, 3), np.uint8)
    figure = plot_transfer(clip, clip, flow, flow)
    shown = [int(frame.data[2].customdata[0, 0, 0]) - 1 for frame in figure.frames]
    assert shown == [layout.frame_of(image) for image in range(images)]


NO_IMAGE = (
    "{} must say in its coordinate 'image' (frame) which of the 9 images of the clips is the middle one of each frame; "
    "labelled_flow writes it. Take the flow from the clip itself."
)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: plot_transfer(IMAGES, OTHERS[:5], still(), still()),
            "the reference has 9 images of 80 x 112 px and the result 5 images of 80 x 112 px (height x width); they "
            "are shown image by image. Cut or resize one of them (Clip.window, Clip.resized).",
        ),
        (
            lambda: plot_transfer(Clip(IMAGES, 8), Clip(IMAGES, 8).resized(40, 56), still(), still()),
            "the reference has 9 images of 80 x 112 px and the result 9 images of 40 x 56 px (height x width); they "
            "are shown image by image. Cut or resize one of them (Clip.window, Clip.resized).",
        ),
        (
            lambda: plot_transfer(IMAGES / 255, IMAGES, still(), still()),
            "images must be uint8 (image, y, x, 3) with at least one image; got float64 (9, 80, 112, 3).",
        ),
        (
            lambda: plot_transfer(IMAGES, IMAGES, still(), still().isel(frame_to=0)),
            "flow needs dims (frame, frame_to, y, x, xy); got (frame, y, x, xy): frame_to missing.",
        ),
        (
            lambda: plot_transfer(IMAGES, IMAGES, still() / 0, still()),
            "reference_flow needs finite (dx, dy) along xy and as many frames in frame_to as in frame; got "
            "{'frame': 3, 'frame_to': 3, 'y': 5, 'x': 7, 'xy': 2}.",
        ),
        (
            lambda: plot_transfer(IMAGES, IMAGES, still(), still().isel(frame_to=slice(2))),
            "flow needs finite (dx, dy) along xy and as many frames in frame_to as in frame; got "
            "{'frame': 3, 'frame_to': 2, 'y': 5, 'x': 7, 'xy': 2}.",
        ),
        (
            lambda: plot_transfer(IMAGES, IMAGES, still(), still().isel(x=slice(6))),
            "reference_flow has 3 frames of 5 x 7 cells and flow 3 frames of 5 x 6 cells. Take both from the same "
            "layer of the same backbone.",
        ),
        (lambda: plot_transfer(IMAGES, IMAGES, still().drop_vars("image"), still()), NO_IMAGE.format("reference_flow")),
        (lambda: plot_transfer(IMAGES, IMAGES, still(), still(3, (0, 2, 7))), NO_IMAGE.format("flow")),
        (
            lambda: plot_transfer(IMAGES, IMAGES, still(10, tuple(range(10))), still(10, tuple(range(10)))),
            NO_IMAGE.format("reference_flow"),
        ),
        (lambda: plot_transfer(IMAGES, IMAGES, still(), still(), largest=0), "largest must be above 0; got 0."),
        (
            lambda: plot_transfer(IMAGES, IMAGES, still(), still(), max_images=0),
            "max_images must be at least 1; got 0.",
        ),
        (
            lambda: plot_transfer(IMAGES, IMAGES, still(), still(), images_per_second=0),
            "images_per_second must be above 0; got 0.",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(call: Callable[[], Any], message: str) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(InvalidInputError, match=f"^{re.escape(message)}$"):
        call()
