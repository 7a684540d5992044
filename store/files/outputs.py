"""Kinds of result files: where one may be written and read, in the same words for all of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from store.errors import DitprobeError, InvalidInputError, OutputExistsError, RecordingError
from store.files.atomic import atomic_write
from store.files.damaged import damage_as
from store.wording import Wording


@dataclass(frozen=True)
class OutputFile:
    """One kind of result file.

    Parameters
    ----------
    kind : a noun without an article, used in messages: "flow", "tracks", "motion embedding"
    example : a file name that is offered where none was given: "flow.npz"
    suffixes : in small letters; none for a kind that goes to a file of any name
    damage : the error of a damaged file
    remedy : what to do about a damaged file, as a sentence with its full stop

    Examples
    --------
    >>> maps = OutputFile("map", "map.npy", (".npy", ".npz"))
    >>> maps.check("map.csv")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: map.csv cannot hold the map: its suffix must be .npy or .npz. Name it map.npy.
    """

    kind: str
    example: str
    suffixes: tuple[str, ...] = ()
    damage: type[DitprobeError] = RecordingError
    remedy: str = ""

    def check(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        resume: bool | None = None,
        companions: tuple[Path, ...] = (),
    ) -> None:
        """Validate a path to write to, before the work that would be lost.

        Parameters
        ----------
        path : where the result is to go
        overwrite : whether what is there may be replaced
        resume : whether what is there is to be completed; None for a kind that cannot be resumed
        companions : further files that are written with it

        Raises
        ------
        InvalidInputError
            Another suffix.
        OutputExistsError
            Something is there that may not be replaced, or the path is a folder or below a file.
        RecordingError
            When the operating system does not allow it.
        """
        path = Path(path)
        check_writable(path, self.example)
        self.check_suffix(path)
        check_free(path, self.kind, overwrite=overwrite, resume=resume, companions=companions)

    def check_suffix(self, path: Path, problem: str = "cannot hold the {}") -> str:
        """Return the suffix of a path in small letters.

        Raises
        ------
        InvalidInputError
            Another than those of this kind.
        """
        suffix = path.suffix.lower()
        if self.suffixes and suffix not in self.suffixes:
            *first, last = self.suffixes
            known = f"{', '.join(first)} or {last}" if first else last
            better = path.with_suffix(Path(self.example).suffix) if path.name else self.example
            raise InvalidInputError(
                f"{path} {problem.format(self.kind)}: its suffix must be {known}.", remedy=f"Name it {better}."
            )
        return suffix

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Temporary path that replaces ``path`` at the end; after an error nothing is left of it.

        Raises
        ------
        RecordingError
            It cannot be written.
        """
        try:
            with atomic_write(path) as partial:
                yield partial
        except OSError as error:
            if isinstance(error, DitprobeError):
                raise
            raise RecordingError(f"the {self.kind} cannot be written to {path}: {error.strerror or error}.") from error

    def write(self, path: Path, content: bytes | str) -> None:
        """Write a whole file, atomically; texts as UTF-8.

        Raises
        ------
        RecordingError
            It cannot be written.
        """
        with self.writing(path) as partial, partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def reading(self, path: Path) -> Iterator[str]:
        """Suffix of a result that is there; what fails while it is read is reported as damage.

        Raises
        ------
        InvalidInputError
            Another suffix than those of this kind.
        RecordingError
            Nothing is at the path.
        """
        if path.is_dir() and not (path.suffix.lower() == ".zarr" and ".zarr" in self.suffixes):
            raise RecordingError(
                f"{path} holds no {self.kind}: it is a folder.", remedy=f"Name a file, for example {self.example}."
            )
        suffix = self.check_suffix(path, "holds no {}")
        if not path.exists():
            raise RecordingError(f"{path} holds no {self.kind}: it does not exist.")
        with damage_as(self.damage, f"{path} holds no {self.kind}, or it is damaged", self.remedy):
            yield suffix


def check_writable(path: str | os.PathLike[str], example: str) -> None:
    """Validate that a file can be written to a path, whether or not one is there.

    Parameters
    ----------
    path : of a file
    example : name of a file, for the remedy

    Raises
    ------
    OutputExistsError
        For a folder, and for a path below a file.
    RecordingError
        When the operating system does not allow it.

    Examples
    --------
    >>> check_writable(".", "sweep.nc")
    Traceback (most recent call last):
    ...
    store.errors.OutputExistsError: . is a folder. Name a file, for example sweep.nc.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder.", remedy=f"Name a file, for example {path / example}.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        problem = f"{path} cannot be written: {folder} is a file, not a folder."
        raise OutputExistsError(problem, remedy="Choose another path.")
    try:
        # Permission bits alone do not say it: not of a read-only disk, and not to an administrator.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RecordingError(
            f"{path} cannot be written: {error.strerror} in {folder}.", remedy="Choose another path."
        ) from error


def check_free(
    path: Path,
    kind: str,
    *,
    overwrite: bool = False,
    resume: bool | None = None,
    companions: tuple[Path, ...] = (),
) -> None:
    """Validate that a path is free, or may be replaced or completed.

    Raises
    ------
    InvalidInputError
        ``resume`` and ``overwrite`` at once.
    OutputExistsError
        Something is there, and neither was asked for.

    Examples
    --------
    >>> check_free(Path("."), "recording", resume=False)
    Traceback (most recent call last):
    ...
    store.errors.OutputExistsError: . exists already. Choose another path for the recording, or pass overwrite=True to replace it or resume=True to complete it.
    """  # noqa: E501
    check_modes(path, overwrite=overwrite, resume=bool(resume))
    taken = [str(each) for each in (path, *companions) if each.exists()]
    if not taken or overwrite or resume:
        return
    both = len(taken) > 1
    how = f"Choose another path for the {kind}, or pass {{overwrite}} to replace {'them' if both else 'it'}"
    remedy = Wording(how + ".", overwrite=True)
    if resume is not None:
        remedy = Wording(how + " or {resume} to complete it.", overwrite=True, resume=True)
    raise OutputExistsError(f"{' and '.join(taken)} exist{'s' * (not both)} already.", remedy=remedy)


def check_modes(path: str | os.PathLike[str] | None, *, overwrite: bool, resume: bool, argument: str = "path") -> None:
    """Validate that ``resume`` and ``overwrite`` are not both asked for, and neither of them without a file.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_modes(None, overwrite=False, resume=True, argument="save")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: resume=True needs a file. Pass save=, or leave it out.
    """
    if resume and overwrite:
        both = Wording("{resume} and {overwrite} are mutually exclusive:", resume=True, overwrite=True)
        raise InvalidInputError(both, remedy="the first completes what is there, the second replaces it. Pass one.")
    if path is None and (resume or overwrite):
        asked = "resume" if resume else "overwrite"
        raise InvalidInputError(
            Wording(f"{{{asked}}} needs a file.", **{asked: True}),
            remedy=Wording(f"Pass {{{argument}}}, or leave it out.", **{argument: ...}),
        )
