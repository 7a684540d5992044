"""Results of runs that take long: a file keeps each, by everything that decides it, and only missing ones are made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

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
        lines = path.read_text().splitlines() if path.exists() else []
        self._known = {key: found for line in lines for key, found in json.loads(line).items()}

    def get(self, run: Measured) -> dict[str, Any] | None:
        """Measurements of a run, None where it was not made."""
        return self._known.get(run.key)

    def __getitem__(self, run: Measured) -> dict[str, Any]:
        return self._known[run.key]

    def make(self, runs: Iterable[Measured]) -> None:
        """Make those that are missing, in their order; each is kept as soon as it is done."""
        missing = list({run.key: run for run in runs if run.key not in self._known}.values())
        if not missing:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(self._workers, initializer=one_thread) as pool, self._path.open("a") as file:
            futures = {pool.submit(run.measure): run for run in missing}
            for done in as_completed(futures):
                self._known[futures[done].key] = done.result()
                file.write(json.dumps({futures[done].key: done.result()}) + "\n")
                file.flush()


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
