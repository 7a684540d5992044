"""Every public function called with one argument replaced at a time; only ditprobe's own errors may come out."""

from __future__ import annotations

import gc
import os
import resource
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_cases import CASES, World
from fuzz_values import POOL, damaged

from store.errors import DitprobeError

SECONDS = 5
"""Longest that one call may take."""

_MEMORY = 6 * 2**30


class TooSlow(BaseException):
    """Not an Exception, so that nothing that is called catches it."""


@dataclass(frozen=True)
class Attempt:
    """One call: which function, which argument, and what replaced it (the name of a value of the pool)."""

    case: str
    argument: str
    value: str


@dataclass
class Outcome:
    """What came of many calls."""

    results: Counter[str] = field(default_factory=Counter)
    typed: Counter[str] = field(default_factory=Counter)
    raw: dict[Attempt, str] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        return sum(self.results.values()) + sum(self.typed.values()) + len(self.raw)

    def add(self, attempt: Attempt, error: BaseException | None) -> None:
        if error is None:
            self.results[attempt.case] += 1
        elif isinstance(error, DitprobeError):
            self.typed[attempt.case] += 1
        else:
            text = " ".join(str(error).split())[:100]
            self.raw[attempt] = f"{type(error).__name__}: {text}"


def attempts(world: World, cases: Iterable[str]) -> Iterator[Attempt]:
    """Every replacement of every argument of the cases."""
    for case in cases:
        _, arguments = CASES[case](world)
        for name, value in arguments.items():
            for kind in POOL:
                yield Attempt(case, name, kind)
            for kind, _ in damaged(value):
                yield Attempt(case, name, f"damaged: {kind}")


def run(world: World, attempt: Attempt) -> BaseException | None:
    """Make one call; the error that it raised, or None."""
    call, arguments = CASES[attempt.case](world)
    if attempt.value in POOL:
        arguments[attempt.argument] = POOL[attempt.value]()
    else:
        arguments[attempt.argument] = dict(damaged(arguments[attempt.argument]))[
            attempt.value.removeprefix("damaged: ")
        ]
    return error_of(call, arguments)


def error_of(call: Callable[..., Any], arguments: dict[str, Any]) -> BaseException | None:
    """What a call raises, within the limits of time and memory."""
    with warnings.catch_warnings(), np.errstate(all="ignore"), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        signal.signal(signal.SIGALRM, _too_slow)
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, SECONDS)
                call(**arguments)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (Exception, TooSlow) as error:
            return error
    return None


def _too_slow(*_: object) -> None:
    raise TooSlow(f"longer than {SECONDS} s")


@contextmanager
def bounded(folder: Path) -> Iterator[None]:
    """Within a folder of its own, and with a bound on memory, so that a size that nobody checks is an error here."""
    before, limits = Path.cwd(), resource.getrlimit(resource.RLIMIT_AS)
    os.chdir(folder)
    bound_memory()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        os.chdir(before)


def bound_memory() -> None:
    """Let the process take a few GiB more than it has now; called again for each function, as threads add up."""
    gc.collect()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
