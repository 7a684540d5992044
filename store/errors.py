"""Every error that ditprobe raises on purpose.

Each one subclasses :class:`DitprobeError` and the builtin that a caller who knows nothing of ditprobe would
catch. A message says what was asked, what exists, and what to do about it.
"""

from __future__ import annotations

from store.wording import Namer, Wording, worded


class Remedied:
    """Message with a remedy, both of which may name arguments; the common part of errors and warnings.

    Parameters
    ----------
    message : what was asked and what exists
    remedy : what to do about it, as a sentence with its full stop
    """

    def __init__(self, message: Wording | str = "", *, remedy: Wording | str = "") -> None:
        self.message, self.remedy = message, remedy
        # the next in line is an exception, here and in every subclass
        super().__init__(" ".join(part for part in (str(message), str(remedy)) if part))  # type: ignore[call-arg]

    def worded(self, name: Namer) -> str:
        """Return the message and its remedy with each argument as ``name(argument, value)`` writes it."""
        return " ".join(part for part in (worded(self.message, name), worded(self.remedy, name)) if part)


class DitprobeError(Remedied, Exception):
    """Base of every error that ditprobe raises on purpose.

    Parameters
    ----------
    message : what was asked and what exists
    remedy : what to do about it, as a sentence with its full stop

    Examples
    --------
    >>> error = DitprobeError("a.nc exists already.", remedy=Wording("Pass {overwrite}.", overwrite=True))
    >>> str(error)
    'a.nc exists already. Pass overwrite=True.'
    >>> error.worded(lambda name, value: f"--{name}")
    'a.nc exists already. Pass --overwrite.'
    """


class DitprobeWarning(Remedied, UserWarning):
    """Base of every warning that ditprobe gives on purpose."""


class InvalidInputError(DitprobeError, ValueError):
    """An argument has a wrong shape, kind or value (a NaN track, a wrong-rank tensor, an empty selection).

    Attributes
    ----------
    wanted : str
        The kind that the argument must be of, where that is what is wrong with it.
    """

    wanted: str = ""


class ClipError(InvalidInputError):
    """A clip cannot be used: no images, a truncated file, tracks of another length."""


class EmptySelectionError(InvalidInputError):
    """A layer selection holds no layer where one is needed: none was good enough to be chosen."""


class UnknownLayerError(DitprobeError, IndexError):
    """A layer, head, step or branch that the backbone does not have."""


class NotRecordedError(DitprobeError, LookupError):
    """A step, layer, branch or head that exists but is not in this recording."""


class PlanTooLargeError(DitprobeError, ValueError):
    """A plan needs more bytes than its limit allows."""


class OutputExistsError(DitprobeError, FileExistsError):
    """The output path is taken and overwriting was not asked for."""


class RecordingError(DitprobeError, OSError):
    """A recording cannot be read or written (disk full, wrong fingerprint, not a recording)."""


class CorruptRecordingError(RecordingError):
    """A record of a recording is missing or damaged; the message names its step and layer."""


class FormatVersionError(RecordingError):
    """The recording was written in a newer format than this ditprobe reads."""


class UnsupportedBackboneError(DitprobeError, TypeError):
    """The model cannot be probed; the message says why."""


class ProbeStateError(DitprobeError, RuntimeError):
    """A probe that is open was entered again, or a second thread ran the model under it."""


class NotFiniteError(DitprobeError, FloatingPointError):
    """A run met numbers that are not finite, or far larger than any a model produces, and was stopped.

    Attributes
    ----------
    step : int or None
        The denoising step, 0 = most noise; None outside of a run.
    """

    def __init__(self, message: Wording | str = "", *, remedy: Wording | str = "", step: int | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.step = step


class BackboneNotFoundError(DitprobeError, FileNotFoundError):
    """No pipeline at that name, folder or hub id."""


class UnsafePickleError(DitprobeError, ValueError):
    """A pickle holds more than arrays and was rejected unread."""


class MissingOpenCVError(DitprobeError, ImportError):
    """OpenCV is needed and not installed."""


class MissingScikitLearnError(DitprobeError, ImportError):
    """scikit-learn is needed and not installed."""


class MissingFigureWriterError(DitprobeError, ImportError):
    """Kaleido, or the browser that it draws with, is needed to write a figure and is not there."""


class MissingWidgetsError(DitprobeError, ImportError):
    """Anywidget is needed for a widget in a notebook and is not installed."""
