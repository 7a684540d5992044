"""A flow comes back from each kind of file as it was; nothing else is replaced or read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from analyses.flow.attention_flow import labelled_flow
from analyses.flow.files import load_flow, save_flow
from store.errors import InvalidInputError, OutputExistsError, RecordingError, UnsafePickleError
from store.layout import TokenLayout

LAYOUT = TokenLayout(3, 5, 7, 80, 112, 9)


@pytest.fixture
def flow() -> xr.DataArray:
    values = np.random.default_rng(0).normal(size=(3, 3, 5, 7, 2)).astype(np.float32)
    return labelled_flow(values, LAYOUT, details={"layer": 5, "prompt": "déjà vu", "revision": None})


@pytest.mark.parametrize("suffix", ["npz", "nc", "zarr"])
def test_a_flow_comes_back(flow: xr.DataArray, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"flow.{suffix}"
    save_flow(0 * flow, path)
    with pytest.raises(OutputExistsError, match="exists already"):
        save_flow(flow, path)
    save_flow(flow, path, overwrite=True)
    xr.testing.assert_identical(load_flow(path), flow)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_dims_in_another_order_are_put_in_order(flow: xr.DataArray, tmp_path: Path) -> None:
    found = load_flow(save_flow(flow.transpose(..., "frame"), tmp_path / "flow.npz"))
    xr.testing.assert_identical(found, flow)


def test_a_folder_of_something_else_is_not_replaced(flow: xr.DataArray, tmp_path: Path) -> None:
    folder = tmp_path / "mine.zarr"
    folder.mkdir()
    message = f"{folder} is there and holds no flow, so it is not replaced. Choose another path."
    with pytest.raises(OutputExistsError, match=f"^{re.escape(message)}$"):
        save_flow(flow, folder, overwrite=True)


def test_what_cannot_be_a_flow_is_refused(flow: xr.DataArray, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^flow needs dims .* frame missing\.$"):
        save_flow(flow[0], tmp_path / "flow.npz")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"no zip")
    with pytest.raises(RecordingError, match=r"holds no flow, or it is damaged: it is not an npz file\.$"):
        load_flow(broken)
    np.savez(tmp_path / "code.npz", flow=np.array([{}], object), details=np.array("{}"), dims=np.array(["x"]))
    with pytest.raises(UnsafePickleError, match="holds pickled objects and was not read"):
        load_flow(tmp_path / "code.npz")
