"""Settings of the training of an adapter, and the losses of one of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from generators.adapters.training.losses import LossPreset
from store.arguments import check_fields
from store.checks import finite, integer
from store.errors import InvalidInputError

Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of the training of an adapter.

    Parameters
    ----------
    steps : int
        Number of steps of the optimiser, each with one noise level and one noise.
    learning_rate : float
    weight_decay : float
        Weight decay of AdamW.
    betas : (float, float)
        Betas of AdamW.
    warm_up : int
        Steps over which the rate rises linearly.
    max_norm : float
        Gradients are scaled down to this norm.
    tracking_weight : float, at least 0
        Weight of the tracking loss relative to the denoising loss; 0 needs no tracks.
    points : int
        Tracked points.
    preset : "exact", "paper" or "det"
        Preset of the losses: :mod:`generators.adapters.training.losses`.
    mixed_precision : "no", "bf16" or "fp16"
        Precision of the passes; parameters and optimiser stay float32.
    gradient_checkpointing : bool
        Compute layers again in the backward pass instead of keeping what they computed.
    seed : int
        Seed of the noise; with the number of a step it decides what the step sees.

    Raises
    ------
    InvalidInputError
        For a value that cannot be.

    Examples
    --------
    >>> Training(steps=300, learning_rate=1e-2).tracking_weight
    0.1
    """

    steps: int = 500
    learning_rate: float = 1e-5
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    warm_up: int = 0
    max_norm: float = 1.0
    tracking_weight: float = 0.1
    points: int = 100
    preset: LossPreset = "exact"
    mixed_precision: Precision = "no"
    gradient_checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        check_fields(self)
        for name in ("steps", "points"):
            integer(getattr(self, name), name, min_value=1)
        integer(self.warm_up, "warm_up", min_value=0)
        for name in ("learning_rate", "max_norm"):
            finite(getattr(self, name), name, above=0)
        for name in ("weight_decay", "tracking_weight"):
            finite(getattr(self, name), name, min_value=0)
        if len(self.betas) != 2 or not all(0 <= each < 1 for each in self.betas):
            raise InvalidInputError(f"betas must be two numbers from 0 to below 1; got {self.betas}.")

    def rate(self, step: int) -> float:
        """The learning rate of a step, 0 = the first."""
        return self.learning_rate * min(1.0, (step + 1) / (self.warm_up + 1))


@dataclass(frozen=True)
class Losses:
    """Of one training step: the sum that is minimised and its parts, and the scheduler's value at which."""

    step: int
    timestep: float
    total: float
    denoising: float
    tracking: float = 0.0
    motion: float = 0.0
