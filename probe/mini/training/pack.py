"""A checkpoint in two thirds of its size, to carry an unfinished training from machine to machine.

::

    python -m probe.mini.training.pack RUN FILE             # of a training that was stopped
    python -m probe.mini.training.pack --unpack FILE RUN    # then resumes with the training's command

The weights are kept to the bit. Their averages are kept as float16 differences from the weights, and the optimisers'
moments as bfloat16, so a run resumed from a packed checkpoint differs a little from the uninterrupted one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from probe.mini.model import MiniConfig
from probe.mini.training.schedule import TrainConfig
from probe.mini.training.state import TrainingState
from store.errors import DitprobeError, InvalidInputError
from store.files.atomic import atomic_write
from store.files.damaged import damage_as

_CHECKPOINT, _LOG = "checkpoint.pt", "log.csv"


def pack_checkpoint(run: str | Path, file: str | Path) -> Path:
    """Write the checkpoint and the log of a training to one smaller file.

    Parameters
    ----------
    run : folder of the training
    file : replaced where it exists

    Raises
    ------
    InvalidInputError
        When the folder has no checkpoint, or a damaged one.
    """
    run, file = Path(run), Path(file)
    state = _loaded(run / _CHECKPOINT)
    pairs = zip(state["average"], _weights(state), strict=True)
    state["average"] = [(average - weight).to(torch.float16) for average, weight in pairs]
    state["optimisers"] = _moments(state["optimisers"], torch.float32, torch.bfloat16)
    log = run / _LOG
    state["log"] = log.read_text() if log.is_file() else ""
    return _written(file, state)


def unpack_checkpoint(file: str | Path, run: str | Path) -> Path:
    """Write the checkpoint and the log of :func:`pack_checkpoint` into the folder of a training, and return it.

    Raises
    ------
    InvalidInputError
        When the file is absent or damaged, or the folder has a checkpoint already.
    """
    file, run = Path(file), Path(run)
    if (run / _CHECKPOINT).exists():
        raise InvalidInputError(f"{run} has a checkpoint already. Unpack into another folder.")
    state = _loaded(file)
    pairs = zip(state["average"], _weights(state), strict=True)
    state["average"] = [weight + difference.to(weight.dtype) for difference, weight in pairs]
    state["optimisers"] = _moments(state["optimisers"], torch.bfloat16, torch.float32)
    run.mkdir(parents=True, exist_ok=True)
    log = state.pop("log")
    if log:
        (run / _LOG).write_text(log)
    _written(run / _CHECKPOINT, state)
    return run


def _loaded(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InvalidInputError(f"there is no checkpoint {path}. Name the folder of a training, or a packed file.")
    with damage_as(InvalidInputError, f"{path} is damaged or not a checkpoint", "Pack or copy it again."):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state


def _written(path: Path, state: dict[str, Any]) -> Path:
    with atomic_write(path) as partial:
        torch.save(state, partial)
    return path


def _weights(state: dict[str, Any]) -> list[torch.Tensor]:
    """The trained tensors in the order of their averages."""
    settings = state["settings"]
    mini = MiniConfig(**{field.name: settings[field.name] for field in fields(MiniConfig)})
    config = TrainConfig(**{field.name: settings[field.name] for field in fields(TrainConfig)})
    trained = TrainingState.new(mini, config, torch.device("cpu")).trained
    parts = (name.split(".", 1) for name, _ in trained.named_parameters())
    return [state[part][name] for part, name in parts]


def _moments(optimisers: list[dict[str, Any]], old: torch.dtype, new: torch.dtype) -> list[dict[str, Any]]:
    """The states of optimisers with their tensors, other than the scalar counts of steps, in another type."""

    def cast(value: Any) -> Any:
        is_moment = isinstance(value, torch.Tensor) and value.dtype == old and value.ndim > 0
        return value.to(new) if is_moment else value

    def states(of: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        return {number: {name: cast(value) for name, value in one.items()} for number, one in of.items()}

    return [{**one, "state": states(one["state"])} for one in optimisers]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: exit code 2 for what cannot be packed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="python -m probe.mini.training.pack")
    parser.add_argument("--unpack", action="store_true", help="from FILE into RUN")
    parser.add_argument("source", type=Path, help="folder of a training (with --unpack: the file)")
    parser.add_argument("target", type=Path, help="the file (with --unpack: the folder)")
    options = parser.parse_args(arguments)
    try:
        found = (unpack_checkpoint if options.unpack else pack_checkpoint)(options.source, options.target)
    except (DitprobeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
