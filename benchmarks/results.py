"""Results of runs that take long: a file keeps each, by everything that decides it, and only missing ones are made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

from probe import Backbone, load_backbone
from store.files.digest import digest_of_value


class Measured(Protocol):
    """A run that can be sent to another process and measured there."""

    @property
    def key(self) -> str:
        """Key in the file of results."""

    def measure(self) -> dict[str, Any]:
        """Values of JSON."""


class Results:
    """Measured runs, in a file of one JSON object a line.

    Parameters
    ----------
    path : Path
        Runs that it holds are not made again; delete it when the code has changed.
    workers : int
        Processes, of one thread each.
    """

    def __init__(self, path: Path, workers: int) -> None:
        self._path, self._workers = path, workers
        self._known = dict(_kept(path))

    def get(self, run: Measured) -> dict[str, Any] | None:
        """Measurements of a run, None if it was not made."""
        return self._known.get(run.key)

    def __getitem__(self, run: Measured) -> dict[str, Any]:
        return self._known[run.key]

    def missing(self, runs: Iterable[Measured]) -> list[Measured]:
        """Those that were not made, each once, in their order."""
        return list({run.key: run for run in runs if run.key not in self._known}.values())

    def make(self, runs: Iterable[Measured], *, on_made: Callable[[int, int], object] | None = None) -> None:
        """Make those that are missing, in their order; each is kept as soon as it is done.

        Parameters
        ----------
        runs : iterable of Measured
        on_made : callable, optional
            Called after each with (made, to be made).
        """
        missing = self.missing(runs)
        if not missing:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        pool = ProcessPoolExecutor(self._workers, initializer=one_thread)
        try:
            with self._path.open("ab") as file:
                _end_last_line(self._path, file)
                futures = {pool.submit(run.measure): run for run in missing}
                for made, done in enumerate(as_completed(futures), 1):
                    self._known[futures[done].key] = done.result()
                    file.write(json.dumps({futures[done].key: done.result()}).encode() + b"\n")
                    file.flush()
                    if on_made is not None:
                        on_made(made, len(missing))
        finally:  # after an error or Ctrl-C, what has not begun is not begun any more
            pool.shutdown(cancel_futures=True)


def _kept(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    """Runs of a file by key, but for a line that was cut off when its process was killed."""
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            yield from json.loads(line).items()
        except ValueError:
            continue


def _end_last_line(path: Path, file: BinaryIO) -> None:
    if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        file.write(b"\n")


def one_thread() -> None:
    """Leave the other cores to the other processes."""
    torch.set_num_threads(1)


@lru_cache
def bundled(name: str) -> Backbone:
    """A bundled backbone, loaded once a process."""
    return load_backbone(name)


@lru_cache
def weights_digest(name: str) -> str:
    """The digest of the weights of a bundled backbone's transformer."""
    return digest_of_value(dict(bundled(name).pipeline.transformer.state_dict()))
