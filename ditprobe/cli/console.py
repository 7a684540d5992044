"""What the command line prints: progress, answers and errors."""

from __future__ import annotations

import functools
import inspect
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, overload

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ditprobe.cli.interrupts import INTERRUPTED, raise_from_now_on
from store.errors import DitprobeError, RecordingError
from store.text import printable

BAD_INPUT, FAILURE = 2, 1
_OURS = ("store", "probe", "analyses", "generators")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Verb = TypeVar("Verb", bound=Callable[..., Any])
Interrupted = Callable[[Mapping[str, Any]], str]

# What messages of the library call an argument, the option that it is here, and the parameter of a verb that has it.
_OPTIONS: tuple[tuple[str, Callable[[re.Match[str]], str], str], ...] = (
    (r"overwrite=True", lambda _: "--overwrite", "overwrite"),
    (r"resume=True", lambda _: "--resume", "resume"),
    (r"features=True", lambda _: "--features", "features"),
    (r"limit_bytes=(\d+)", lambda found: f"--limit {found[1]}", "limit"),
    (r"\bsteps=(\d+)", lambda found: f"--steps {found[1]}", "steps"),
    (r"\bsteps=\[([\d, -]+)\]", lambda found: f"--at {_listed(found[1])}", "at"),
    (r"\b(layers|heads|frames)=\[([\d, -]+)\]", lambda found: f"--{found[1]} {_listed(found[2])}", "layers"),
    (r"\bbranches=\(([\w', ]+)\)", lambda found: f"--branches {_listed(found[1])}", "branches"),
    (r"\bsize=\((\d+), (\d+)\)", lambda found: f"--size {found[1]}x{found[2]}", "size"),
    (
        r"\b(device|dtype|vae_dtype|offload|device_map|quantization|variant|family)='([\w:./-]+)'",
        lambda found: f"--{found[1].replace('_', '-')} {found[2]}",
        "vae_dtype",
    ),
    (r"\blocal_files_only=True", lambda _: "--local-files-only", "local_files_only"),
    (r"\bnoise='(\w+)'", lambda found: f"--noise {found[1]}", "noise"),
    (r"\ba guidance_scale above", lambda _: "a --guidance-scale above", "guidance_scale"),
    (r"\ba negative_prompt and", lambda _: "a --negative-prompt and", "negative_prompt"),
)


def _listed(text: str) -> str:
    """A list as its option takes it: ``'cond', 'uncond'`` as ``cond,uncond``."""
    return ",".join(part.strip(" '") for part in text.split(",") if part.strip())


def for_command_line(message: str, parameters: Collection[str] = ()) -> str:
    """An error's message with the options of a verb in place of the arguments of Python.

    Parameters
    ----------
    message : str
    parameters : names of the verb's parameters
        An argument that is no option of the verb keeps its name in Python.

    Examples
    --------
    >>> for_command_line("select less, or raise it with limit_bytes=2000.", ["limit"])
    'select less, or raise it with --limit 2000.'
    """
    for pattern, option, parameter in _OPTIONS:
        if parameter in parameters:
            message = re.sub(pattern, option, message)
    if "conditioning={" in message:
        message += " There is no option for conditioning: run this from Python."
    return message


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
        From the verb's arguments to what to say at Ctrl-C about the work that is done. By default a verb with a
        parameter ``resume`` names that option and others say nothing.

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
            with _told_warnings(parameters):
                return function(*args, **kwargs)
        except DitprobeError as error:
            # a disk that is full or broken is no mistake of the caller
            failed = isinstance(error, RecordingError) and isinstance(error.__cause__, OSError)
            complain(f"error: {for_command_line(str(error), parameters)}", style="red")
            raise typer.Exit(FAILURE if failed else BAD_INPUT) from error
        except KeyboardInterrupt as error:
            complain(f"interrupted. {kept(kwargs)}".rstrip())
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError:
            raise  # `| head` has read enough; typer ends quietly
        except OSError as error:
            complain(f"error: {error}", style="red")
            raise typer.Exit(FAILURE) from error

    return run


@contextmanager
def _told_warnings(parameters: Collection[str]) -> Iterator[None]:
    """Our own warnings in a line on standard error, each once, without the line of source that Python would add."""
    with warnings.catch_warnings():
        show = warnings.showwarning
        told: set[str] = set()

        def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if category.__module__.partition(".")[0] not in _OURS:
                show(message, category, *where, **more)
            elif str(message) not in told:
                told.add(str(message))  # Python forgets what it has shown whenever a library changes the filters
                complain(f"warning: {for_command_line(str(message), parameters)}")

        warnings.showwarning = tell
        yield


def _resumable(given: Mapping[str, Any]) -> str:
    if "resume" not in given or given.get("dry_run"):
        return ""
    how = "--resume in place of --overwrite" if given.get("overwrite") else "--resume"
    return f"Finished work is kept; the same command with {how} goes on."


@contextmanager
def progress(description: str) -> Iterator[Callable[..., None]]:
    """A bar on standard error; yields a callback that takes (done, total[, label])."""
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
    """A line of the answer, on standard output; brackets in it are text, not markup."""
    out.print(printable(str(text)), markup=False, emoji=False)


def complain(text: str, *, style: str = "yellow") -> None:
    """An error, a warning or a note, on standard error."""
    err.print(printable(text), style=style, markup=False, emoji=False)
