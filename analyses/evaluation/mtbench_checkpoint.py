"""Finished transfers of a benchmark on disk: JSON lines, one added after each clip."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.files.appended import AppendedFile, AppendedKind
from store.files.outputs import OutputFile

KIND = AppendedKind(
    OutputFile("finished transfers", "mtbench.jsonl"),
    "ditprobe evaluation of motion transfer 1",
    "an evaluation of motion transfer",
    "clip is made",
)


class FinishedTransfers:
    """Measurements of each clip, in a file that is only appended to.

    Parameters
    ----------
    path : the file; None keeps nothing
    settings : JSON values by name; only a file with the same settings is resumed
    resume : continue the file if it exists; a last line cut off by a kill is dropped
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
        KIND.check(self.path, resume=resume, overwrite=overwrite)
        self._file = AppendedFile(KIND, self.path, settings)
        rows = self._file.read(lambda row: (row["key"], dict(row["values"]))) if resume else []
        self.finished: dict[str, dict[str, Any]] = dict(rows)

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the measurements of a clip, or None if there are none yet."""
        return self.finished.get(key)

    def add(self, key: str, values: Mapping[str, Any]) -> None:
        """Save the measurements of a clip; NaN is null in the file.

        Raises
        ------
        RecordingError
            When it cannot be written.
        """
        unknown = {name for name, value in values.items() if isinstance(value, float) and math.isnan(value)}
        plain = {name: None if name in unknown else value for name, value in values.items()}
        self.finished[key] = plain
        self._file.add({"key": key, "values": plain})
