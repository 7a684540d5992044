"""Finished transfers of a benchmark on disk: JSON lines, one added after each clip."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.errors import InvalidInputError, RecordingError
from store.files.damaged import damage_as
from store.files.digest import DIGEST, check_digest, digest_of_json
from store.files.outputs import OutputFile, check_modes

FINISHED_FILE = OutputFile("finished transfers", "mtbench.jsonl")
_FORMAT = "ditprobe evaluation of motion transfer 1"


class FinishedTransfers:
    """Measurements of each clip, in a file that is only appended to.

    Parameters
    ----------
    path : the file; None keeps nothing
    settings : JSON values by name; only a file of the same ones is resumed
    resume : go on with the file, where there is one; a last line that was cut by a kill is left out
    overwrite : replace the file

    Raises
    ------
    InvalidInputError
        Other settings, or both ``resume`` and ``overwrite``, or either without a path.
    OutputExistsError
        When the file exists and neither was asked for.
    RecordingError
        When the file is damaged, holds something else or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     FinishedTransfers(folder + "/done.jsonl", {"seed": 0}).add("1f", {"motion": 0.5})
    ...     FinishedTransfers(folder + "/done.jsonl", {"seed": 0}, resume=True).find("1f")
    {'motion': 0.5}
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        settings: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.finished: dict[str, dict[str, Any]] = {}
        self._settings = json.loads(json.dumps(dict(settings)))
        self._intact = 0
        check_finished(self.path, resume=resume, overwrite=overwrite)
        if self.path is not None and resume and self.path.exists():
            self._read(self.path)

    def find(self, key: str) -> dict[str, Any] | None:
        """Return what was measured, None where it was not yet."""
        return self.finished.get(key)

    def add(self, key: str, values: Mapping[str, Any]) -> None:
        """Keep what was measured; NaN is null in the file.

        Raises
        ------
        RecordingError
            When it cannot be written.
        """
        unknown = {name for name, value in values.items() if isinstance(value, float) and math.isnan(value)}
        plain = {name: None if name in unknown else value for name, value in values.items()}
        self.finished[key] = plain
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self._intact else "wb") as file:
                file.truncate(self._intact)
                file.seek(self._intact)
                if not self._intact:
                    file.write(_line({"format": _FORMAT, "settings": self._settings}))
                file.write(_line({"key": key, "values": plain}))
                file.flush()
                os.fsync(file.fileno())
                self._intact = file.tell()
        except OSError as error:
            raise RecordingError(f"finished transfers cannot be kept in {self.path}: {error}.") from error

    def _read(self, path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            del lines[-1]  # cut by a kill
        if not lines:
            return
        with damage_as(RecordingError, f"{path} has no finished transfers, or it is damaged", "Name another file."):
            rows = [_checked(json.loads(line)) for line in lines]
            if rows[0]["format"] != _FORMAT:
                raise ValueError("it is of another format")
            before = rows[0]["settings"]
            self.finished = {row["key"]: row["values"] for row in rows[1:]}
        if before != self._settings:
            names = [name for name in {**before, **self._settings} if before.get(name) != self._settings.get(name)]
            raise InvalidInputError(
                f"{path} has transfers of another {names[0]}: {before.get(names[0])!r} instead of "
                f"{self._settings.get(names[0])!r}. Resume with the same settings, or name another file."
            )
        self._intact = sum(map(len, lines))


def check_finished(path: Path | None, *, resume: bool = False, overwrite: bool = False) -> None:
    """Raise if finished transfers cannot be kept at a path.

    Raises
    ------
    InvalidInputError
        For both ``resume`` and ``overwrite``, and for either without a path.
    OutputExistsError, RecordingError
        As :meth:`store.files.outputs.OutputFile.check`.
    """
    check_modes(path, overwrite=overwrite, resume=resume, argument="checkpoint")
    if path is not None:
        FINISHED_FILE.check(path, overwrite=overwrite, resume=resume)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values | {DIGEST: digest_of_json(values)}).encode() + b"\n"


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in values.items() if name != DIGEST}
    check_digest(values.get(DIGEST), digest_of_json(plain))
    return plain
