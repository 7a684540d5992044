"""Numbers with which a run cannot go on: not finite, or so far from those of a model that it has diverged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from store.errors import InvalidInputError, NotFiniteError
from store.wording import Wording

LARGEST = 1e6
"""Latents and predictions have a standard deviation near 1; beyond this a run has diverged, also while it is finite."""

_REMEDY = Wording(
    "Lower {guidance_scale} if it is high; otherwise check that the weights are finite, or load the model with {dtype} "
    "or {}.",
    repr("bfloat16"),
    guidance_scale=None,
    dtype="float32",
)


def check_values(values: Tensor, what: str, *, step: int | None = None, remedy: Wording | str = _REMEDY) -> None:
    """End a run on values that are not finite, or beyond :data:`LARGEST`.

    Parameters
    ----------
    values : float tensor
    what : str
        What they are and where, as the subject of a sentence in the plural.
    step : int, optional
        Kept in the error.
    remedy : str

    Raises
    ------
    NotFiniteError

    Examples
    --------
    >>> check_values(torch.zeros(1, 4), "the latents after step 3 of 50", step=3)
    """
    values = values.detach()
    # NaN compares false; one reduction, so that an accelerator is waited for once
    if values.numel() == 0 or bool(values.abs().amax() <= LARGEST):
        return
    bad = int((~torch.isfinite(values)).sum())
    found = f"not finite in {bad} of {values.numel()} places" if bad else f"as large as {float(values.abs().amax()):g}"
    raise NotFiniteError(f"{what} are {found}, so no clip can be made of them.", remedy=remedy, step=step)


def check_latents(latents: Any) -> None:
    """Refuse what is not latents of one clip: a float tensor (1, ...) of five axes.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_latents(torch.zeros(1, 6, 12, 20, 20))
    """
    if not isinstance(latents, Tensor) or not latents.is_floating_point() or latents.ndim != 5 or 0 in latents.shape:
        found = (
            f"{latents.dtype} of shape {tuple(latents.shape)}"
            if isinstance(latents, Tensor)
            else type(latents).__name__
        )
        raise InvalidInputError(
            f"latents must be a float tensor (1, ...) of five axes, as encode returns; got {found}."
        )
