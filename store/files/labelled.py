"""Labelled results on disk, as ``.npz``, ``.nc`` or ``.zarr``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import xarray as xr

from store.errors import InvalidInputError, OutputExistsError, RecordingError
from store.files.digest import DIGEST, check_digest, digest_of_dataset
from store.files.numpy_files import load_npz, save_npz
from store.files.outputs import OutputFile, check_free, check_writable
from store.files.zarr_check import MOST_COMPRESSED, check_zarr_folder

Value = TypeVar("Value")
SUFFIXES = (".npz", ".nc", ".zarr")
_SLACK = 1 << 28  # arrays of one repeated value are stored in next to nothing
_MOST_CHUNKS = 100_000


@dataclass(frozen=True)
class LabelledFile(OutputFile, Generic[Value]):
    """One kind of labelled result, which goes to .npz as named arrays and to .nc or .zarr as a Dataset.

    Parameters
    ----------
    kind, example, suffixes, damage, remedy : see :class:`store.files.outputs.OutputFile`
    to_arrays, from_arrays : from a result to arrays and texts by name, and back
    to_dataset, from_dataset : from a result to a Dataset, and back

    Examples
    --------
    >>> import tempfile
    >>> loss = LabelledFile[xr.DataArray](
    ...     "loss",
    ...     to_arrays=lambda loss: {"loss": loss.values},
    ...     from_arrays=lambda arrays: xr.DataArray(arrays["loss"], dims="step"),
    ...     to_dataset=lambda loss: loss.to_dataset(name="loss"),
    ...     from_dataset=lambda dataset: dataset["loss"],
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     loss.load(loss.save(xr.DataArray([1.0, 2.0], dims="step"), f"{folder}/loss.zarr")).values
    array([1., 2.])
    """

    example: str = ""
    suffixes: tuple[str, ...] = SUFFIXES
    to_arrays: Callable[[Value], Mapping[str, Any]] = field(kw_only=True)
    from_arrays: Callable[[Mapping[str, Any]], Value] = field(kw_only=True)
    to_dataset: Callable[[Value], xr.Dataset] = field(kw_only=True)
    from_dataset: Callable[[xr.Dataset], Value] = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "example", self.example or f"{self.kind}.npz")

    def check(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        resume: bool | None = None,
        companions: tuple[Path, ...] = (),
    ) -> None:
        """As :meth:`store.files.outputs.OutputFile.check`; a folder is replaced only where it holds such a result."""
        path = Path(path)
        suffix = self.check_suffix(path)
        check_free(path, self.kind, overwrite=overwrite, resume=resume, companions=companions)
        if path.is_dir():
            try:
                self.load(path)
            except RecordingError as error:
                raise OutputExistsError(
                    f"{path} is there and holds no {self.kind}, so it is not replaced.", remedy="Choose another path."
                ) from error
        check_writable(path.with_name(f".{path.name}.trial") if suffix == ".zarr" else path, self.example)

    def save(self, value: Value, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a result with the digest of its values, atomically, and return its path.

        Raises
        ------
        InvalidInputError
            For another suffix, and for an empty array in a .nc.
        OutputExistsError
            When something is there and ``overwrite`` is False, or what is there holds something else.
        RecordingError
            When it cannot be written.
        """
        path = Path(path)
        self.check(path, overwrite=overwrite)
        suffix = path.suffix.lower()
        dataset = None if suffix == ".npz" else self.to_dataset(value)
        if dataset is not None and suffix == ".nc" and 0 in dataset.sizes.values():
            empty = next(str(dim) for dim, size in dataset.sizes.items() if not size)
            raise InvalidInputError(
                f"{path} cannot hold the {self.kind}: there is no {empty}, and netCDF 3 stores no empty arrays.",
                remedy=f"Name it {path.with_suffix('.npz')}.",
            )
        with self.writing(path) as partial:
            if dataset is None:
                save_npz(partial, self.to_arrays(value))
            else:
                save_dataset(dataset, partial)
        return path

    def load(self, path: str | os.PathLike[str]) -> Value:
        """Read a result that :meth:`save` wrote.

        Raises
        ------
        InvalidInputError
            For another suffix.
        RecordingError
            When there is no such result at that path, or it is damaged.
        UnsafePickleError
            For an npz with pickled objects, which are not read.
        """
        path = Path(path)
        with self.reading(path) as suffix:
            if suffix == ".npz":
                return self.from_arrays(load_npz(path))
            return self.from_dataset(load_dataset(path))


def save_dataset(dataset: xr.Dataset, path: Path) -> None:
    """Write a Dataset with its digest: as Zarr 3 where the suffix is .zarr, else as netCDF 3."""
    if path.suffix.lower() == ".zarr":
        _with_digest(dataset).to_zarr(path, mode="w", consolidated=False, zarr_format=3)
    else:
        save_netcdf(dataset, path)


def save_netcdf(dataset: xr.Dataset, path: Path) -> None:
    """Write a Dataset as netCDF 3, its digest among its attributes."""
    _with_digest(dataset).to_netcdf(path, engine="scipy")


def load_dataset(path: Path) -> xr.Dataset:
    """A Dataset that :func:`save_dataset` wrote, in memory; its digest, where it has one, is checked and left out.

    Raises
    ------
    ValueError, OSError, RuntimeError, ...
        Whatever a damaged file raises; for :func:`store.files.damaged.damage_as`.

    Notes
    -----
    Zarr 2 is not read: its metadata can name codecs that unpickle what the file holds.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_dataset(xr.Dataset({"loss": ("step", [1.0, 2.0])}), Path(folder, "loss.nc"))
    ...     load_dataset(Path(folder, "loss.nc"))["loss"].values
    array([1., 2.])
    """
    if path.suffix.lower() != ".zarr":
        return load_netcdf(path)
    check_zarr_folder(path)
    with xr.open_zarr(path, consolidated=False, chunks=None, zarr_format=3) as opened:
        return _loaded(opened, path)


def load_netcdf(path: Path) -> xr.Dataset:
    """As :func:`load_dataset`, of a netCDF 3 file whatever it is called."""
    with path.open("rb") as file:
        if file.read(3) != b"CDF":
            raise ValueError("it is not a netCDF 3 file")
    with xr.open_dataset(path, engine="scipy") as opened:
        return _loaded(opened, path)


def _with_digest(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign_attrs({DIGEST: digest_of_dataset(dataset)})


def _loaded(opened: xr.Dataset, path: Path) -> xr.Dataset:
    _check_declared(opened, path)
    dataset = opened.load()
    check_digest(dataset.attrs.pop(DIGEST, None), digest_of_dataset(dataset))
    return dataset


def _check_declared(dataset: xr.Dataset, path: Path) -> None:
    """Raise for arrays that are far larger than what is stored of them: their metadata was altered."""
    stored = sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
    declared = sum(variable.nbytes for variable in dataset.variables.values())
    chunks = max((_chunks(variable) for variable in dataset.variables.values()), default=0)
    if declared > _SLACK + MOST_COMPRESSED * stored or chunks > _MOST_CHUNKS:
        raise ValueError(f"its arrays would have {declared} bytes in {chunks} parts, and it has {stored} bytes")


def _chunks(variable: xr.Variable) -> int:
    sizes = variable.encoding.get("chunks") or variable.shape
    return math.prod(-(-whole // max(part, 1)) for whole, part in zip(variable.shape, sizes, strict=True))
