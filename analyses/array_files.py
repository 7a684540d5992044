"""Labelled results on disk, as ``.npz``, ``.nc`` or ``.zarr``: whole or not at all, and refused in words."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from analyses.checkpoint import check_file
from store.errors import InvalidInputError, OutputExistsError, RecordingError, UnsafePickleError

SUFFIXES = (".npz", ".nc", ".zarr")
_DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile)


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
        partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            if path.is_dir():
                shutil.rmtree(path)  # a folder cannot be replaced in one step
            os.replace(partial, path)
        except OSError as error:
            raise RecordingError(f"{self.it} cannot be written to {path}: {error}.") from error
        finally:
            if partial.is_dir():  # after an error or Ctrl-C
                shutil.rmtree(partial)
            else:
                partial.unlink(missing_ok=True)

    @contextmanager
    def reading(self, path: Path) -> Iterator[str]:
        """The suffix of a result that is there; what fails while it is read is told as damage."""
        suffix = self.suffix(path, f"is no file of {self.nothing.removeprefix('no ')}")
        if not path.exists():
            raise RecordingError(f"{path} holds {self.nothing}: it does not exist.")
        try:
            if suffix == ".npz" and not zipfile.is_zipfile(path):
                raise ValueError("it is no npz file")
            yield suffix
        except _DAMAGE as error:
            if "allow_pickle" in str(error):
                raise UnsafePickleError(f"{path} holds pickled objects and was not read. Save plain arrays.") from error
            reason = str(error).partition("\n")[0].rstrip(".")
            raise RecordingError(f"{path} holds {self.nothing}, or it is damaged: {reason}.") from error
