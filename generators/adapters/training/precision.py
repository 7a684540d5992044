"""Mixed precision of a training: autocast, and the scale of the loss that float16 gradients need."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_LEAST_SCALE = 1.0


class MixedPrecision:
    """Autocast and loss scale of one training; simultaneous trainings in separate threads share nothing.

    Parameters
    ----------
    precision : "no", "bf16" or "fp16"
    device : torch.device
        Where the loss is computed.

    Examples
    --------
    >>> weight = nn.Parameter(torch.ones(1))
    >>> optimiser, precision = torch.optim.SGD([weight], lr=0.5), MixedPrecision("bf16", torch.device("cpu"))
    >>> with precision.autocast():
    ...     precision.backward((weight * 2).sum())
    >>> float(precision.clip(optimiser, [weight], 1.0)), precision.step(optimiser), round(weight.tolist()[0], 3)
    (2.0, None, 0.5)
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        self._device, self._dtype = device.type, _DTYPES[precision]
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    @property
    def retries(self) -> bool:
        """True while gradients that are not finite may be due to the loss scale, which the next step lowers."""
        return self._scaler.is_enabled() and self._scaler.get_scale() > _LEAST_SCALE

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the model runs."""
        return nullcontext() if self._dtype is None else torch.autocast(self._device, dtype=self._dtype)

    def backward(self, loss: Tensor) -> None:
        """Compute gradients, of the scaled loss in float16."""
        self._scaler.scale(loss).backward()

    def clip(self, optimiser: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        """Scale gradients down to the largest norm, and return the norm that they had."""
        self._scaler.unscale_(optimiser)
        return nn.utils.clip_grad_norm_(parameters, max_norm)

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        """Change the parameters, unless gradients are not finite in float16, and adapt the scale."""
        self._scaler.step(optimiser)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, for a checkpoint; empty where there is none."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the scale of a checkpoint, if it has one."""
        if state:
            self._scaler.load_state_dict(state)
