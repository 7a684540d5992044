"""The state of a training: optimiser, losses and last good parameters, kept on disk when it is interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generators.adapters.adapter import MotionAdapter
from generators.adapters.training.precision import MixedPrecision
from generators.adapters.training.settings import Losses
from generators.adapters.training.stages import Stage
from generators.errors import TrainingDivergedError
from store.errors import InvalidInputError, RecordingError
from store.files.atomic import atomic_write
from store.files.damaged import damage_as
from store.files.outputs import check_writable
from store.wording import Wording

VERSION = 3


class TrainingState:
    """Everything that a training carries from step to step.

    Parameters
    ----------
    adapter : MotionAdapter
    stages : sequence of Stage
        One after the other.
    path : Path, optional
        Where it is kept.
    resume : bool
        Take over what is kept there, where there is something.

    Raises
    ------
    InvalidInputError
        For a checkpoint of other settings or another adapter; one that is there and is not to be resumed; to resume
        without a path.
    RecordingError
        For a path that cannot be written, or a damaged checkpoint.
    """

    def __init__(self, adapter: MotionAdapter, stages: Sequence[Stage], path: Path | None, *, resume: bool) -> None:
        self.adapter, self.stages, self._path = adapter, stages, path
        self.losses: list[Losses] = []
        self.precision = MixedPrecision(stages[0].training.mixed_precision, next(adapter.parameters()).device)
        self._optimiser = torch.optim.AdamW(
            [
                {
                    "params": list(stage.parameters),
                    "lr": stage.training.learning_rate,
                    "betas": stage.training.betas,
                    "weight_decay": stage.training.weight_decay,
                }
                for stage in stages
            ]
        )
        self._last_good = _copied(adapter)
        if resume and path is None:
            raise InvalidInputError(
                Wording("{resume} needs the path of a checkpoint.", resume=True),
                remedy=Wording("Pass {checkpoint}.", checkpoint=...),
            )
        if path is not None:
            check_writable(path, "adapter.training.pt")
            if path.exists():
                if not resume:
                    raise InvalidInputError(
                        f"{path} keeps an interrupted training.",
                        remedy=Wording("Resume it ({resume}), or remove the file.", resume=True),
                    )
                self._restore(path)

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.training.steps for stage in self.stages)

    @property
    def place(self) -> tuple[int, int]:
        """Number of the stage that the next step belongs to, and its step within the stage."""
        step = self.step
        for number, stage in enumerate(self.stages[:-1]):
            if step < stage.training.steps:
                return number, step
            step -= stage.training.steps
        return len(self.stages) - 1, step

    def clip_gradients(self) -> Tensor:
        """Scale gradients down to the largest norm, and return the norm that they had."""
        stage = self.stages[self.place[0]]
        return self.precision.clip(self._optimiser, stage.parameters, stage.training.max_norm)

    def update(self, losses: Losses) -> None:
        """Change the parameters by their gradients; those that gave these losses are kept as the last good ones."""
        self._last_good = _copied(self.adapter)
        number, step = self.place
        self._optimiser.param_groups[number]["lr"] = self.stages[number].training.rate(step)
        self.precision.step(self._optimiser)
        self._optimiser.zero_grad(set_to_none=True)
        self.losses.append(losses)

    def restore_last_good(self) -> None:
        """Put back the parameters of the last step whose loss was finite."""
        self.adapter.load_state_dict(self._last_good)
        self._optimiser.zero_grad(set_to_none=True)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write the checkpoint when what is done in here is interrupted or fails, but for a training that diverges."""
        try:
            yield
        except TrainingDivergedError:  # it would diverge again where it did; the error has the last good parameters
            raise
        except BaseException:
            if self._path is not None and self.losses:
                self.save()
            raise

    def save(self) -> None:
        """Write the checkpoint.

        Raises
        ------
        RecordingError
            When the operating system fails, on a full disk for example; what was there before is then still there.
        """
        if self._path is None:
            return
        values = {
            "version": VERSION,
            "settings": self._settings(),
            "adapter": self.adapter.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scale": self.precision.state_dict(),
            "losses": [asdict(each) for each in self.losses],
        }
        try:
            with atomic_write(self._path) as partial:
                torch.save(values, partial)
        except (OSError, RuntimeError) as error:  # torch tells a full disk as a RuntimeError
            raise RecordingError(f"the training cannot be kept in {self._path}: {error}.") from error

    def remove(self) -> None:
        """Remove the checkpoint of a training that is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _settings(self) -> dict[str, Any]:
        adapter = self.adapter
        return {
            "backbone": adapter.origin["name"],
            "origin": adapter.origin,
            "kind": adapter.kind,
            "adapter": adapter.settings,
            "layers": list(adapter.layers),
            "training": [
                {"name": stage.name, **asdict(stage.training), **stage.details}
                # the last stage may be longer than planned at first
                | ({"steps": None} if stage is self.stages[-1] else {})
                for stage in self.stages
            ],
        }

    def _restore(self, path: Path) -> None:
        with damage_as(RecordingError, f"{path} is not a training, or it is damaged", "Remove it and start again."):
            device = next(self.adapter.parameters()).device
            saved = torch.load(path, map_location=device, weights_only=True)
            changed = ("version", saved["version"], VERSION) if saved["version"] != VERSION else None
            changed = changed or _difference(saved["settings"], self._settings())
            if changed is None:
                self.adapter.load_state_dict(saved["adapter"])
                self._optimiser.load_state_dict(saved["optimiser"])
                self.precision.load_state_dict(saved.get("scale", {}))
                self.losses = [Losses(**each) for each in saved["losses"]]
                self._last_good = _copied(self.adapter)
        if changed is not None:
            name, before, now = changed
            raise InvalidInputError(
                f"{path} keeps a training with {name} {before!r} instead of {now!r}. Resume it as it was begun, or "
                "remove the file."
            )


def _copied(adapter: MotionAdapter) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in adapter.state_dict().items()}


def _difference(before: Any, now: Any, name: str = "settings") -> tuple[str, Any, Any] | None:
    """The first setting that differs, by its own name, with both values; None if all are alike.

    Examples
    --------
    >>> _difference({"training": [{"steps": 9, "seed": 0}]}, {"training": [{"steps": 9, "seed": 1}]})
    ('seed', 0, 1)
    """
    before, now = _plain(before), _plain(now)
    if before == now:
        return None
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(key, before.get(key), now[key]) for key in now]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = [(name, *values) for values in zip(before, now, strict=True)]
    else:
        return name, before, now
    found = (_difference(old, new, key) for key, old, new in pairs if old != new)
    return next(found, (name, before, now))


def _plain(value: Any) -> Any:
    """As JSON gives it back: tuples as lists."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
