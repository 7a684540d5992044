"""Places of an attention function in a module: in a processor, in the module's forward, or held as an attribute."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

from torch import nn

from probe.attention.functions import DISPATCH, SDPA, AttentionFunction, Replace
from store.errors import UnsupportedBackboneError

_FUNCTIONS = (AttentionFunction(DISPATCH, heads_first=False), AttentionFunction(SDPA, heads_first=True))


class AttentionSite(Protocol):
    """The place in an attention module that holds the code which calls an attention function."""

    def held(self, module: Any) -> Any:
        """Return what is there now."""

    def put(self, module: Any, held: Any) -> None:
        """Put something there that :meth:`held` or :meth:`retargeted` returned."""

    def retargeted(self, module: Any, held: Any, name: str, replace: Replace) -> Any:
        """Return a copy of what is there whose attention function is replaced.

        Parameters
        ----------
        module : attention module
        held : from :meth:`held` or an earlier call
        name : str
            Under which the globals of copied code may be kept in ``sys.modules``.
        replace : callable
        """

    def check(self, module: Any, name: str) -> None:
        """Raise for a module without an attention function there.

        Raises
        ------
        UnsupportedBackboneError
        """


@dataclass(frozen=True)
class ProcessorSite:
    """The processor of an attention module of diffusers, ``module.processor``.

    Examples
    --------
    >>> from diffusers.models.attention_processor import Attention, AttnProcessor2_0
    >>> module = Attention(query_dim=8, heads=2, dim_head=4, processor=AttnProcessor2_0())
    >>> ProcessorSite().held(module) is module.processor
    True
    """

    def held(self, module: Any) -> Any:
        """Return the processor."""
        return module.processor

    def put(self, module: Any, held: Any) -> None:
        """Set the processor."""
        module.processor = held

    def retargeted(self, module: Any, held: Any, name: str, replace: Replace) -> Any:
        """Return a copy of a processor that runs the same code with the attention functions replaced."""
        function = cast(types.FunctionType, type(held).__call__)
        copied, kind = copy.copy(held), type(held)
        call = _with_globals(function, name, _FUNCTIONS, replace)
        copied.__class__ = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
        return copied

    def check(self, module: Any, name: str) -> None:
        """Raise for a module without a processor that multiplies queries and keys."""
        if not hasattr(module, "processor"):
            raise UnsupportedBackboneError(
                f"{name} is a {type(module).__name__} without a processor, so it is not an attention module of "
                "diffusers. State where it attends: AttentionTap(..., site=...), or attention_site of its family "
                "(docs/extending/transformer.md)."
            )
        processor = type(module.processor)
        function = processor.__call__
        if not isinstance(function, types.FunctionType):
            raise UnsupportedBackboneError(
                f"{name} has the attention processor {processor.__name__}, whose __call__ is not a plain Python "
                "function and cannot be tapped. Set a diffusers attention processor on it first."
            )
        if not _used(function, _FUNCTIONS):
            raise UnsupportedBackboneError(
                f"{name} has the attention processor {processor.__name__}, which never multiplies queries and keys: it "
                f"calls neither {SDPA} nor {DISPATCH}. Its attention is linear (or otherwise without a softmax over "
                "keys), so there is no attention to probe."
            )


@dataclass(frozen=True)
class ForwardSite:
    """A method of the attention module that calls an attention function by its global name.

    Parameters
    ----------
    *functions : AttentionFunction
        Those that it calls; torch's ``scaled_dot_product_attention`` where none is given.
    method : str
        ``forward`` by default.

    Examples
    --------
    >>> ForwardSite(AttentionFunction("flash_attention", heads_first=False, operands=("q", "k", "v")))
    ForwardSite(flash_attention in forward)
    """

    functions: tuple[AttentionFunction, ...]
    method: str

    def __init__(self, *functions: AttentionFunction, method: str = "forward") -> None:
        object.__setattr__(self, "functions", functions or _FUNCTIONS[1:])
        object.__setattr__(self, "method", method)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(each.name for each in self.functions)} in {self.method})"

    def held(self, module: Any) -> Any:
        """Return the module's own method; None if it is that of its class."""
        return vars(module).get(self.method)

    def put(self, module: Any, held: Any) -> None:
        """Set a method of the module's own, or go back to that of its class."""
        _set_own(module, self.method, held)

    def retargeted(self, module: Any, held: Any, name: str, replace: Replace) -> Any:
        """Return a bound method that runs the same code with the attention functions replaced."""
        function = self._function(module) if held is None else held.__func__
        return types.MethodType(_with_globals(function, name, self.functions, replace), module)

    def check(self, module: Any, name: str) -> None:
        """Raise for a module whose method calls none of the functions, or is not plain Python."""
        where, own = f"{name} ({type(module).__name__}.{self.method})", self.held(module)
        if own is not None and not isinstance(own, types.MethodType):
            raise UnsupportedBackboneError(f"{where} was replaced by a {type(own).__name__}, which cannot be tapped.")
        function = self._function(module) if own is None else own.__func__
        if not isinstance(function, types.FunctionType) or hasattr(function, "__wrapped__"):
            raise UnsupportedBackboneError(
                f"{where} is decorated or not a plain Python function, and cannot be tapped."
            )
        for used, target in (found := _used(function, self.functions)).values():
            used.check(getattr(target, used.name, target), where)
        if not found:
            names = ", ".join(each.name for each in self.functions)
            raise UnsupportedBackboneError(
                f"{where} does not call {names}, which its family declares as its attention."
            )

    def _function(self, module: Any) -> Any:
        return getattr(type(module), self.method, None)


@dataclass(frozen=True)
class AttributeSite:
    """An attention function that is itself an attribute or a method of the attention module.

    Parameters
    ----------
    function : AttentionFunction
        Its ``name`` is that of the attribute.

    Examples
    --------
    >>> AttributeSite(AttentionFunction("core_attention", heads_first=False, operands=("q", "k", "v"), scale=None))
    AttributeSite(function=AttentionFunction(core_attention))
    """

    function: AttentionFunction

    def held(self, module: Any) -> Any:
        """Return the module's own attribute; None if it is a method of its class."""
        return vars(module).get(self.function.name)

    def put(self, module: Any, held: Any) -> None:
        """Set an attribute of the module's own, or go back to the method of its class."""
        _set_own(module, self.function.name, held)

    def retargeted(self, module: Any, held: Any, name: str, replace: Replace) -> Any:
        """Return a function that is called in place of the attribute."""
        return self.function.replaced(self._method(module) if held is None else held, replace)

    def check(self, module: Any, name: str) -> None:
        """Raise for a module without such a function."""
        own = self.held(module)
        self.function.check(self._method(module) if own is None else own, f"{name} ({type(module).__name__})")

    def _method(self, module: Any) -> Any:
        method = getattr(type(module), self.function.name, None)
        return method.__get__(module) if method is not None else None


def _set_own(module: nn.Module, name: str, value: Any) -> None:
    if value is None:
        vars(module).pop(name, None)
    else:
        vars(module)[name] = value


def _with_globals(
    function: types.FunctionType, name: str, functions: tuple[AttentionFunction, ...], replace: Replace
) -> types.FunctionType:
    """The same code with globals in which the attention functions are replaced."""
    # A real, registered module: the compiler looks the globals of a frame up in sys.modules by their __name__.
    module = types.ModuleType(name)
    module.__dict__.update(function.__globals__, __name__=name)
    for found, (used, target) in _used(function, functions).items():
        module.__dict__[found] = _stand_in(found, used, target, replace)
    sys.modules[name] = module
    copied = types.FunctionType(
        function.__code__, module.__dict__, function.__name__, function.__defaults__, function.__closure__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    copied.__annotations__ = function.__annotations__
    return copied


def _used(
    function: types.FunctionType, functions: tuple[AttentionFunction, ...]
) -> dict[str, tuple[AttentionFunction, Any]]:
    """Global names through which a function reaches an attention function: its own, or that of a module with it."""
    names, found = set(_names(function.__code__)), {}
    for used in functions:
        if used.name not in names:
            continue
        for name in names & set(function.__globals__):
            target = function.__globals__[name]
            if name == used.name or (isinstance(target, types.ModuleType) and hasattr(target, used.name)):
                found[name] = (used, target)
    return found


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _stand_in(found: str, used: AttentionFunction, target: Any, replace: Replace) -> Any:
    """Stand-in that code finds under a name: the attention function replaced, or a module that differs in it."""
    if found == used.name:
        return used.replaced(target, replace)
    module = types.ModuleType(target.__name__)  # torch.nn.functional, usually as F
    module.__dict__.update(vars(target))
    setattr(module, used.name, used.replaced(getattr(target, used.name), replace))
    return module
