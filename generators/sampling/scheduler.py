"""Edited latents in place of the pipeline's own, in ``scheduler.step``, which every pipeline calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from probe.attention.wrapping import check_closed, wrapped_method
from store.errors import UnsupportedBackboneError

EDITABLE = (
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "DDIMScheduler",
    "EDMEulerScheduler",
    "FlowMatchDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers with one call of the model per step, whose step starts from the given latents."""


def check_editable(scheduler: Any) -> None:
    """Raise for a scheduler that is not known to keep edited latents through its step.

    Raises
    ------
    UnsupportedBackboneError
        For another scheduler; names it and the known ones.

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
    """Context manager in which ``scheduler.step`` starts from edited latents, if there are any.

    Parameters
    ----------
    scheduler : diffusers scheduler
    edited : callable
        Function of the pipeline's latents that returns edited ones for this step, or None to keep them.

    Raises
    ------
    UnsupportedBackboneError
        When the scheduler's step takes no ``sample``, or is called without one.
    ProbeStateError
        On entering one that is open.
    """

    def __init__(self, scheduler: Any, edited: Callable[[Tensor], Tensor | None]) -> None:
        self._scheduler = scheduler
        self._edited = edited
        self._place = _place_of_sample(scheduler)
        self._open = False
        self._exit = ExitStack()

    def __enter__(self) -> EditedSteps:
        check_closed(self._open, "this editing of steps")
        self._exit.enter_context(wrapped_method(self._scheduler, "step", self._step))
        self._open = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._open = False
        self._exit.close()

    def _step(self, step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if "sample" not in kwargs and len(args) <= self._place:
            raise UnsupportedBackboneError(
                f"{type(self._scheduler).__name__}.step was called without a sample, so the latents of the step are "
                "not known and sampling cannot be guided."
            )
        edited = self._edited(kwargs["sample"] if "sample" in kwargs else args[self._place])
        if edited is not None:
            if "sample" in kwargs:
                kwargs["sample"] = edited
            else:
                args = (*args[: self._place], edited, *args[self._place + 1 :])
            if hasattr(self._scheduler, "last_sample"):
                # UniPC's corrector would restart from the previous step and undo most of the edit
                self._scheduler.last_sample = None
        return step(*args, **kwargs)


def _place_of_sample(scheduler: Any) -> int:
    """Position of ``sample`` among the arguments, from the class: a wrapper on the instance may hide it."""
    names = list(inspect.signature(type(scheduler).step).parameters)
    if "sample" not in names:
        raise UnsupportedBackboneError(
            f"sampling cannot be guided under {type(scheduler).__name__}: its step takes no argument named 'sample'."
        )
    return names.index("sample") - 1  # not counting self


def moved(sample: Tensor, shown: Tensor, edited: Tensor) -> Tensor:
    """Edited latents in the precision of the pipeline's latents.

    Parameters
    ----------
    sample : tensor
        The pipeline's latents.
    shown : tensor
        The same latents as shown to the model, perhaps rounded to its data type.
    edited : tensor
        Edited version of ``shown``.

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
