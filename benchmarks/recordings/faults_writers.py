"""The small recording of :mod:`benchmarks.recordings.faults`, and processes that write it while something goes
wrong."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from store import Plan, RecordingWriter, Selection, TokenLayout
from store.errors import DitprobeError

STEPS, LAYERS = 4, (1, 3)
DONE, TYPED, RAW = 0, 3, 4  # how a writing process ended
Limit = Callable[[int], None]


def make_plan() -> Plan:
    layers = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=2, channels=16) for i in range(6)]
    layout = TokenLayout(3, 5, 7, 80, 84, 9, text_tokens=6)
    return Selection("all", LAYERS).plan(SimpleNamespace(name="tiny", layers=layers), layout, STEPS, features=True)


def values(plan: Plan, step: int, layer: int) -> dict[str, np.ndarray]:
    """float32 of which float16 cannot hold all."""
    rng = np.random.default_rng([step, layer])
    return {array.name: rng.integers(0, 4096, array.record_shape).astype(np.float32) for array in plan.arrays}


def write(path: Path, **options: Any) -> None:
    """Record the whole run, or what is missing of it."""
    plan = make_plan()
    with RecordingWriter(path, plan, provenance={"model": "tiny", "prompt": "a red ball"}, **options) as writer:
        for step in plan.steps:
            for layer in plan.layers:
                writer.write(step=step, layer=layer, timestep=999.0 - step, sigma=step / 8, **values(plan, step, layer))


def child(path: Path, options: dict[str, Any], limit: Limit | None, amount: int) -> None:
    """Write in a process that may be limited; its exit code says how it ended."""
    if limit is not None:
        limit(amount)
    try:
        write(path, **options)
    except DitprobeError:
        os._exit(TYPED)
    except BaseException:
        os._exit(RAW)
    os._exit(DONE)


def kill_at(calls: int) -> None:
    """End this process by SIGKILL at its so-many-th renaming, opening or writing of a file."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count >= calls:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in ("replace", "rename", "write", "open", "fsync"):
        setattr(os, name, counted(getattr(os, name)))


def fill_disk(nbytes: int) -> None:
    """Let the writes of this process fail after that number of bytes, as on a full disk."""
    real, left = os.write, nbytes

    def limited(descriptor: int, data: Any) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        wrote = real(descriptor, data[: max(left, 1)])
        left -= wrote
        return wrote

    os.write = limited  # type: ignore[assignment]


def limit_files(nbytes: int) -> None:
    """Let the system refuse files above a size, those of zarr-python too."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes))
