"""The settings of a training that decide its weights, and what follows from them for each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from store.checks import finite, integer, one_of


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training. The learning rate warms up, stays, and falls to zero over the last ``decay`` share.

    Clips grow during the training: a share ``small`` of the steps sees 0.6 times the final height and width, the next
    ``medium`` 0.8 times, the others the final size (a share ``wide`` of them 0.8 by 1.2 times, or 1.2 by 0.8). The
    first ``stills`` of the steps, and a share ``stills_later`` of the others, see ``still_batch`` single images of the
    final size instead of clips: what things look like is learnt where a step is cheap. The first ``centred`` steps see
    one object at the same place and speed each time, so that a word decides the same pixels in every scene; over the
    next ``ease_in`` steps these differences grow; then a share ``easy`` of the scenes stays like that and the others
    are as they are (:meth:`ease`). Each part of a prompt is left open with probability ``left_open``, and all of them
    with probability ``all_open``; a share ``bent`` of the scenes moves along any path of
    :data:`store.scenes.draws.PATHS`. Timesteps are 1000 u^e for uniform u, so that an exponent e below one leans
    towards much noise, where the prompt decides most; it is ``small_exponent`` for the small clips, then ``exponent``,
    and for single images ``still_exponent``, if one is given.
    ``start_from`` is a folder of weights that the training begins with instead of random ones: a training that is over
    is continued by another one.

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
    stills: float = 0.0
    stills_later: float = 0.0
    still_batch: int = 32
    left_open: float = 0.0
    all_open: float = 0.0
    bent: float = 0.0
    centred: int = 0
    ease_in: int = 0
    easy: float = 0.0
    small_exponent: float = 0.3
    exponent: float = 0.8
    still_exponent: float | None = None
    ema: float = 0.999
    seed: int = 0
    optimiser: str = "muon"
    start_from: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "still_batch", "warm_up"):
            integer(getattr(self, name), name, min_value=1)
        for name in ("seed", "centred", "ease_in"):
            integer(getattr(self, name), name, min_value=0)
        finite(self.weight_decay, "weight_decay", min_value=0)
        shares = ("decay", "prompt_dropout", "ema", "small", "medium", "wide", "stills", "stills_later")
        for name in (*shares, "left_open", "all_open", "bent", "easy"):
            finite(getattr(self, name), name, min_value=0, max_value=1)
        for name in ("learning_rate", "small_exponent", "exponent"):
            finite(getattr(self, name), name, above=0)
        if self.still_exponent is not None:
            finite(self.still_exponent, "still_exponent", above=0)
        one_of(self.optimiser, ("muon", "adamw"), "optimiser")

    @property
    def constant_until(self) -> int:
        """Steps before which neither the learning rate nor the size of the clips depends on ``steps``."""
        shares = [1 - self.decay, *(end for end in (self.small, self.small + self.medium, self.stills) if end > 0)]
        return int(min(shares) * self.steps)

    def sees_stills(self, step: int) -> bool:
        """Tell whether a step sees single images instead of clips."""
        if step < self.stills * self.steps:
            return True
        return bool(np.random.default_rng([self.seed, step, 2]).random() < self.stills_later)

    def ease(self, step: int) -> tuple[float, float]:
        """Share of a step's scenes that are easy, and the largest spread of these (of :func:`make_scene`).

        An easy scene has a single object, and draws its spread between 0 and the largest one.

        Examples
        --------
        >>> config = TrainConfig(centred=100, ease_in=1000, easy=0.25)
        >>> config.ease(50), config.ease(350), config.ease(1100)
        ((1.0, 0.0), (1.0, 0.25), (0.25, 1.0))
        """
        passed = step - self.centred
        if passed >= self.ease_in:
            return self.easy, 1.0
        return 1.0, max(0, passed) / max(1, self.ease_in)

    def size(self, step: int, height: int, width: int) -> tuple[int, int]:
        """Height and width of the clips of a step in pixels, whole cells of 4."""
        if self.sees_stills(step):
            return height, width
        tall = across = self.scale(step)
        draw = np.random.default_rng([self.seed, step, 1]).random()
        if tall == 1.0 and draw < self.wide:
            tall, across = (0.8, 1.2) if draw < self.wide / 2 else (1.2, 0.8)
        return _whole_cells(tall * height), _whole_cells(across * width)

    def scale(self, step: int) -> float:
        """The size of the clips of a step, of the final one."""
        if self.sees_stills(step):
            return 1.0
        share = step / self.steps
        return 0.6 if share < self.small else 0.8 if share < self.small + self.medium else 1.0

    def timesteps(self, step: int, uniform: torch.Tensor) -> torch.Tensor:
        """Uniform numbers in 0 to 1 as the timesteps of a step, int64 of the same shape in 0 to 999."""
        exponent = self.small_exponent if step / self.steps < self.small else self.exponent
        if self.still_exponent is not None and self.sees_stills(step):
            exponent = self.still_exponent
        return (1000 * uniform**exponent).long().clamp(max=999)  # float32 rounds the largest up to 1000

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        falling = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up, max(falling, 0.0))


def _whole_cells(length: float) -> int:
    return 4 * max(1, round(length / 4))
