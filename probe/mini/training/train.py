"""Train a mini backbone: ``python -m probe.mini.training --out runs/mini``, with ``--rotary`` for mini-rope.

Every batch, timestep and noise is drawn from the seed and the step's number alone, so a stopped training that is
started again with the same command resumes exactly at its last checkpoint. Other settings are rejected.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from probe.loading.load_backbone import resolve_device
from probe.mini.model import MiniConfig
from probe.mini.training.objective import batches, velocity_loss
from probe.mini.training.progress import record_progress
from probe.mini.training.schedule import TrainConfig
from probe.mini.training.state import TrainingState, load_checkpoint
from store.checks import integer
from store.errors import DitprobeError

_SHARES = {
    "small": "of the steps with small clips",
    "medium": "of the steps with medium clips",
    "decay": "of the steps with a falling learning rate",
    "stills": "of the steps, at the beginning, with single images",
    "stills_later": "of the later steps with single images",
    "left_open": "of the prompts that leave each part open",
    "all_open": "of the prompts that leave all parts open",
    "easy": "of the scenes, after those stages, with a single object that differs less in place and size",
    "bent": "of the scenes with curved and accelerating paths",
}

_STAGES = {
    "centred": "at the beginning, that see a single object at the same place each time",
    "ease_in": "after these, over which places and sizes come to differ",
}


def train(
    out: str | Path,
    mini: MiniConfig | None = None,
    config: TrainConfig | None = None,
    *,
    device: str = "auto",
    workers: int = 1,
    save_every: int = 500,
    on_save: Callable[[int], object] | None = None,
) -> Path:
    """Train a mini backbone, or resume its training.

    Parameters
    ----------
    out : folder
        Receives ``checkpoint.pt``, ``log.csv`` (step, loss, learning rate, seconds) and ``weights/``, the averaged
        weights that :func:`probe.mini.load_mini` reads; all three are renewed every ``save_every`` steps.
    device : "auto" is a GPU if there is one.
    workers : int
        Processes that draw scenes.
    on_save : callable, optional
        Called with the number of steps done after each saving.

    Returns
    -------
    Path
        The folder of weights.

    Raises
    ------
    InvalidInputError
        Before anything is trained: a device that is not there, weights to start from that are not a mini backbone or
        another one, or a checkpoint in ``out`` of other settings. The
        number of steps alone may change, while nothing of the steps done depends on it.
    """
    mini, config, out = mini or MiniConfig(), config or TrainConfig(), Path(out)
    for name, value, low in (("workers", workers, 0), ("save_every", save_every, 1)):
        integer(value, name, min_value=low)
    target, saved = resolve_device(device), out / "checkpoint.pt"
    out.mkdir(parents=True, exist_ok=True)
    before = load_checkpoint(saved, target, mini, config)
    state = TrainingState.new(mini, config, target)
    if before is None and config.start_from is not None:
        state.start_from(config.start_from)
    start = 0 if before is None else state.restore(before)
    if start == config.steps:
        state.save_weights(out / "weights")
        print(f"{out} has all {config.steps} steps already: nothing left to train.", flush=True)
        return out / "weights"
    losses: list[float] = []
    began = time.monotonic()
    for step, batch in enumerate(batches(mini, config, start, workers), start):
        loss = velocity_loss(state.pipeline, batch, step, config)
        loss.backward()
        state.update(config.rate(step))
        losses.append(loss.item())
        if (step + 1) % save_every == 0 or step + 1 == config.steps:
            _log(out / "log.csv", step + 1, float(np.mean(losses)), config.rate(step), time.monotonic() - began)
            losses.clear()
            state.save_checkpoint(saved, step + 1, mini, config)
            state.save_weights(out / "weights")
            if on_save is not None:
                on_save(step + 1)
    return out / "weights"


def _log(path: Path, step: int, loss: float, rate: float, seconds: float) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "loss", "learning_rate", "seconds"])
        writer.writerow([step, f"{loss:.5f}", f"{rate:.3g}", f"{seconds:.1f}"])
    print(f"step {step:6d}  loss {loss:.4f}  {seconds:7.0f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the training: exit code 2 for bad settings, 1 for failure, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="python -m probe.mini.training")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    parser.add_argument("--rotary", action="store_true", help="rotary positions (mini-rope) instead of added sinusoids")
    parser.add_argument(
        "--slots",
        action=argparse.BooleanOptionalAction,
        default=MiniConfig.slots,
        help="a token and a place for each part of a prompt, or its words in their order",
    )
    parser.add_argument("--steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--batch", type=int, default=TrainConfig.batch)
    parser.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    parser.add_argument("--optimiser", choices=["muon", "adamw"], default=TrainConfig.optimiser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start-from", metavar="FOLDER", help="weights to begin with, of a training that is over")
    for name, what in _SHARES.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=float, default=getattr(TrainConfig, name), help=f"share {what}")
    for name, what in (("small_exponent", "small clips"), ("exponent", "the others")):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=float, default=getattr(TrainConfig, name), help=f"e of 1000 u^e, of {what}")
    parser.add_argument("--still-exponent", type=float, help="e of the single images, where it is another")
    for name, what in _STAGES.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=0, metavar="STEPS", help=f"steps {what}")
    parser.add_argument("--still-batch", type=int, default=TrainConfig.still_batch)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--page-every", type=int, help="steps between measurements for progress.html; at every saving")
    options = vars(parser.parse_args(arguments))
    try:
        config = TrainConfig(**{name: options.pop(name) for name in asdict(TrainConfig()) if name in options})
        out, mini = options.pop("out"), MiniConfig(rotary=options.pop("rotary"), slots=options.pop("slots"))
        every = options.pop("page_every") or 1
        train(out, mini, config, on_save=partial(_measure, out, every, config.steps), **options)
    except DitprobeError as error:
        return _said(f"error: {error}", 2)
    except OSError as error:
        return _said(f"error: {error}", 1)
    except KeyboardInterrupt:
        return _said("interrupted. The same command resumes from the last checkpoint.", 130)
    return 0


def _measure(out: Path, every: int, last: int, step: int) -> None:
    if step % every == 0 or step == last:
        record_progress(out, step)


def _said(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
