"""Files that are only appended to: settings in the first line, then one JSON object a line, each with its digest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store.errors import InvalidInputError, RecordingError
from store.files.damaged import damage_as
from store.files.digest import DIGEST, check_digest, digest_of_json
from store.files.outputs import OutputFile, check_modes


@dataclass(frozen=True)
class AppendedKind:
    """One kind of such files, and how its errors name it.

    Parameters
    ----------
    file : OutputFile
        Where one may be written.
    form : str
        What the first line states as its format.
    holds : str
        A noun with its article: "an evaluation".
    entry : str
        What a line stands for, as in "Delete that line, and its {entry} again."
    """

    file: OutputFile
    form: str
    holds: str
    entry: str

    def check(self, path: Path | None, *, resume: bool = False, overwrite: bool = False) -> None:
        """Raise for a path that cannot be written to, or that is taken and neither resumed nor overwritten.

        Raises
        ------
        InvalidInputError
            For both ``resume`` and ``overwrite``, and for either without a path.
        OutputExistsError, RecordingError
            As :meth:`store.files.outputs.OutputFile.check`.
        """
        check_modes(path, overwrite=overwrite, resume=resume, argument="checkpoint")
        if path is not None:
            self.file.check(path, overwrite=overwrite, resume=resume)


@dataclass
class AppendedFile:
    """A file of one kind, which a killed run leaves whole but for its last line.

    Nothing is written before the first line is added.

    Parameters
    ----------
    kind : AppendedKind
    path : Path, optional
        None keeps nothing.
    settings : JSON values by name
        Only a file of the same ones is resumed.

    Examples
    --------
    >>> import tempfile
    >>> kind = AppendedKind(OutputFile("marks", "marks.jsonl"), "marks 1", "marks", "clip is marked")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "marks.jsonl")
    ...     AppendedFile(kind, path, {"seed": 0}).add({"mark": 3})
    ...     AppendedFile(kind, path, {"seed": 0}).read(lambda values: values["mark"])
    [3]
    """

    kind: AppendedKind
    path: Path | None
    settings: Mapping[str, Any]
    _intact: int = field(default=0, init=False)

    def add(self, values: Mapping[str, Any]) -> None:
        """Append a line, after the last whole one.

        Raises
        ------
        RecordingError
            When it cannot be written.
        """
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self._intact else "wb") as file:
                file.truncate(self._intact)  # of what a kill has cut
                file.seek(self._intact)
                if not self._intact:
                    file.write(_line({"format": self.kind.form, "settings": self._plain()}))
                file.write(_line(values))
                file.flush()
                os.fsync(file.fileno())
                self._intact = file.tell()
        except OSError as error:
            raise RecordingError(f"{self.kind.file.kind} cannot be kept in {self.path}: {error}.") from error

    def read(self, parse: Callable[[dict[str, Any]], Any]) -> list[Any]:
        """Return what ``parse`` makes of each line, and go on after them; nothing if there is no file.

        A last line that was cut by a kill is left out.

        Raises
        ------
        InvalidInputError
            For a file of other settings.
        RecordingError
            When the file is damaged or holds something else.
        """
        if self.path is None or not self.path.exists():
            return []
        content = self.path.read_bytes()
        lines = content.splitlines(keepends=True)
        if lines and _parsed(lines[-1]) is None:
            del lines[-1]
        if not lines:
            if content and not f'{{"format": "{self.kind.form}"'.encode().startswith(content[:20]):
                raise self._not_one(self.path)
            return []
        first = _parsed(lines[0])
        if first is None or first.get("format") != self.kind.form:
            raise self._not_one(self.path)
        remedy = f"Name another file, and every {self.kind.entry}."
        with damage_as(RecordingError, f"{self.path}, line 1, is damaged", remedy):
            settings = _checked(first)["settings"]
            if not isinstance(settings, dict):
                raise ValueError("its settings are not named")
        self._check_settings(self.path, settings)
        found = []
        for number, line in enumerate(lines[1:], 2):
            remedy = f"Delete that line, and its {self.kind.entry} again."
            with damage_as(RecordingError, f"{self.path}, line {number}, is damaged", remedy):
                found.append(parse(_checked(_parsed(line))))
        self._intact = sum(map(len, lines))
        return found

    def _plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps(dict(self.settings)))
        return plain

    def _not_one(self, path: Path) -> RecordingError:
        return RecordingError(f"{path} is not a checkpoint of {self.kind.holds}. Name another file.")

    def _check_settings(self, path: Path, before: dict[str, Any]) -> None:
        was, now = _flat(before), _flat(self._plain())
        changed = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        if changed:
            difference = "; ".join(f"{name} was {was.get(name)!r}, now {now.get(name)!r}" for name in changed)
            raise InvalidInputError(
                f"{path} holds {self.kind.holds} with other settings: {difference}. "
                f"Resume with the same ones, or name another checkpoint."
            )


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps({**values, DIGEST: digest_of_json(dict(values))}).encode() + b"\n"


def _checked(values: dict[str, Any] | None) -> dict[str, Any]:
    """The values of a line without its digest, which they must fit if there is one."""
    if values is None:
        raise ValueError("it is not whole")
    plain = {name: value for name, value in values.items() if name != DIGEST}
    check_digest(values.get(DIGEST), digest_of_json(plain))
    return plain


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The values of a whole line, None for one that is cut or is not JSON."""
    try:
        values = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested dicts by their path: ``trackers.flow.side``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return flat
