"""What the command line prints: progress, answers and errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from store.errors import DitprobeError, RecordingError

BAD_INPUT, FAILURE, INTERRUPTED = 2, 1, 130

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Verb = TypeVar("Verb", bound=Callable[..., Any])


def verb(function: Verb) -> Verb:
    """Turn what a verb raises into a message and an exit code: 2 for bad input, 1 for failure, 130 for Ctrl-C."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except DitprobeError as error:
            # a disk that is full or broken is no mistake of the caller
            failed = isinstance(error, RecordingError) and isinstance(error.__cause__, OSError)
            err.print(f"error: {error}", style="red", markup=False)
            raise typer.Exit(FAILURE if failed else BAD_INPUT) from error
        except KeyboardInterrupt as error:
            err.print("interrupted. Finished work is kept; the same command with --resume goes on.", style="yellow")
            raise typer.Exit(INTERRUPTED) from error

    return run  # type: ignore[return-value]


@contextmanager
def progress(description: str) -> Iterator[Callable[..., None]]:
    """A bar on standard error; yields a callback that takes (done, total[, label])."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(description, total=None)

        def update(done: int, total: int, label: str | None = None) -> None:
            text = description if label is None else f"{description} {label}"
            bar.update(task, completed=done, total=total, description=text)

        yield update


def say(text: object = "") -> None:
    """A line of the answer, on standard output; brackets in it are text, not markup."""
    out.print(str(text), markup=False)


def seconds_for_people(seconds: float) -> str:
    """A duration in the largest sensible unit.

    Examples
    --------
    >>> seconds_for_people(5.25), seconds_for_people(600), seconds_for_people(9000)
    ('5.2 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
