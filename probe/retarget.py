"""Attention modules that run with other attention functions while a context is open, and nothing else changed.

Rotary embedding happens inside diffusers' attention processors, so the only place where the final queries and keys
exist is the call of the attention function itself. Each chosen module gets a copy of its own processor whose
``__call__`` is the *same code object* run with other globals, in which the names of the attention functions lead to
replacements that know the layer. Nothing global is patched, and leaving the context puts the original objects back.
"""

from __future__ import annotations

import copy
import itertools
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, cast

from torch import nn

from store.errors import UnsupportedBackboneError

_DISPATCH = "dispatch_attention_fn"  # diffusers' own dispatcher: (batch, token, head, channel)
_SDPA = "scaled_dot_product_attention"  # torch's: (batch, head, token, channel)
_serial = itertools.count()

Replace = Callable[[int, Callable[..., Any], bool], Callable[..., Any]]
"""From a layer, its attention function, and whether heads come before tokens, to what is called instead."""


class RetargetedAttention:
    """A context manager in which the attention functions of chosen modules are replaced; close in the opposite order.

    Parameters
    ----------
    modules : mapping from layer number to diffusers attention module
    replace : callable
        Makes the replacement of each attention function, see :data:`Replace`.

    Raises
    ------
    UnsupportedBackboneError
        On entering, when a module's processor calls no attention function.

    Examples
    --------
    >>> import torch
    >>> from diffusers.models.attention_processor import Attention, AttnProcessor2_0
    >>> module = Attention(query_dim=8, heads=2, dim_head=4, processor=AttnProcessor2_0(), bias=False, out_bias=False)
    >>> def silenced(layer, attend, heads_first):
    ...     return lambda query, key, value, *args, **kwargs: torch.zeros_like(query)
    >>> with RetargetedAttention({0: module}, silenced):
    ...     print(module(torch.ones(1, 105, 8)).abs().max().item())
    0.0
    """

    def __init__(self, modules: Mapping[int, nn.Module], replace: Replace) -> None:
        self._modules = dict(modules)
        self._replace = replace
        self._originals: list[tuple[nn.Module, Any]] = []
        self._registered: list[str] = []

    def __enter__(self) -> Self:
        try:
            for layer, module in self._modules.items():
                self._install(layer, module)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._remove()

    def _install(self, layer: int, module: nn.Module) -> None:
        original: Any = module.processor
        check_multiplies(module, f"layer {layer}")
        name = f"probe._retargeted_{next(_serial)}"
        replaced = _retarget(original, name, lambda attend, heads_first: self._replace(layer, attend, heads_first))
        self._registered.append(name)
        self._originals.append((module, original))
        module.processor = replaced

    def _remove(self) -> None:
        for module, original in reversed(self._originals):
            module.processor = original
        for name in self._registered:
            sys.modules.pop(name, None)
        self._originals.clear()
        self._registered.clear()


def check_multiplies(module: nn.Module, name: str) -> None:
    """Refuse an attention module whose processor never multiplies queries and keys.

    Raises
    ------
    UnsupportedBackboneError
    """
    processor = type(module.processor)
    function = processor.__call__
    if not isinstance(function, types.FunctionType):
        raise UnsupportedBackboneError(
            f"{name} has the attention processor {processor.__name__}, whose __call__ is no plain Python function and "
            "cannot be tapped. Set a diffusers attention processor on it first."
        )
    if not _attention_names(function):
        raise UnsupportedBackboneError(
            f"{name} has the attention processor {processor.__name__}, which never multiplies queries and keys: it "
            f"calls neither {_SDPA} nor {_DISPATCH}. Its attention is linear (or otherwise without a softmax over "
            "keys), so there is no attention to probe."
        )


def _attention_names(function: types.FunctionType) -> set[str]:
    """The global names through which a processor's ``__call__`` reaches an attention function."""
    used = set(_names(function.__code__))
    found = used & {_DISPATCH, _SDPA} & set(function.__globals__)
    if _SDPA in used:
        found |= {name for name in used if hasattr(function.__globals__.get(name), _SDPA)}
    return found


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _retarget(processor: Any, name: str, replace: Callable[[Callable[..., Any], bool], Any]) -> Any:
    """A copy of a processor that runs the same code with the attention functions replaced."""
    function = cast(types.FunctionType, type(processor).__call__)
    # A real, registered module: the compiler looks the globals of a frame up in sys.modules by their __name__.
    module = types.ModuleType(name)
    module.__dict__.update(function.__globals__, __name__=name)
    for target in _attention_names(function):
        module.__dict__[target] = _replaced(module.__dict__[target], target, replace)
    sys.modules[name] = module
    call = types.FunctionType(
        function.__code__, module.__dict__, function.__name__, function.__defaults__, function.__closure__
    )
    call.__kwdefaults__ = function.__kwdefaults__
    call.__annotations__ = function.__annotations__
    copied = copy.copy(processor)
    kind = type(processor)
    copied.__class__ = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
    return copied


def _replaced(target: Any, name: str, replace: Callable[[Callable[..., Any], bool], Any]) -> Any:
    """What a processor finds under the name of an attention function, or of the module that holds it."""
    if name in (_DISPATCH, _SDPA):
        return replace(target, name == _SDPA)
    # torch.nn.functional (usually as F): a stand-in module that differs in one function
    stand_in = types.ModuleType(target.__name__)
    stand_in.__dict__.update(vars(target))
    setattr(stand_in, _SDPA, replace(getattr(target, _SDPA), True))
    return stand_in
