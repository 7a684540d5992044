"""Values that stop a run: not finite, or so large that the model has diverged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


def check_values(
    values: Tensor, what: str | Callable[[], str], *, step: int | None = None, remedy: Wording | str = _REMEDY
) -> None:
    """Stop a run on values that are not finite, or beyond :data:`LARGEST`.

    Parameters
    ----------
    values : float tensor
    what : str, or a callable that returns it
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
    checks = ValueChecks()
    checks.add(values, what, step=step, remedy=remedy)
    checks.finish()


@dataclass(frozen=True, eq=False)
class _Check:
    values: Tensor
    largest: Tensor
    what: str | Callable[[], str]
    step: int | None
    remedy: Wording | str


class ValueChecks:
    """Several checks of :func:`check_values`, made on the device and fetched together: it is waited for once.

    Examples
    --------
    >>> checks = ValueChecks()
    >>> checks.add(torch.zeros(1, 4), "the latents shown to the model at step 3 of 50")
    >>> checks.finish()
    """

    def __init__(self) -> None:
        self._checks: list[_Check] = []

    def add(
        self,
        values: Tensor,
        what: str | Callable[[], str],
        *,
        step: int | None = None,
        remedy: Wording | str = _REMEDY,
    ) -> None:
        """Begin a check; its result is not waited for."""
        values = values.detach()
        if values.numel():
            self._checks.append(_Check(values, values.abs().amax(), what, step, remedy))

    def finish(self) -> None:
        """Raise for the first that failed.

        Raises
        ------
        NotFiniteError
        """
        checks, self._checks = self._checks, []
        if not checks:
            return
        device = checks[0].largest.device
        largest = torch.stack([check.largest.to(device, torch.float32) for check in checks])
        if bool((largest <= LARGEST).all()):  # NaN compares false
            return
        for check in checks:
            _raise_for(check)


def _raise_for(check: _Check) -> None:
    largest = float(check.largest)
    if largest <= LARGEST:
        return
    count = check.values.numel()
    bad = int((~torch.isfinite(check.values)).sum())
    found = f"not finite in {bad} of {count} places" if bad else f"as large as {largest:g}"
    what = check.what if isinstance(check.what, str) else check.what()
    raise NotFiniteError(f"{what} are {found}, so no clip can be made of them.", remedy=check.remedy, step=check.step)


def check_latents(latents: Any) -> None:
    """Reject anything but latents of one clip: a float tensor (1, ...) of five axes.

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
