"""Labelled results on disk, as ``.npz``, ``.nc`` or ``.zarr``: whole or not at all, and refused in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from store.errors import InvalidInputError, OutputExistsError, RecordingError
from store.files.atomic import atomic_write, check_file
from store.files.damaged import damage_as
from store.files.digest import DIGEST, check_digest, digest_of_dataset
from store.files.zarr_check import MOST_COMPRESSED, check_zarr_folder

SUFFIXES = (".npz", ".nc", ".zarr")
_SLACK = 1 << 28  # arrays of one repeated value are stored in next to nothing
_MOST_CHUNKS = 100_000


@dataclass(frozen=True)
class ArrayFiles:
    """One kind of result, by the words in which it is spoken of.

    Parameters
    ----------
    stem : name of a file where none is given
    goes : "tracks go", "a flow goes"
    nothing : "no tracks", "no flow"
    it : "the tracks", "the flow"

    Examples
    --------
    >>> maps = ArrayFiles("map", "a map goes", "no map", "the map")
    >>> maps.suffix(Path("map.csv"), "cannot be written")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: map.csv cannot be written: a map goes to a file ending in .npz, .nc or .zarr. Name it map.npz.
    """  # noqa: E501

    stem: str
    goes: str
    nothing: str
    it: str

    def suffix(self, path: Path, problem: str) -> str:
        """The suffix of a path in small letters; another than the three is refused."""
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise InvalidInputError(
                f"{path} {problem}: {self.goes} to a file ending in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}. "
                f"Name it {path.with_suffix('.npz') if path.name else f'{self.stem}.npz'}."
            )
        return suffix

    def check(self, path: Path, load: Callable[[Path], object], *, overwrite: bool) -> None:
        """Refuse a path that cannot be written to; a folder is replaced only where ``load`` finds a result."""
        suffix = self.suffix(path, "cannot be written")
        if path.exists() and not overwrite:
            raise OutputExistsError(
                f"{path} exists already. Choose another path for {self.it}, or pass overwrite=True."
            )
        if path.is_dir():
            try:
                load(path)
            except RecordingError as error:
                raise OutputExistsError(
                    f"{path} is there and holds {self.nothing}, so it is not replaced. Choose another path."
                ) from error
        check_file(path.with_name(f".{path.name}.trial") if suffix == ".zarr" else path, f"{self.stem}{suffix}")

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """A path beside, which takes the place of ``path`` in the end; after an error nothing is left of it."""
        try:
            with atomic_write(path) as partial:
                yield partial
        except OSError as error:
            raise RecordingError(f"{self.it} cannot be written to {path}: {error}.") from error

    @contextmanager
    def reading(self, path: Path) -> Iterator[str]:
        """The suffix of a result that is there; what fails while it is read is told as damage."""
        suffix = self.suffix(path, f"is no file of {self.nothing.removeprefix('no ')}")
        if not path.exists():
            raise RecordingError(f"{path} holds {self.nothing}: it does not exist.")
        with damage_as(RecordingError, f"{path} holds {self.nothing}, or it is damaged"):
            yield suffix


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
    """Refuse arrays that are far larger than what is stored of them: their metadata was altered."""
    stored = sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
    declared = sum(variable.nbytes for variable in dataset.variables.values())
    chunks = max((_chunks(variable) for variable in dataset.variables.values()), default=0)
    if declared > _SLACK + MOST_COMPRESSED * stored or chunks > _MOST_CHUNKS:
        raise ValueError(f"its arrays would have {declared} bytes in {chunks} parts, and it has {stored} bytes")


def _chunks(variable: xr.Variable) -> int:
    sizes = variable.encoding.get("chunks") or variable.shape
    return math.prod(-(-whole // max(part, 1)) for whole, part in zip(variable.shape, sizes, strict=True))
