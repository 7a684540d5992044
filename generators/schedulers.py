"""Edited latents in place of the pipeline's own, at the one place that every pipeline passes: ``scheduler.step``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from store.errors import UnsupportedBackboneError

EDITABLE = (
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "DDIMScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers with one call of the model a step, whose step starts from the latents that it is given."""

_MISSING = object()


def check_editable(scheduler: Any) -> None:
    """Refuse a scheduler of which it is unknown whether edited latents survive its step.

    Raises
    ------
    UnsupportedBackboneError
        Names it and those that are known.

    Examples
    --------
    >>> from diffusers import CogVideoXDDIMScheduler
    >>> check_editable(CogVideoXDDIMScheduler())
    """
    if not {kind.__name__ for kind in type(scheduler).__mro__} & set(EDITABLE):
        raise UnsupportedBackboneError(
            f"sampling cannot be guided under {type(scheduler).__name__}: it is unknown how its step treats "
            f"latents that were edited. Set one of {', '.join(EDITABLE)} on the pipeline."
        )


class EditedSteps:
    """A context manager in which ``scheduler.step`` starts from other latents where there are some.

    Parameters
    ----------
    scheduler : diffusers scheduler
    edited : callable
        From the pipeline's latents to those of this step, or None to leave them.
    """

    def __init__(self, scheduler: Any, edited: Callable[[Tensor], Tensor | None]) -> None:
        self._scheduler = scheduler
        self._edited = edited
        self._before: Any = _MISSING

    def __enter__(self) -> EditedSteps:
        original = self._scheduler.step
        signature = inspect.signature(original)

        # pipelines read the signature, which follows __wrapped__
        @functools.wraps(original)
        def step(*args: Any, **kwargs: Any) -> Any:
            call = signature.bind(*args, **kwargs)
            edited = self._edited(call.arguments["sample"])
            if edited is not None:
                call.arguments["sample"] = edited
                if hasattr(self._scheduler, "last_sample"):
                    # UniPC's corrector would start again from the step before and undo most of the edit
                    self._scheduler.last_sample = None
            return original(*call.args, **call.kwargs)

        self._before = vars(self._scheduler).get("step", _MISSING)
        self._scheduler.step = step
        return self

    def __exit__(self, *exception: object) -> None:
        if self._before is _MISSING:
            del self._scheduler.step
        else:
            self._scheduler.step = self._before


def moved(sample: Tensor, shown: Tensor, edited: Tensor) -> Tensor:
    """Edited latents in the precision of the pipeline's.

    Parameters
    ----------
    sample : tensor
        The pipeline's latents.
    shown : tensor
        The same as the model was shown them, perhaps rounded to its data type.
    edited : tensor
        What ``shown`` was changed to.

    Examples
    --------
    >>> import torch
    >>> sample = torch.tensor([1.001])
    >>> moved(sample, sample.bfloat16(), torch.tensor([1.5]))
    tensor([1.5010])
    """
    if sample.dtype == shown.dtype:
        return edited.to(sample)
    return sample + (edited - shown.to(edited)).to(sample)
