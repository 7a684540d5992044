"""Stages of a training: the parameters that change, their objective, and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

from generators.adapters.training.settings import Training


class StageObjective(Protocol):
    """Losses of any training step."""

    second: ClassVar[Literal["tracking", "motion"]]
    """Kind of the loss beside the denoising loss."""

    def shown(self, step: int) -> AbstractContextManager[None]:
        """Return the context in which the model runs in a step, backward pass included."""

    def losses(self, step: int) -> tuple[Tensor, Tensor, float]:
        """Return the denoising loss, the weighted second loss, and the scheduler's value, of a training step."""


class PlainlyShown:
    """Objective under which the model runs as it is."""

    second: ClassVar[Literal["tracking", "motion"]] = "tracking"

    def shown(self, step: int) -> AbstractContextManager[None]:
        """Return a context that changes nothing."""
        return nullcontext()


@dataclass(frozen=True, eq=False)
class Stage:
    """Part of a training.

    Parameters
    ----------
    training : Training
        Its steps count from 0 in each stage.
    parameters : tuple of nn.Parameter
        Those that change; all others of the adapter are frozen.
    objective : StageObjective
    name : str
    details : mapping of JSON values
        What else decides the numbers, for a checkpoint to compare.
    """

    training: Training
    parameters: tuple[nn.Parameter, ...]
    objective: StageObjective
    name: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
