"""Transformers that are compiled: hooks that the compiler must not trace, and the module behind a wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import nn

Hook = TypeVar("Hook", bound=Callable[..., Any])


def uncompiled(module: nn.Module, hook: Hook) -> Hook:
    """Return a hook that runs as plain Python, also of a module that was compiled in place, hooks included.

    Examples
    --------
    >>> uncompiled(nn.Linear(1, 1), print) is print
    True
    """
    if getattr(module, "_compiled_call_impl", None) is None:
        return hook
    return torch.compiler.disable(hook)


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module behind the wrappers of ``torch.compile`` and of peft.

    Examples
    --------
    >>> linear, wrapper = nn.Linear(1, 1), nn.Module()
    >>> wrapper._orig_mod = linear
    >>> unwrapped(wrapper) is linear
    True
    """
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and hasattr(module, "get_base_model"):  # peft's
            inner = cast(Any, module).get_base_model()
        if not isinstance(inner, nn.Module) or inner is module:
            return module
        module = inner
