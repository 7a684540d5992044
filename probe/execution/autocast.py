"""Own precision for computations with a model's tensors, while the caller runs the model under autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_DEVICES = ("cpu", "cuda")


@contextmanager
def outside_autocast() -> Iterator[None]:
    """Compute as without ``torch.autocast``; also a decorator, ``@outside_autocast()``.

    Autocast would multiply in bfloat16 what is float32 on purpose.

    Examples
    --------
    >>> one = torch.ones(1, 1)
    >>> with torch.autocast("cpu"):
    ...     within = one @ one
    ...     with outside_autocast():
    ...         outside = one @ one
    >>> within.dtype, outside.dtype
    (torch.bfloat16, torch.float32)
    """
    with ExitStack() as stack:
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
