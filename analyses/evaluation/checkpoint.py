"""Finished clips of an evaluation on disk: JSON lines, one added after each clip and tracker."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from analyses.metrics.tapvid import METRICS
from store.checks import finite, integer
from store.errors import InvalidInputError
from store.files.appended import AppendedFile, AppendedKind
from store.files.digest import digests_of_values
from store.files.outputs import OutputFile

KIND = AppendedKind(
    OutputFile("finished clips", "clips.jsonl"), "ditprobe evaluation of trackers 1", "an evaluation", "clip is tracked"
)
_IDENTITY = ("name", "revision", "config_hash", "dtype", "threshold")
_NO_SETTINGS = ("budget_bytes",)


@dataclass(frozen=True)
class FinishedClip:
    """Scores of one tracker on one clip.

    Parameters
    ----------
    tracker, clip : names
    digest : :func:`store.clips.digest.digest_of_clip` of the clip
    images, queries : their numbers
    metrics : of :func:`analyses.metrics.tapvid.tapvid_metrics`
    seconds : time that the tracker took
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

    def to_values(self) -> dict[str, Any]:
        """Return the scores as JSON values; NaN, which JSON lacks, becomes null."""
        values = asdict(self) | {"metrics": _without_nan(self.metrics), "further": _without_nan(self.further)}
        return values if self.further else {name: values[name] for name in values if name != "further"}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> FinishedClip:
        """Return the clip that :meth:`to_values` gave.

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
            raise ValueError("its names are not strings")
        integer(found.images, "images", min_value=1)
        integer(found.queries, "queries", min_value=1)
        finite(found.seconds, "seconds", min_value=0)
        return found


def _without_nan(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def _with_nan(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in metrics.items()}


class EvaluationCheckpoint:
    """Finished clips in an append-only file, so that a killed run loses no more than the current clip.

    Nothing is written before the first clip is finished. The first line holds the settings.

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
        KIND.check(self.path, resume=resume, overwrite=overwrite)
        self._file = AppendedFile(KIND, self.path, settings)
        clips = self._file.read(FinishedClip.from_values) if resume else []
        self.finished = {(clip.tracker, clip.clip): clip for clip in clips}

    def find(self, tracker: str, clip: str, digest: str) -> FinishedClip | None:
        """Return the tracker's scores on the clip, or None if they are not known yet.

        Raises
        ------
        InvalidInputError
            When the file has scores of another clip of that name.
        """
        found = self.finished.get((tracker, clip))
        if found is not None and found.digest != digest:
            raise InvalidInputError(
                f"{self.path} holds clip {clip!r}, which is now a different clip. "
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
        self._file.add(clip.to_values())


def described(value: Any) -> Any:
    """Return a description of a tracker as JSON values that are the same in another process.

    A dataclass gives every field, a function its name, the arguments of a pipeline a hash each, and any other object
    its type and the name, revision, configuration and threshold that it states.

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
