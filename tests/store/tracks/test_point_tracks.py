"""Tracks as values: shapes, saving, and what is said of queries that cannot be."""

import re

import numpy as np
import pytest
import xarray as xr

from analyses.selection.defaults import tracking_defaults
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks, check_queries

IMAGES, POINTS = 5, 3


def parts(images=IMAGES, points=POINTS):
    rng = np.random.default_rng(0)
    return {
        "queries": np.column_stack([rng.integers(0, images, points), rng.uniform(0, 40, (points, 2))]),
        "tracks": rng.uniform(0, 40, (images, points, 2)),
        "visibility": rng.random((images, points)) > 0.4,
        "confidence": rng.random((images, points)),
        "details": {"layer": 4, "heads": [0, 2], "prompt": "", "backbone": "mini"},
    }


def assert_same(found, expected):
    for name in ("queries", "tracks", "visibility", "confidence"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert found.details == expected.details


@pytest.mark.parametrize("points", [POINTS, 0])
def test_zarr(tmp_path, points):
    tracks = PointTracks(**parts(points=points))
    tracks.to_dataset().to_zarr(tmp_path / "tracks.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "tracks.zarr", consolidated=False) as dataset:
        assert_same(PointTracks.from_dataset(dataset), tracks)


def test_netcdf(tmp_path):
    tracks = PointTracks(**parts())
    tracks.to_dataset().to_netcdf(tmp_path / "tracks.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "tracks.nc", engine="scipy") as dataset:
        assert_same(PointTracks.from_dataset(dataset), tracks)


def test_npz(tmp_path):
    tracks = PointTracks(**parts())
    saved = tracks.to_dataset()
    np.savez(
        tmp_path / "tracks.npz", **{name: values.values for name, values in saved.drop_vars("xy").variables.items()}
    )
    with np.load(tmp_path / "tracks.npz", allow_pickle=False) as arrays:
        named = {name: (saved[name].dims, arrays[name]) for name in arrays}
    assert_same(PointTracks.from_dataset(xr.Dataset(named, attrs=saved.attrs)), tracks)


def test_the_dataset_has_names_and_units():
    dataset = PointTracks(**parts()).to_dataset()
    assert dataset.tracks.dims == ("image", "point", "xy")
    assert dataset.xy.values.tolist() == ["x", "y"]
    assert dataset.tracks.attrs["units"] == dataset.query_x.attrs["units"] == "px"
    np.testing.assert_array_equal(dataset.tracks.sel(xy="y"), parts()["tracks"][..., 1])
    assert dataset.query_image.dtype == np.int64


def test_repr():
    some = parts(4, 2) | {"visibility": np.array([[True, True], [True, False]] * 2)}
    assert repr(PointTracks(**some)) == "PointTracks(2 points in 4 images, 75 % visible)"
    assert repr(PointTracks.still(np.zeros((1, 3)), 1)) == "PointTracks(1 point in 1 image, 100 % visible)"
    assert repr(PointTracks.still(np.zeros((0, 3)), 2)) == "PointTracks(0 points in 2 images)"


def test_nothing_moves():
    queries = np.array([[2, 10.0, 20.0], [0, 3.0, 4.0]])
    found = PointTracks.still(queries, 4)
    assert found.tracks.tolist() == [[[10.0, 20.0], [3.0, 4.0]]] * 4
    assert found.visibility.all()
    np.testing.assert_array_equal(found.confidence, 1)


@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [
        ("queries", (3, 2), "queries needs the shape (3, 3) for 5 images of 3 points; got (3, 2)."),
        ("queries", (2, 3), "queries needs the shape (3, 3) for 5 images of 3 points; got (2, 3)."),
        ("tracks", (5, 3, 3), "tracks needs the shape (5, 3, 2) for 5 images of 3 points; got (5, 3, 3)."),
        ("visibility", (3, 5), "visibility needs the shape (5, 3) for 5 images of 3 points; got (3, 5)."),
        ("confidence", (5,), "confidence needs the shape (5, 3) for 5 images of 3 points; got (5,)."),
        ("tracks", (5, 3), "tracks needs the shape (image, point, 2); got (5, 3)."),
    ],
)
def test_shapes_that_do_not_belong_together(name, shape, text):
    values = parts()
    values[name] = np.zeros(shape, values[name].dtype)
    with pytest.raises(InvalidInputError) as error:
        PointTracks(**values)
    assert str(error.value) == text


@pytest.mark.parametrize("name", ["queries", "tracks", "confidence"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(name, value):
    values = parts()
    values[name].flat[2] = value
    with pytest.raises(InvalidInputError, match=rf"^{name} holds values that are not finite\.$"):
        PointTracks(**values)


def test_visibility_is_bool():
    with pytest.raises(InvalidInputError, match=r"^visibility must be bool; got float64\.$"):
        PointTracks(**parts() | {"visibility": np.ones((IMAGES, POINTS))})


CLIP = {"images": 9, "height": 80, "width": 112}


@pytest.mark.parametrize(
    ("queries", "text"),
    [
        (
            [[0, 5.0, 5.0], [3, 113.0, 20.0]],
            "query 1 at (x, y) = (113, 20) lies outside the clip of 80 x 112 px (height x width).",
        ),
        (
            [[0, -0.5, 5.0]],
            "query 0 at (x, y) = (-0.5, 5) lies outside the clip of 80 x 112 px (height x width).",
        ),
        (
            [[0, 20.0, 30.0], [0, 20.0, 100.0]],
            "query 1 at (x, y) = (20, 100) lies outside the clip of 80 x 112 px (height x width). With x and y "
            "exchanged all would lie inside: are they (y, x)?",
        ),
        (
            [[0, 20.0, 100.0], [0, 100.0, 20.0]],
            "query 0 at (x, y) = (20, 100) lies outside the clip of 80 x 112 px (height x width).",
        ),
        ([[0, 5.0, 5.0], [0, np.nan, 5.0]], "query 1 is not finite: [0.0, nan, 5.0]."),
        ([[np.inf, 5.0, 5.0]], "query 0 is not finite: [inf, 5.0, 5.0]."),
        (
            [[1.5, 5.0, 5.0]],
            "query 0 asks for image 1.5; queries are (image, x, y) with a whole image number first.",
        ),
        ([[0, 5.0, 5.0], [9, 5.0, 5.0]], "query 1 is in image 9, but the clip has images 0 to 8."),
        ([[-1, 5.0, 5.0]], "query 0 is in image -1, but the clip has images 0 to 8."),
        ([[5.0, 5.0]], "queries need the shape (point, 3), each as (image, x, y) in pixels; got (1, 2)."),
        ([0, 5.0, 5.0], "queries need the shape (point, 3), each as (image, x, y) in pixels; got (3,)."),
    ],
)
def test_queries_that_cannot_be(queries, text):
    with pytest.raises(InvalidInputError) as error:
        check_queries(queries, **CLIP)
    assert str(error.value) == text


@pytest.mark.parametrize("queries", [[[0, 1.0, 2.0], [0, 1.0]], [["a", "b", "c"]]])
def test_queries_that_are_no_numbers(queries):
    with pytest.raises(InvalidInputError, match=re.escape("queries need the shape (point, 3)")):
        check_queries(queries, **CLIP)


def test_the_border_is_inside():
    corners = [[0, 0.0, 0.0], [8, 112.0, 80.0], [4, 0.0, 80.0]]
    found = check_queries(corners, **CLIP)
    assert found.dtype == np.float64
    assert found.tolist() == corners


@pytest.mark.parametrize("queries", [[], np.zeros((0, 3)), np.zeros((0, 2), int)])
def test_no_points(queries):
    found = check_queries(queries, **CLIP)
    assert found.shape == (0, 3)
    assert found.dtype == np.float64


def test_an_unknown_backbone_says_how_to_find_a_layer():
    backbone = load_backbone(new_pipeline(MiniConfig(layers=1)))
    with pytest.raises(InvalidInputError) as error:
        tracking_defaults(backbone)
    assert str(error.value) == (
        f"no layer is known to track well on {backbone.name}. Pass layer=, or find one: "
        "select_layers(sweep(backbone, clips, Selection(steps=[-1], layers='all'))). "
        "Known: mini, mini-rope, mini@1, mini-rope@1, THUDM/CogVideoX-2b, THUDM/CogVideoX-5b, "
        "hunyuanvideo-community/HunyuanVideo."
    )
