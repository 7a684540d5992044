"""Finished clips of an evaluation on disk: JSON lines, one added after each clip and tracker."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from analyses.metrics.tapvid import METRICS
from store.checks import finite, integer
from store.errors import InvalidInputError, RecordingError
from store.files.damaged import damage_as
from store.files.digest import DIGEST, check_digest, digest_of_json, digests_of_values
from store.files.outputs import OutputFile, check_modes

_FILE = OutputFile("finished clips", "clips.jsonl")
_FORMAT = "ditprobe evaluation of trackers 1"
_IDENTITY = ("name", "revision", "config_hash", "dtype", "threshold")
_NO_SETTINGS = ("budget_bytes",)


@dataclass(frozen=True)
class FinishedClip:
    """Scores of one tracker on one clip.

    Parameters
    ----------
    tracker, clip : names
    digest : :func:`store.clips.digest.digest_of_clip` of the clip
    images, queries : how many there were
    metrics : of :func:`analyses.metrics.tapvid.tapvid_metrics`
    seconds : that the tracker took
    further : metrics of :data:`analyses.metrics.registry.TRACKING_METRICS` by name
    """

    tracker: str
    clip: str
    digest: str
    images: int
    queries: int
    metrics: Mapping[str, float]
    seconds: float
    further: Mapping[str, float] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """A line of JSON, which has no NaN, with a digest of itself."""
        values = asdict(self) | {"metrics": _without_nan(self.metrics), "further": _without_nan(self.further)}
        return _line(values if self.further else {name: values[name] for name in values if name != "further"})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> FinishedClip:
        """Return what :meth:`to_line` wrote, without its digest.

        Raises
        ------
        ValueError, KeyError, TypeError, ...
            For other values.
        """
        metrics, further = _with_nan(values["metrics"]), _with_nan(values.get("further", {}))
        if set(metrics) != set(METRICS) or not all(math.isnan(value) or 0 <= value <= 1 for value in metrics.values()):
            raise ValueError("its metrics are not those of TAP-Vid, or not fractions")
        found = cls(**{**values, "metrics": {name: metrics[name] for name in METRICS}, "further": further})
        if not all(isinstance(text, str) for text in (found.tracker, found.clip, found.digest)):
            raise ValueError("its names are not texts")
        integer(found.images, "images", least=1)
        integer(found.queries, "queries", least=1)
        finite(found.seconds, "seconds", least=0)
        return found


def _without_nan(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def _with_nan(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in metrics.items()}


class EvaluationCheckpoint:
    """Finished clips in a file that is only ever added to, so that a killed run loses no more than the current clip.

    Nothing is written before the first clip is finished. The first line holds the settings.

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
    >>> clip = FinishedClip("flow", "goat", "1f", 90, 25, dict.fromkeys(METRICS, 0.5), 2.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     EvaluationCheckpoint(folder + "/clips.jsonl", {"mode": "first"}).add(clip)
    ...     again = EvaluationCheckpoint(folder + "/clips.jsonl", {"mode": "first"}, resume=True)
    >>> again.find("flow", "goat", "1f") == clip, again.find("flow", "swan", "2a")
    (True, None)
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
        self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings)))
        self.finished: dict[tuple[str, str], FinishedClip] = {}
        self._intact = 0
        check_checkpoint(self.path, resume=resume, overwrite=overwrite)
        if self.path is not None and resume and self.path.exists():
            self._read(self.path)

    def find(self, tracker: str, clip: str, digest: str) -> FinishedClip | None:
        """Return what the tracker scored on the clip, or None where that is not known yet.

        Raises
        ------
        InvalidInputError
            When the clip of that name was another one.
        """
        found = self.finished.get((tracker, clip))
        if found is not None and found.digest != digest:
            raise InvalidInputError(
                f"{self.path} holds clip {clip!r}, which is another clip now. "
                f"Pass the same clips, or name another checkpoint."
            )
        return found

    def add(self, clip: FinishedClip) -> None:
        """Keep a finished clip.

        Raises
        ------
        RecordingError
            When it cannot be written.
        """
        self.finished[clip.tracker, clip.clip] = clip
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self._intact else "wb") as file:
                file.truncate(self._intact)  # of what a kill has cut
                file.seek(self._intact)
                if not self._intact:
                    file.write(_line({"format": _FORMAT, "settings": self.settings}))
                file.write(clip.to_line())
                file.flush()
                os.fsync(file.fileno())
                self._intact = file.tell()
        except OSError as error:
            raise RecordingError(f"finished clips cannot be kept in {self.path}: {error}.") from error

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        lines = content.splitlines(keepends=True)
        if lines and _parsed(lines[-1]) is None:  # cut by a kill
            del lines[-1]
        if not lines:
            if content and not f'{{"format": "{_FORMAT}"'.encode().startswith(content[:20]):
                raise _no_checkpoint(path)
            return
        first = _parsed(lines[0])
        if first is None or first.get("format") != _FORMAT:
            raise _no_checkpoint(path)
        with damage_as(RecordingError, f"{path}, line 1, is damaged", "Name another file, and every clip is tracked."):
            settings = _checked(first)["settings"]
            if not isinstance(settings, dict):
                raise ValueError("its settings are not named")
        self._check_settings(path, settings)
        for number, line in enumerate(lines[1:], 2):
            with damage_as(
                RecordingError,
                f"{path}, line {number}, is damaged",
                "Delete that line, and its clip is tracked again.",
            ):
                clip = FinishedClip.from_values(_checked(_parsed(line)))
            self.finished[clip.tracker, clip.clip] = clip
        self._intact = sum(map(len, lines))

    def _check_settings(self, path: Path, before: dict[str, Any]) -> None:
        was, now = _flat(before), _flat(self.settings)
        changed = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        if changed:
            difference = "; ".join(f"{name} was {was.get(name)!r}, now {now.get(name)!r}" for name in changed)
            raise InvalidInputError(
                f"{path} holds an evaluation with other settings: {difference}. "
                f"Resume with the same ones, or name another checkpoint."
            )


def _no_checkpoint(path: Path) -> RecordingError:
    return RecordingError(f"{path} is not a checkpoint of an evaluation. Name another file.")


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values | {DIGEST: digest_of_json(values)}).encode() + b"\n"


def _checked(values: dict[str, Any] | None) -> dict[str, Any]:
    """The values of a line without its digest, which they must fit where there is one."""
    if values is None:
        raise ValueError("it is not whole")
    plain = {name: value for name, value in values.items() if name != DIGEST}
    check_digest(values.get(DIGEST), digest_of_json(plain))
    return plain


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The values of a whole line, None for one that is cut or no JSON."""
    try:
        values = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def check_checkpoint(path: Path | None, *, resume: bool = False, overwrite: bool = False) -> None:
    """Raise for a path that no checkpoint can be written to, or that is taken and neither resumed nor overwritten.

    Raises
    ------
    InvalidInputError
        For both ``resume`` and ``overwrite``, and for either without a path.
    OutputExistsError, RecordingError
        As :meth:`store.files.outputs.OutputFile.check`.

    Examples
    --------
    >>> check_checkpoint(None, resume=True)
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: resume=True needs a file. Pass checkpoint=, or leave it out.
    """
    check_modes(path, overwrite=overwrite, resume=resume, argument="checkpoint")
    if path is not None:
        _FILE.check(path, overwrite=overwrite, resume=resume)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested dicts by their path: ``trackers.flow.side``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return flat


def described(value: Any) -> Any:
    """Return what a tracker is, as JSON values that are the same in another process.

    Of a dataclass every field; of a function its name; of a pipeline's arguments a hash of each; of other objects their
    kind, and the name, revision, configuration and threshold that they state.

    Examples
    --------
    >>> from analyses.trackers.optical_flow import FlowTracker
    >>> from analyses.trackers.static import StaticTracker
    >>> described(FlowTracker()), described(StaticTracker())
    ({'kind': 'FlowTracker', 'side': 160, 'tolerance': 1.0}, {'kind': 'StaticTracker'})
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, Mapping):  # arguments of a pipeline
        return digests_of_values(value)
    kind = {"kind": type(value).__qualname__}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: getattr(value, each.name) for each in fields(value) if each.name not in _NO_SETTINGS}
        return kind | {name: described(part) for name, part in parts.items()}
    stated = {name: str(getattr(value, name)) for name in _IDENTITY if getattr(value, name, None) is not None}
    return getattr(value, "__qualname__", None) or kind | stated
