"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import OutputExistsError, RecordingError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path beside ``path``, with the same suffix, that takes its place at the end if it was written.

    A folder at ``path`` is replaced by a folder. After an error, or when the program is interrupted, nothing is left
    of the new one and the old one is as it was.

    Raises
    ------
    OSError
        As the system gives it.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder, "deep/er/notes.txt")) as partial:
    ...         _ = partial.write_text("whole")
    ...     [file.name for file in Path(folder, "deep/er").iterdir()]
    ['notes.txt']
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        if partial.exists():
            if path.is_dir():
                shutil.rmtree(path)  # a folder cannot be replaced in one step
            os.replace(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def check_file(path: str | os.PathLike[str], example: str) -> None:
    """Refuse a path that no file can be written to, before the work that would be lost.

    Raises
    ------
    OutputExistsError
        For a folder, and for a path below a file.
    RecordingError
        Where the system refuses.

    Examples
    --------
    >>> check_file(".", "sweep.nc")
    Traceback (most recent call last):
    ...
    store.errors.OutputExistsError: . is a folder. Name a file, for example sweep.nc.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder. Name a file, for example {path / example}.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise OutputExistsError(f"{path} cannot be written: {folder} is a file, not a folder. Choose another path.")
    try:
        # Permission bits alone do not say it: not of a read-only disk, and not to an administrator.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {error.strerror} in {folder}. Choose another path.") from error
