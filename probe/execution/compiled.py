"""Transformers that are compiled: hooks that the compiler must not trace, and the module behind a wrapper."""

from __future__ import annotations

import sys
import threading
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


class CompilerHold:
    """A context manager in which nothing is compiled: what is not compiled yet, or was changed, runs as plain Python.

    What is compiled already and was not changed still runs as compiled. Contexts may be closed in any order, from
    several threads; the compiler works again when the last one is closed.

    Examples
    --------
    >>> with CompilerHold():
    ...     torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))
    tensor([2.])
    """

    _lock = threading.Lock()
    _open = 0
    _stance: Any = None

    def __enter__(self) -> None:
        with CompilerHold._lock:
            CompilerHold._open += 1
            if CompilerHold._open == 1 and "torch._dynamo" in sys.modules:  # else nothing can be compiled
                CompilerHold._stance = _stopped()

    def __exit__(self, *exception: object) -> None:
        with CompilerHold._lock:
            CompilerHold._open -= 1
            if CompilerHold._open == 0 and CompilerHold._stance is not None:
                stance, CompilerHold._stance = CompilerHold._stance, None
                stance.__exit__(None, None, None)


def _stopped() -> Any:
    """The compiler stopped; None if the caller has chosen what it does, or calls us from code that it traces."""
    set_stance: Any = getattr(torch.compiler, "set_stance", None)  # from torch 2.6 on
    if set_stance is None:
        return None
    try:
        stance = set_stance("eager_on_recompile")
    except RuntimeError:
        return None
    if getattr(stance.prev, "stance", "default") != "default":
        stance.__exit__(None, None, None)
        return None
    return stance


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
