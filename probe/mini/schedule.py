"""The settings of a training that decide its weights, and what follows from them for each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from store.errors import InvalidInputError


@dataclass(frozen=True)
class TrainConfig:
    """What decides the weights. The learning rate warms up, stays, and falls to zero over the last ``decay`` share.

    Clips grow during the training: a share ``small`` of the steps sees 0.6 times the final height and width, the next
    ``medium`` 0.8 times, the others the final size (a share ``wide`` of them 0.8 by 1.2 times, or 1.2 by 0.8).
    Timesteps are 1000 u^e for uniform u, so that an exponent e below one leans towards much noise, where the prompt
    decides most; it is ``small_exponent`` for the small clips, then ``exponent``. ``start_from`` is a folder of weights
    that the training begins with instead of random ones: a training that is over is continued by another one.

    Raises
    ------
    InvalidInputError
        For a number outside its range, or an optimiser that is not known.

    Examples
    --------
    >>> config = TrainConfig(steps=1000, wide=0.0)
    >>> [config.size(step, 40, 40) for step in (0, 400, 700)]
    [(24, 24), (32, 32), (40, 40)]
    >>> [f"{config.rate(step):.5f}" for step in (99, 199, 850)]
    ['0.00075', '0.00150', '0.00075']
    """

    steps: int = 10_000
    batch: int = 8
    learning_rate: float = 1.5e-3
    warm_up: int = 200
    decay: float = 0.3
    weight_decay: float = 0.01
    prompt_dropout: float = 0.1
    small: float = 0.4
    medium: float = 0.2
    wide: float = 0.3
    small_exponent: float = 0.3
    exponent: float = 0.8
    ema: float = 0.999
    seed: int = 0
    optimiser: str = "muon"
    start_from: str | None = None

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "warm_up": 1, "seed": 0, "weight_decay": 0}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise InvalidInputError(f"{name} must be at least {low}; got {getattr(self, name)}.")
        for name in ("decay", "prompt_dropout", "ema", "small", "medium", "wide"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInputError(f"{name} must lie between 0 and 1; got {getattr(self, name)}.")
        for name in ("learning_rate", "small_exponent", "exponent"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InvalidInputError(f"{name} must be above 0; got {getattr(self, name)}.")
        if self.optimiser not in ("muon", "adamw"):
            raise InvalidInputError(f"optimiser {self.optimiser!r} is unknown. Known: 'muon', 'adamw'.")

    @property
    def constant_until(self) -> int:
        """Steps before which neither the learning rate nor the size of the clips depends on ``steps``."""
        shares = [1 - self.decay, *(share for share in (self.small, self.small + self.medium) if share > 0)]
        return int(min(shares) * self.steps)

    def size(self, step: int, height: int, width: int) -> tuple[int, int]:
        """Height and width of the clips of a step in pixels, whole cells of 4."""
        tall = across = self.scale(step)
        draw = np.random.default_rng([self.seed, step, 1]).random()
        if tall == 1.0 and draw < self.wide:
            tall, across = (0.8, 1.2) if draw < self.wide / 2 else (1.2, 0.8)
        return _whole_cells(tall * height), _whole_cells(across * width)

    def scale(self, step: int) -> float:
        """How large the clips of a step are, of the final size."""
        share = step / self.steps
        return 0.6 if share < self.small else 0.8 if share < self.small + self.medium else 1.0

    def timesteps(self, step: int, uniform: torch.Tensor) -> torch.Tensor:
        """Uniform numbers in 0 to 1 as the timesteps of a step, int64 of the same shape in 0 to 999."""
        exponent = self.small_exponent if step / self.steps < self.small else self.exponent
        return (1000 * uniform**exponent).long().clamp(max=999)  # float32 rounds the largest up to 1000

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        falling = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up, max(falling, 0.0))


def _whole_cells(length: float) -> int:
    return 4 * max(1, round(length / 4))
