"""Atomic writes, digests that outlive their format, and NumPy files that lie about their size."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from store.errors import UnsafePickleError
from store.files.atomic import atomic_write
from store.files.digest import digest_of_dataset
from store.files.labelled import load_dataset, save_dataset
from store.files.numpy_files import load_npz, save_npz


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fails(stop: type[BaseException]) -> None:
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise stop

    for stop in (ValueError, KeyboardInterrupt):
        with pytest.raises(stop):
            fails(stop)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path):
        pass
    assert path.read_text() == "old"


def test_a_folder_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    for name in ("one", "two"):
        with atomic_write(path) as partial:
            partial.mkdir()
            (partial / name).touch()
    assert [file.name for file in path.rglob("*")] == ["two"]


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_digest_is_of_the_values_and_survives_every_format(tmp_path: Path, suffix: str) -> None:
    dims = ("clip",)
    dataset = xr.Dataset(
        {
            "float32": (dims, np.array([1.5, np.nan], "f4"), {"units": "px", "range": [0.5, 1.0], "one": [3]}),
            "float64": (dims, np.array([np.inf, -0.0]), {"count": 3, "share": np.float32(0.1)}),
            "int64": (dims, np.array([1, 2])),
            "int8": (dims, np.array([1, -2], "i1")),
            "bool": (dims, np.array([True, False])),
            "text": (dims, np.array(["goat", "Löwe"], object)),
            "table": (("clip", "xy"), np.arange(4.0).reshape(2, 2).T),
            "number": ((), 3.5),
        },
        {"clip": np.array(["a", "bc"], object), "place": ("clip", [0.5, 1.5]), "xy": np.array(["x", "y"], object)},
        {"details": '{"prompt": "ein Löwe"}', "empty": "", "numbers": np.array([1, 2])},
    )
    path = tmp_path / f"a{suffix}"
    save_dataset(dataset, path)
    again = load_dataset(path)
    assert digest_of_dataset(again) == digest_of_dataset(dataset)
    save_dataset(again, tmp_path / "b.nc")
    load_dataset(tmp_path / "b.nc")
    for changed in (
        dataset.assign(int64=dataset["int64"] + 1),
        dataset.assign_attrs(details="{}"),
        dataset.drop_vars("bool"),
        dataset.reset_coords("place"),
        dataset.rename(int64="int_64"),
    ):
        assert digest_of_dataset(changed) != digest_of_dataset(dataset)


def test_an_npz_comes_back_and_can_be_written_to(tmp_path: Path) -> None:
    arrays = {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "text": np.array("Löwe"), "none": np.zeros((0, 3))}
    save_npz(tmp_path / "a.npz", arrays)
    found = load_npz(tmp_path / "a.npz")
    assert set(found) == set(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    found["f"][0, 0] = 7


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_of_another_compression_is_not_unpacked(tmp_path: Path, compression: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("tracks.npy", bytes(2_000_000))
    with pytest.raises(ValueError, match=r"compressed in a way that numpy does not use|larger than they can be"):
        load_npz(tmp_path / "a.npz")


def test_pickled_objects_in_an_npz_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a b.npz", a=np.array([{}], object))
    with pytest.raises(
        UnsafePickleError, match=r"a b\.npz holds pickled objects and was not read\. Save plain arrays\.$"
    ):
        load_npz(tmp_path / "a b.npz")
