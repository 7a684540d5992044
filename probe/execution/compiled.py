"""Transformers that are compiled: hooks that the compiler must not trace, and the module behind a wrapper."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import nn

from store.errors import UnsupportedBackboneError

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

    Parameters
    ----------
    everything : bool
        Run what is compiled already as plain Python too: compiled code does not call hooks that were registered on
        inner modules later.

    Examples
    --------
    >>> with CompilerHold():
    ...     torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))
    tensor([2.])
    """

    _lock = threading.Lock()
    _open: ClassVar[list[bool]] = []
    _stance: ClassVar[Any] = None
    _name: ClassVar[str | None] = None

    def __init__(self, *, everything: bool = False) -> None:
        self._everything = everything

    def __enter__(self) -> None:
        with CompilerHold._lock:
            CompilerHold._open.append(self._everything)
            self._update()

    def __exit__(self, *exception: object) -> None:
        with CompilerHold._lock:
            CompilerHold._open.remove(self._everything)
            self._update()

    @staticmethod
    def _update() -> None:
        """Let the compiler do what the open contexts ask for."""
        held = CompilerHold._open
        name = ("force_eager" if any(held) else "eager_on_recompile") if held else None
        if name == CompilerHold._name:
            return
        if CompilerHold._stance is not None:
            CompilerHold._stance.__exit__(None, None, None)
        can = name is not None and "torch._dynamo" in sys.modules  # else nothing can be compiled
        CompilerHold._stance = _stopped(name) if can else None
        CompilerHold._name = name


def _stopped(name: str | None) -> Any:
    """The compiler stopped; None if the caller calls us from code that it traces, or has chosen what it does.

    What has to be right in any case, "force_eager", takes precedence over what the caller has chosen.
    """
    set_stance: Any = getattr(torch.compiler, "set_stance", None)  # from torch 2.6 on
    if set_stance is None:
        return None
    try:
        stance = set_stance(name)
    except RuntimeError:
        return None
    if name != "force_eager" and getattr(stance.prev, "stance", "default") != "default":
        stance.__exit__(None, None, None)
        return None
    return stance


def check_hooks_are_called(pipeline: Any, what: str) -> None:
    """Raise for a compiled transformer whose compiled code cannot be left aside, as :class:`CompilerHold` does.

    Raises
    ------
    UnsupportedBackboneError
        Before torch 2.6.
    """
    if hasattr(torch.compiler, "set_stance"):
        return
    parts = [part for part in vars(pipeline).values() if isinstance(part, nn.Module)]
    if any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for part in parts
        for module in part.modules()
    ):
        raise UnsupportedBackboneError(
            f"{what} work by hooks, which a transformer that was compiled before does not call, and torch "
            f"{torch.__version__} cannot leave compiled code aside. Use torch 2.6 or later, or a transformer that is "
            "not compiled."
        )


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
