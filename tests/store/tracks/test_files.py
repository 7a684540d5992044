"""Tracks come back from every kind of file as they were, and nothing that is there is lost."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from store.errors import InvalidInputError, OutputExistsError, RecordingError, UnsafePickleError
from store.tracks.files import check_tracks_path, load_tracks, save_tracks
from store.tracks.point_tracks import PointTracks

SUFFIXES = (".npz", ".nc", ".zarr")


def tracks(points=3, seed=0):
    rng = np.random.default_rng(seed)
    return PointTracks(
        np.column_stack([rng.integers(0, 5, points), rng.uniform(0, 40, (points, 2))]),
        rng.uniform(0, 40, (5, points, 2)),
        rng.random((5, points)) > 0.4,
        rng.random((5, points)),
        {"layer": 4, "heads": [0, 2], "prompt": "ein Löwe", "step": None},
    )


def assert_same(found, expected):
    for name in ("queries", "tracks", "visibility", "confidence"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert found.details == expected.details


@pytest.mark.parametrize(
    ("suffix", "points"), [(".npz", 3), (".npz", 0), (".NPZ", 3), (".nc", 3), (".zarr", 3), (".zarr", 0)]
)
def test_tracks_come_back_as_they_were(tmp_path, suffix, points):
    path = tmp_path / f"deep/er/tracks{suffix}"
    assert save_tracks(tracks(points), path) == path
    assert_same(load_tracks(path), tracks(points))
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_no_points_at_all_are_refused_by_netcdf_which_cannot_be_read_back(tmp_path):
    with pytest.raises(
        InvalidInputError, match=r"there is no point, and netCDF 3 stores no empty arrays\. Name it .*tracks\.npz\."
    ):
        save_tracks(tracks(points=0), tmp_path / "tracks.nc")
    assert list(tmp_path.iterdir()) == []


def test_other_programs_find_the_arrays(tmp_path):
    saved = tracks()
    with np.load(save_tracks(saved, tmp_path / "tracks.npz"), allow_pickle=False) as file:
        assert sorted(file.files) == ["confidence", "details", "ditprobe_digest", "queries", "tracks", "visibility"]
        np.testing.assert_array_equal(file["tracks"], saved.tracks)
        assert json.loads(str(file["details"])) == saved.details
    with xr.open_dataset(save_tracks(saved, tmp_path / "tracks.nc"), engine="scipy") as dataset:
        assert dataset["tracks"].dims == ("image", "point", "xy")
        np.testing.assert_array_equal(dataset["query_y"], saved.queries[:, 2])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_exists_is_replaced_only_where_asked(tmp_path, suffix):
    path = save_tracks(tracks(), tmp_path / f"tracks{suffix}")
    with pytest.raises(OutputExistsError, match=r"exists already\. Choose another path for the tracks, or pass"):
        save_tracks(tracks(seed=1), path)
    assert_same(load_tracks(path), tracks())
    save_tracks(tracks(seed=1), path, overwrite=True)
    assert_same(load_tracks(path), tracks(seed=1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_of_other_things_is_never_replaced(tmp_path, suffix):
    path = tmp_path / f"precious{suffix}"
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError):
        save_tracks(tracks(), path, overwrite=True)
    assert (path / "thesis.txt").read_text() == "years of work"


def test_another_zarr_is_not_replaced(tmp_path):
    path = tmp_path / "other.zarr"
    xr.Dataset({"loss": ("step", [1.0, 2.0])}).to_zarr(path, consolidated=False)
    with pytest.raises(OutputExistsError, match=r"holds no tracks, so it is not replaced"):
        save_tracks(tracks(), path, overwrite=True)
    with pytest.raises(RecordingError, match=r"other\.zarr holds no tracks, or it is damaged: "):
        load_tracks(path)


@pytest.mark.parametrize("name", ["tracks.csv", "tracks", "tracks.npz.gz"])
def test_other_suffixes_are_refused(tmp_path, name):
    for rejects in (check_tracks_path, load_tracks, partial(save_tracks, tracks())):
        with pytest.raises(
            InvalidInputError,
            match=r"the tracks: its suffix must be \.npz, \.nc or \.zarr\. Name it |holds no tracks: its suffix",
        ):
            rejects(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_path_below_a_file_is_refused_before_anything_is_written(tmp_path, suffix):
    (tmp_path / "file").touch()
    with pytest.raises(OutputExistsError, match=r"is a file, not a folder"):
        check_tracks_path(tmp_path / f"file/tracks{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_missing_or_damaged_is_said(tmp_path, suffix):
    path = tmp_path / f"tracks{suffix}"
    with pytest.raises(RecordingError, match=r"holds no tracks: it does not exist\."):
        load_tracks(path)
    path.write_bytes(b"")
    with pytest.raises(RecordingError, match=r"holds no tracks, or it is damaged: "):
        load_tracks(path)


@pytest.mark.parametrize("suffix", [".npz", ".nc"])
def test_a_cut_file_is_refused(tmp_path, suffix):
    path = save_tracks(tracks(), tmp_path / f"tracks{suffix}")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RecordingError, match=r"holds no tracks, or it is damaged: "):
        load_tracks(path)


def test_an_npz_of_other_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", loss=np.zeros(3))
    with pytest.raises(RecordingError, match=r"holds no tracks, or it is damaged: .*tracks"):
        load_tracks(tmp_path / "other.npz")
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(RecordingError, match=r"it is not an npz file\."):
        load_tracks(tmp_path / "array.npz")


def test_pickled_objects_are_not_read(tmp_path):
    np.savez(tmp_path / "tracks.npz", tracks=np.array([{"code": 1}], dtype=object))
    with pytest.raises(UnsafePickleError, match=r"holds pickled objects and was not read"):
        load_tracks(tmp_path / "tracks.npz")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, suffix):
    path = save_tracks(tracks(), tmp_path / f"tracks{suffix}")

    def full(*given: Any) -> None:
        next(each for each in given if isinstance(each, Path)).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        "store.files.labelled.save_npz" if suffix == ".npz" else "store.files.labelled.save_dataset", full
    )
    with pytest.raises(RecordingError, match=r"the tracks cannot be written to .*No space left on device"):
        save_tracks(tracks(seed=1), path, overwrite=True)
    assert_same(load_tracks(path), tracks())
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
