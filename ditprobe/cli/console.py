"""Output of the command line: progress, answers and errors."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, overload

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ditprobe.cli.interrupts import INTERRUPTED, raise_from_now_on
from store.errors import DitprobeError, DitprobeWarning, RecordingError
from store.text import printable
from store.wording import Namer, Wording, in_python

BAD_INPUT, FAILURE = 2, 1
_OURS = ("store", "probe", "analyses", "generators")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Verb = TypeVar("Verb", bound=Callable[..., Any])
Interrupted = Callable[[Mapping[str, Any]], str]

_RENAMED = {"limit_bytes": "limit"}
"""Options whose name differs from the argument's."""


def option_namer(parameters: Collection[str] = ()) -> Namer:
    """Return a function that turns argument names in errors and warnings into the options of a verb.

    Parameters
    ----------
    parameters : names of the verb's parameters
        An argument that is not an option of the verb keeps its name in Python.

    Examples
    --------
    >>> name = option_namer(["limit", "at", "branches", "size"])
    >>> name("limit_bytes", 2000), name("steps", [0, -1]), name("branches", ("cond",)), name("size", (40, 64))
    ('--limit 2000', '--at 0,-1', '--branches cond', '--size 40x64')
    >>> name("overwrite", True)
    'overwrite=True'
    """

    def name(argument: str, value: Any) -> str:
        several = isinstance(value, (list, tuple))
        option = "at" if argument == "steps" and several else _RENAMED.get(argument, argument)
        if option not in parameters:
            return in_python(argument, value)
        written = f"--{option.replace('_', '-')}"
        if value is True or value is None or value is ...:
            return written
        if several:
            value = ("x" if option == "size" else ",").join(map(str, value))
        return f"{written} {value}"

    return name


def for_command_line(error: DitprobeError | DitprobeWarning, parameters: Collection[str] = ()) -> str:
    """Return the text of an error or a warning with the options of a verb in place of the arguments of Python.

    Parameters
    ----------
    error : an error or a warning of the library
    parameters : names of the verb's parameters

    Examples
    --------
    >>> error = DitprobeError("the plan is too large.", remedy=Wording("Raise it with {limit_bytes}.", limit_bytes=9))
    >>> for_command_line(error, ["limit"])
    'the plan is too large. Raise it with --limit 9.'
    """
    named = {name for text in (error.message, error.remedy) if isinstance(text, Wording) for name in text.arguments}
    text = error.worded(option_namer(parameters))
    if "conditioning" in named - set(parameters):
        text += " There is no option for conditioning: run this from Python."
    return text


@overload
def verb(function: Verb) -> Verb: ...


@overload
def verb(*, interrupted: Interrupted) -> Callable[[Verb], Verb]: ...


def verb(function: Callable[..., Any] | None = None, *, interrupted: Interrupted | None = None) -> Callable[..., Any]:
    """Turn what a verb raises into a message and an exit code: 2 for bad input, 1 for failure, 130 for Ctrl-C.

    Parameters
    ----------
    function : the verb
    interrupted : callable, optional
        Function of the verb's arguments that returns a message for Ctrl-C about the finished work. By default a verb
        with a parameter ``resume`` names that option and others print nothing.

    Examples
    --------
    >>> @verb
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> double(4)
    8
    """
    if function is None:
        return functools.partial(verb, interrupted=interrupted)
    parameters, kept = inspect.signature(function).parameters, interrupted or _resumable

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            raise_from_now_on()
            with _printed_warnings(parameters):
                return function(*args, **kwargs)
        except DitprobeError as error:
            # a disk that is full or broken is not the caller's mistake
            failed = isinstance(error, RecordingError) and isinstance(error.__cause__, OSError)
            complain(f"error: {for_command_line(error, parameters)}", style="red")
            raise typer.Exit(FAILURE if failed else BAD_INPUT) from error
        except KeyboardInterrupt as error:
            complain(f"interrupted. {kept(kwargs)}".rstrip())
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError:
            raise  # the reader of a pipe, such as `| head`, has ended; typer ends quietly
        except OSError as error:
            complain(f"error: {error}", style="red")
            raise typer.Exit(FAILURE) from error

    return run


@contextmanager
def _printed_warnings(parameters: Collection[str]) -> Iterator[None]:
    """Print our own warnings on standard error, once each, without the source line that Python would add."""
    with warnings.catch_warnings():
        show = warnings.showwarning
        printed: set[str] = set()

        def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if category.__module__.partition(".")[0] not in _OURS:
                show(message, category, *where, **more)
            elif str(message) not in printed:
                printed.add(str(message))  # Python forgets what it has shown when a library changes the filters
                text = for_command_line(message, parameters) if isinstance(message, DitprobeWarning) else str(message)
                complain(f"warning: {text}")

        warnings.showwarning = tell
        yield


def _resumable(given: Mapping[str, Any]) -> str:
    if "resume" not in given or given.get("dry_run"):
        return ""
    how = "--resume in place of --overwrite" if given.get("overwrite") else "--resume"
    return f"Finished work is kept; run the same command with {how} to continue."


@contextmanager
def progress(description: str) -> Iterator[Callable[..., None]]:
    """Show a bar on standard error; yield a callback that takes (done, total[, label])."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(description, total=None)

        def update(done: int, total: int, label: str | None = None) -> None:
            text = description if label is None else f"{description} {label}"
            bar.update(task, completed=done, total=total, description=printable(text, one_line=True))

        yield update


def say(text: object = "") -> None:
    """Print a line of the answer to standard output; brackets in it are text, not markup."""
    out.print(printable(str(text)), markup=False, emoji=False)


def complain(text: str, *, style: str = "yellow") -> None:
    """Print an error, a warning or a note to standard error."""
    err.print(printable(text), style=style, markup=False, emoji=False)
