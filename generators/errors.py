"""Errors of guided runs and of training."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from store.errors import NotFiniteError
from store.wording import Wording

LESS_GUIDANCE = "Lower the learning rate or the scale, or guide fewer steps."
"""Remedy of a run that guidance made diverge."""


class GuidanceDivergedError(NotFiniteError):
    """Guidance made a number that is not finite; the run was stopped.

    Attributes
    ----------
    step : int
        The denoising step, 0 = most noise.
    latents : tensor (1, ...)
        The last good latents: those with which that step began.

    Examples
    --------
    >>> import torch
    >>> error = GuidanceDivergedError("the loss is nan at step 3.", step=3, latents=torch.zeros(1, 4))
    >>> isinstance(error, ArithmeticError), error.step
    (True, 3)
    """

    step: int

    def __init__(self, message: Wording | str, *, remedy: Wording | str = "", step: int, latents: Tensor) -> None:
        super().__init__(message, remedy=remedy, step=step)
        self.latents = latents


class TrainingDivergedError(NotFiniteError):
    """The training of an adapter met a loss or a gradient that is not finite; it was stopped.

    Attributes
    ----------
    step : int
        The training step.
    adapter : MotionAdapter
        With the last good parameters: those of the last step whose loss was finite.
    """

    step: int

    def __init__(self, message: str, *, step: int, adapter: Any) -> None:
        super().__init__(message, step=step)
        self.adapter = adapter
