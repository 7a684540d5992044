"""Exclusive writers of a recording: a lock for the life of a writer, and folders that are put in place at once."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from store.errors import OutputExistsError, RecordingError
from store.recordings.sources import check_replaceable

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "status/lock"  # inside an array: Zarr warns of files of others next to arrays
_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
_HELD = {errno.EAGAIN, errno.EACCES}


class WriterLock:
    """The right to write into a recording, from now until :meth:`release` or the end of the process.

    An exclusive ``flock`` on a file that holds the process id, for the message to the second writer. The system
    drops it with the process, so a recording whose writer was killed is free again. Where the system or its file
    system has no ``flock`` (Windows, some network disks), writers are not kept apart.

    Parameters
    ----------
    folder : the recording, which must exist
    path : what to call it in errors, by default ``folder``

    Raises
    ------
    RecordingError
        Another writer has it (the message names its process), or the folder is gone.
    """

    def __init__(self, folder: Path, path: Path | None = None) -> None:
        self.folder, path = folder, folder if path is None else path
        self._descriptor: int | None = None
        if fcntl is None:
            return
        file = folder / LOCK
        while self._descriptor is None:
            try:
                file.parent.mkdir(exist_ok=True)
                descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:
                raise RecordingError(f"{path} was removed just now, by another writer or by hand.") from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.read(descriptor, 20)
                os.close(descriptor)
                if error.errno in _UNSUPPORTED:
                    return
                if error.errno in _HELD:
                    raise RecordingError(_held(path, file, holder)) from None
                raise
            if _is_file(descriptor, file):  # else the holder removed the file just before its lock was free
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                self._descriptor = descriptor
            else:
                os.close(descriptor)

    @property
    def held(self) -> bool:
        """True where others are kept out; False where the system has no ``flock``."""
        return self._descriptor is not None

    def release(self) -> None:
        """Let others write; the file goes, so that a recording that is ready has nothing but its arrays."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        file = self.folder / LOCK
        if _is_file(descriptor, file):
            file.unlink(missing_ok=True)
        os.close(descriptor)


def install(path: Path, build: Callable[[Path], object], *, overwrite: bool = False) -> WriterLock:
    """Build a recording aside and put it in place at once, locked; nothing is replaced unless that was asked for.

    Parameters
    ----------
    path : where it goes; a link is followed
    build : callable
        Makes the recording in an empty folder that it is given.
    overwrite : bool
        Replace the recording that is there, unless another writer has it open.

    Returns
    -------
    WriterLock

    Raises
    ------
    OutputExistsError, RecordingError
    """
    place = Path(os.path.realpath(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path, overwrite=overwrite)
    staging = _aside(place)
    staging.mkdir()
    lock = WriterLock(staging)
    try:
        build(staging)
        replaced = _take_away(place, path) if overwrite and place.exists() else None
        try:
            os.rename(staging, place)  # fails if a folder that is not empty has appeared meanwhile
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise OutputExistsError(f"{path} was created by another writer just now. Choose another path.") from error
        finally:
            if replaced is not None:
                shutil.rmtree(replaced.folder, ignore_errors=True)
                replaced.release()
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        lock.release()
        raise
    lock.folder = place
    return lock


def remove_leftovers(path: Path) -> None:
    """Remove the folders that writers of this recording left next to it when they were killed."""
    place = Path(os.path.realpath(path))
    name = re.compile(re.escape(f".{place.name}.") + r"(\d+)(\.[0-9a-f]{8})?\.partial")
    for folder in place.parent.glob(f".{glob.escape(place.name)}.*.partial"):
        found = name.fullmatch(folder.name)
        if found and _is_abandoned(folder, int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.partial")


def _take_away(place: Path, path: Path) -> WriterLock:
    """Move a recording aside under its own lock, which tells other writers that it is not for them."""
    lock = WriterLock(place, path)
    aside = _aside(place)
    try:
        os.rename(place, aside)
    except BaseException:
        lock.release()
        raise
    lock.folder = aside
    return lock


def _is_abandoned(folder: Path, process: int) -> bool:
    """True if there is no writer any longer: its lock was taken once and is free, or its process is dead."""
    try:
        if not (folder / LOCK).stat().st_size:
            return not _is_alive(process)  # its maker may be about to take it
        lock = WriterLock(folder)
    except FileNotFoundError:
        return not _is_alive(process)
    except OSError:
        return False
    free = lock.held
    lock.release()
    return free or not _is_alive(process)


def _is_alive(process: int) -> bool:
    if fcntl is None:
        return True  # asking Windows in this way would end the process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it belongs to somebody else
    return True


def _is_file(descriptor: int, file: Path) -> bool:
    """True where the open file is still the one of that name."""
    try:
        named, opened = os.stat(file), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _held(path: Path, file: Path, holder: bytes) -> str:
    try:
        process = int(holder)
    except ValueError:
        return f"{path} is being written by another process. Wait until it ends, or choose another path."
    if _is_alive(process):
        return f"{path} is being written by process {process}. Wait until it ends, or choose another path."
    return (
        f"{path} is being written by process {process}, which does not run on this machine. If it does not run on "
        f"another one either, a child of it has kept the lock: end that, or remove {file}."
    )
